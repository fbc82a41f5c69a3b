"""LIF, forward + backward, beside SpikingJelly and snnTorch in one process.

tau 2, hard reset to 0, arctangent surrogate (alpha 2), reset detached. No time is printed for a peer whose spike
trains or gradients differ from ours on the benchmark's own input.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numba
import torch
from numba import njit, prange
from torch import Tensor

from benchmarks.timing import in_turn, store
from ranvier.neurons import LIF

ONE_THREAD = [(500, 16, 512)]
TWO_THREADS = [(4, 64, 65536), (16, 64, 8192), (100, 256, 256)]
Run = Callable[[Tensor], Tensor]


def spikingjelly() -> Run:
    from spikingjelly.activation_based import neuron, surrogate  # pyright: ignore[reportMissingImports]

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")

    def run(x: Tensor) -> Tensor:
        node.reset()
        return node(x)

    return run


def snntorch() -> Run:
    import snntorch  # pyright: ignore[reportMissingImports]
    from snntorch import surrogate  # pyright: ignore[reportMissingImports]

    leaky = snntorch.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0), reset_mechanism="zero")

    def run(x: Tensor) -> Tensor:
        membrane, spikes = leaky.reset_mem(), []
        for x_t in x.unbind(0):
            s, membrane = leaky(x_t, membrane)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def agree(name: str, peer: Run, ours: Run, shape: tuple[int, ...]) -> None:
    """The gate: equal spike trains, gradients within 1e-5 (relative to the largest)."""
    x = torch.randn(shape[0], min(shape[1], 16), min(shape[2], 512), generator=torch.Generator().manual_seed(1)) * 2
    outcomes = []
    for run in (peer, ours):
        x = x.detach().requires_grad_()
        spikes = run(x)
        upstream = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2))
        outcomes.append((spikes.detach(), torch.autograd.grad(spikes, x, upstream)[0]))
    (s1, g1), (s2, g2) = outcomes
    if not torch.equal(s1, s2):
        sys.exit(f"{name}: {int((s1 != s2).sum())} of {s1.numel()} spikes differ from ours; no time is printed")
    if (g1 - g2).abs().max() > 1e-5 * g1.abs().max():
        sys.exit(f"{name}: gradients differ from ours by {(g1 - g2).abs().max():.2e}; no time is printed")


def step(run: Run, x: Tensor, upstream: Tensor) -> Callable[[], None]:
    def once() -> None:
        run(x).backward(upstream)
        x.grad = None

    return once


@njit(parallel=True, cache=True)
def _floor(x: Any, upstream: Any, spikes: Any, gradient: Any) -> None:
    """Traffic that no implementation avoids: read x, write spikes; read x and g, write a gradient."""
    for i in prange(x.size):
        spikes[i] = x[i]
    for i in prange(x.size):
        gradient[i] = x[i] + upstream[i]


def floor(x: Tensor, upstream: Tensor) -> Callable[[], None]:
    """The same memory traffic with no arithmetic to speak of, into memory that is already there."""
    spikes, gradient = torch.empty_like(x), torch.empty_like(x)
    arrays = [t.detach().numpy().reshape(-1) for t in (x, upstream, spikes, gradient)]
    return lambda: _floor(*arrays)


def measure(shape: tuple[int, ...], threads: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    plain = LIF(decay_input=False, surrogate="atan")
    sj, snn, ours = spikingjelly(), snntorch(), LIF(surrogate="atan")
    agree("SpikingJelly", sj, ours, shape)
    agree("snnTorch", snn, plain, shape)
    x = torch.randn(shape, requires_grad=True)
    upstream, target = torch.randn(shape), torch.empty(shape)
    contenders: dict[str, Callable[[], Any]] = {
        "ranvier": step(ours, x, upstream),
        "SpikingJelly 2.0.0": step(sj, x, upstream),
        "snnTorch 1.0.0": step(snn, x, upstream),
        "floor (same traffic, no dynamics)": floor(x, upstream),
        "copy_ (reused memory)": lambda: target.copy_(upstream),
        "clone (fresh memory)": lambda: upstream.clone(),
    }
    times, first = in_turn(contenders, rounds, clock)
    base = times["ranvier"]
    # Forward reads x and writes spikes; backward reads x and the upstream gradient and writes the gradient of x.
    passes = 5 / 2
    row = {
        "shape": list(shape),
        "threads": threads,
        "clock": "CPU" if threads == 1 else "wall",
        "ms": {name: round(t * 1e3, 2) for name, t in times.items()},
        "first_call_s": round(first["ranvier"], 3),
        "ratio_spikingjelly": round(times["SpikingJelly 2.0.0"] / base, 1),
        "ratio_snntorch": round(times["snnTorch 1.0.0"] / base, 1),
        "over_floor": round(base / times["floor (same traffic, no dynamics)"], 2),
        "floor_snntorch": round(times["snnTorch 1.0.0"] / times["floor (same traffic, no dynamics)"], 1),
        "copies_reused": round(base / (passes * times["copy_ (reused memory)"]), 2),
        "copies_fresh": round(base / (passes * times["clone (fresh memory)"]), 2),
    }
    print(
        f"{shape!s:18} {threads} thread(s): ranvier {base * 1e3:8.1f} ms | "
        f"SpikingJelly {row['ratio_spikingjelly']:6.1f}x | snnTorch {row['ratio_snntorch']:6.1f}x | "
        f"{row['copies_reused']:.2f} copies of the bytes moved ({row['copies_fresh']:.2f} into fresh memory) | "
        f"{row['over_floor']:.2f} floors (one floor: {row['floor_snntorch']:.1f}x snnTorch) | "
        f"first call {row['first_call_s']:.2f} s",
        flush=True,
    )
    return row


def linear_in_time(rounds: int) -> list[dict[str, Any]]:
    """Time of backward by T. A small problem lies in the cache from the last round, a large one does not, and the step
    from one to the other is no property of the algorithm; so the cache is emptied before each round, and the times
    without that stand beside it."""
    torch.set_num_threads(1)
    flush = torch.ones(64 * 2**20)  # 256 MB: larger than the caches
    rows = []
    for steps in (128, 256, 512, 1024):
        x, upstream = torch.randn(steps, 16, 512, requires_grad=True), torch.randn(steps, 16, 512)
        spikes = LIF(surrogate="atan")(x)
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds * 3):
            for cold in (True, False):
                if cold:
                    flush.add_(1.0)
                start = time.process_time()
                spikes.backward(upstream, retain_graph=True)
                times[cold].append(time.process_time() - start)
                x.grad = None
        cold_ms, warm_ms = (statistics.median(times[cold]) * 1e3 for cold in (True, False))
        rows.append({"T": steps, "backward_ms": round(cold_ms, 2), "backward_warm_ms": round(warm_ms, 2)})
    for a, b in pairwise(rows):
        b["over_half_T"] = round(b["backward_ms"] / a["backward_ms"], 2)
        b["over_half_T_warm"] = round(b["backward_warm_ms"] / a["backward_warm_ms"], 2)
        print(
            f"backward T={b['T']}: {b['backward_ms']} ms, {b['over_half_T']}x of T={a['T']} "
            f"(cache not emptied: {b['backward_warm_ms']} ms, {b['over_half_T_warm']}x)",
            flush=True,
        )
    return rows


def compile_time() -> list[dict[str, Any]]:
    rows = []
    for steps in (4, 64, 512):
        torch._dynamo.reset()
        net = torch.nn.Sequential(torch.nn.Linear(64, 64), LIF())
        compiled = torch.compile(net, fullgraph=True, dynamic=False)
        x = torch.randn(steps, 8, 64)
        start = time.perf_counter()
        compiled(x).sum().backward()
        rows.append({"T": steps, "compile_s": round(time.perf_counter() - start, 2)})
        print(f"torch.compile (linear + LIF, forward + backward) T={steps}: {rows[-1]['compile_s']} s", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--name", default="lif", help="results are stored under this name")
    given = parser.parse_args()
    rounds, name = given.rounds, given.name
    rows = {
        "one_thread": [measure(shape, 1, rounds) for shape in ONE_THREAD],
        "two_threads": [measure(shape, 2, rounds) for shape in TWO_THREADS],
        "linear_in_time": linear_in_time(rounds),
        "compile": compile_time(),
    }
    print(f"stored in benchmarks/results/{store(name, 'python -m benchmarks lif', rows).name}")


if __name__ == "__main__":
    main()
