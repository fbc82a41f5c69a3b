"""Learned delays beside the DCLS package: a training step of one layer, inference at whole delays, and a stream's step.

Each library gets its input in its own layout (ours time first, DCLS's time last and padded already), and both build the
kernels of their synapses, convolve, and go back to gradients of weights, positions and input. No time is printed for a
shape whose outputs or gradients differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import ranvier
from benchmarks.timing import in_turn, store
from ranvier.layers import DelayLinear, EventQueue, SynapseTable
from ranvier.models import create_model

# steps, samples, inputs, outputs, taps
TRAINING = [
    (100, 32, 140, 256, 25), (100, 32, 256, 256, 25), (100, 32, 256, 256, 30), (100, 32, 512, 512, 25),
    (100, 32, 512, 512, 30), (100, 128, 256, 256, 25), (100, 4, 256, 256, 25), (100, 1, 256, 256, 25),
    (100, 32, 256, 20, 25), (100, 32, 256, 256, 5), (250, 32, 256, 256, 61),
]  # fmt: skip
INFERENCE = [(100, 1, 256, 256, 25), (100, 32, 256, 256, 25), (100, 32, 512, 512, 30)]
RATES = (0.01, 0.05, 0.2, 1.0)


def pair(inputs: int, outputs: int, taps: int) -> tuple[DelayLinear, Any]:
    """Our layer and DCLS's with the same parameters."""
    from DCLS.construct.modules import Dcls1d  # pyright: ignore[reportMissingImports]

    ours = DelayLinear(inputs, outputs, taps - 1)
    theirs = Dcls1d(inputs, outputs, 1, dilated_kernel_size=taps, bias=False, version="gauss")
    ours.sigma.fill_(2.0)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.P.copy_((taps - 1) - ours.delay.unsqueeze(0) - taps // 2)
        theirs.SIG.fill_(2.0).requires_grad_(False)
    theirs.SIG.requires_grad_(False)
    return ours, theirs


def training(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    steps, batch, inputs, outputs, taps = shape
    ours, theirs = pair(inputs, outputs, taps)
    x = (torch.rand(steps, batch, inputs) < 0.1).float().requires_grad_()
    padded = F.pad(x.detach().permute(1, 2, 0), (taps - 1, 0)).contiguous().requires_grad_()
    upstream = torch.randn(steps, batch, outputs)
    last = upstream.permute(1, 2, 0).contiguous()

    def our_step(backend: Any) -> Callable[[], tuple[Tensor, ...]]:
        def once() -> tuple[Tensor, ...]:
            ours.backend = backend
            y = ours(x)
            return y, *torch.autograd.grad(y, (x, ours.weight, ours.delay), upstream)

        return once

    def their_step() -> tuple[Tensor, ...]:
        y = theirs(padded)
        return y, *torch.autograd.grad(y, (padded, theirs.weight, theirs.P), last)

    def plain_step() -> tuple[Tensor, ...]:
        """Our kernels, PyTorch's convolution."""
        y = F.conv1d(F.pad(x.permute(1, 2, 0), (taps - 1, 0)), ours.kernel())
        return y, *torch.autograd.grad(y, (x, ours.weight, ours.delay), last)

    y, gx, gw, gd = our_step("auto")()
    y2, gx2, gw2, gp2 = their_step()
    for name, a, b in (
        ("outputs", y, y2.permute(2, 0, 1)), ("input gradients", gx, gx2.permute(2, 0, 1)[taps - 1 :]),
        ("weight gradients", gw, gw2), ("position gradients", gd, -gp2[0]),
    ):  # fmt: skip
        if (a - b).abs().max() > 1e-4 * b.abs().max():
            sys.exit(f"{shape}: {name} differ from DCLS's by {(a - b).abs().max():.1e}; no time is printed")
    contenders: dict[str, Callable[[], Any]] = {
        "ranvier": our_step("auto"), "ranvier direct": our_step("conv"), "ranvier fft": our_step("fft"),
        "our kernel, conv1d": plain_step, "DCLS 0.1.1": their_step,
    }  # fmt: skip
    times, _ = in_turn(contenders, rounds, time.process_time)
    row = {
        "T, B, I, O, K": list(shape), "ms": {name: round(t * 1e3, 1) for name, t in times.items()},
        "ratio_dcls": round(times["DCLS 0.1.1"] / times["ranvier"], 1),
    }  # fmt: skip
    print(f"training {shape!s:26} {row['ms']}  DCLS/ranvier {row['ratio_dcls']}x", flush=True)
    return row


def inference(shape: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    steps, batch, inputs, outputs, taps = shape
    ours, _ = pair(inputs, outputs, taps)
    ours.eval()
    rows: list[dict[str, Any]] = []
    for rate in RATES:
        x = (torch.rand(steps, batch, inputs) < rate).float()

        def with_backend(backend: Any, x: Tensor = x) -> Callable[[], Tensor]:
            def once() -> Tensor:
                ours.backend = backend
                with torch.no_grad():
                    return ours(x)

            return once

        contenders = {name: with_backend(name) for name in ("auto", "gather", "scatter", "conv", "fft")}
        wanted = contenders["conv"]()
        for name, run in contenders.items():
            if (run() - wanted).abs().max() > 1e-4:
                sys.exit(f"{shape}: {name} differs; no time is printed")
        times, _ = in_turn(contenders, rounds, time.process_time)
        row = {
            "T, B, I, O, K": list(shape), "rate": rate, "ms": {name: round(t * 1e3, 2) for name, t in times.items()},
        }  # fmt: skip
        print(f"inference {shape!s:26} rate {rate:4.2f} {row['ms']}", flush=True)
        rows.append(row)
    return rows


def latency(step: Callable[[], Any], count: int = 300) -> dict[str, float]:
    """Median and 99th percentile of a step, in microseconds of wall clock."""
    for _ in range(30):
        step()
    found: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        found.append((time.perf_counter() - start) * 1e6)
    found.sort()
    return {"median_us": round(statistics.median(found), 1), "p99_us": round(found[int(count * 0.99)], 1)}


def streaming() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    x = (torch.rand(1, 1, 256) < 0.05).float()
    ours, _ = pair(256, 256, 25)
    ours.eval()
    for backend in ("auto", "scatter", "gather", "conv"):
        ours.backend = backend
        with torch.no_grad(), ranvier.carry(ours):
            ours(x)
            rows.append({"what": f"layer 256-256, K 25, {backend}", **latency(lambda: ours(x))})
    queue = EventQueue(SynapseTable.from_module(ours))
    rows.append({"what": "layer 256-256, K 25, event queue", **latency(lambda: queue.run(x[0]))})
    for name in ("delay_mlp_shd", "delay_mlp_ssc_3l_2kc"):
        model = create_model(name).eval()
        frame = (torch.rand(1, 1, 140) < 0.05).float()
        with torch.no_grad(), ranvier.carry(model):
            model(frame)
            rows.append({"what": f"model {name}", **latency(lambda m=model, f=frame: m(f))})
    for row in rows:
        print(f"a step of a stream, batch 1: {row['what']:34} {row['median_us']:8.1f} µs, p99 {row['p99_us']:8.1f} µs")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = {
        "streaming": streaming(),
        "training": [training(shape, rounds) for shape in TRAINING],
        "inference": [row for shape in INFERENCE for row in inference(shape, rounds)],
    }
    print(f"stored in benchmarks/results/{store('delays', 'python -m benchmarks delays', rows).name}")


if __name__ == "__main__":
    main()
