"""DC-Solver's scheduler beside diffusers' UniPC: overhead of a step; and the cost of a spiking denoiser by NFE and T.

The gate: without ratios both give the same sample. Needs diffusers, so it runs in Ranvier's own environment:
`python -m benchmarks.diffusion`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from benchmarks.timing import in_turn, store
from ranvier import measure
from ranvier.diffusion import DCSolverMultistepScheduler, generate, sample_ode
from ranvier.models import create_model

SHAPES = ((1, 4, 64, 64), (8, 4, 64, 64), (4, 3, 256, 256))
STEPS = 10
BASE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "final_sigmas_type": "sigma_min"}
RATIOS = [1.0, 1.0, *[1.1] * (STEPS - 2)]


def loop(scheduler: Any, x: Tensor, out: Tensor) -> Callable[[], Tensor]:
    """All steps with a network that costs nothing."""

    def run() -> Tensor:
        scheduler.set_timesteps(STEPS)
        sample = x
        for t in scheduler.timesteps:
            sample = scheduler.step(out, t, sample).prev_sample
        return sample

    return run


def overhead(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    x, out = torch.randn(shape), torch.randn(shape)
    plain = DCSolverMultistepScheduler(**BASE)
    plain.set_timesteps(STEPS)
    grid, options = plain.grid(), plain.solver_options()
    contenders = {
        "diffusers UniPC": loop(UniPCMultistepScheduler(**BASE), x, out),
        "ranvier, all 1": loop(DCSolverMultistepScheduler(**BASE), x, out),
        "ranvier, DC": loop(DCSolverMultistepScheduler(**BASE, compensation_ratios=RATIOS), x, out),
        "sample_ode, DC": lambda: sample_ode(lambda sample, t: out, x, grid, ratios=RATIOS, **options),
    }
    wanted, found = contenders["diffusers UniPC"](), contenders["ranvier, all 1"]()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    times, _ = in_turn(contenders, rounds, time.process_time)
    row = {name: round(t * 1e6 / STEPS, 1) for name, t in times.items()}
    print(f"{shape!s:18} " + " | ".join(f"{name} {us:8.1f} us a step" for name, us in row.items()), flush=True)
    return {"shape": list(shape), "us_a_step": row, "ratio": round(row["diffusers UniPC"] / row["ranvier, DC"], 2)}


def pareto(rounds: int) -> list[dict[str, Any]]:
    """Processor time and energy (as built) of an image by NFE and T; weights are untrained: only the cost counts."""
    rows: list[dict[str, Any]] = []
    for steps in (1, 2, 4, 8):
        torch.manual_seed(0)
        net = create_model("spiking_unet_small", img_size=8, channels=16, T=steps)
        for _ in range(3):
            net(torch.randn(32, 1, 8, 8), torch.rand(32) * 999)
        net.eval()
        contenders = {str(nfe): partial(generate, net, 16, nfe) for nfe in (5, 10, 50)}
        times, _ = in_turn(contenders, rounds, time.process_time)
        energy = measure.energy.as_built(measure.count(net, torch.randn(4, 1, 8, 8))).total_pj
        for nfe in (5, 10, 50):
            rows.append({
                "T": steps, "nfe": nfe, "ms_an_image": round(times[str(nfe)] * 1e3 / 16, 2),
                "sweeps": steps * nfe, "uj_an_image": round(energy * nfe * 1e-6, 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)
    rows = {"overhead": [overhead(shape, rounds) for shape in SHAPES], "pareto": pareto(max(3, rounds // 7))}
    print(f"stored in benchmarks/results/{store('diffusion', 'python -m benchmarks.diffusion', rows).name}")


if __name__ == "__main__":
    main()
