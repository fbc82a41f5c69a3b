"""What a kernel generated from the equations costs: LIF as a user would write it, beside the built-in LIF and the loop.

Forward + backward, one thread, CPU time, contenders in turn. No time is printed where spikes or gradients of two
contenders differ. With the peers installed, SpikingJelly's KLIF runs beside ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.lif import agree, step
from benchmarks.timing import in_turn, store
from ranvier.neurons import ALIF, CLIF, EIF, GLIF, KLIF, LIF, CubaLIF, Izhikevich, Neuron
from ranvier.ops.step_scan import explain
from ranvier.state import State

SHAPES = [(500, 16, 512), (16, 64, 8192)]
Run = Callable[[Tensor], Tensor]


class UserLIF(Neuron):
    """LIF's equations, as anybody would write them."""

    def __init__(self, surrogate: str, tau: float = 2.0, threshold: float = 1.0) -> None:
        super().__init__(surrogate)
        self.tau, self.threshold = tau, threshold

    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros_like(like),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        h = v + (x_t - v) / self.tau
        s = self.surrogate(h - self.threshold)
        return s, (h * (1 - s.detach()),)


def loop(neuron: Neuron) -> Run:
    def run(x: Tensor) -> Tensor:
        return neuron.loop(x, neuron.initial_state(x[0]), False)[0]

    return run


def spikingjelly_klif() -> Run | None:
    try:
        from spikingjelly.activation_based import neuron, surrogate  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    node = neuron.KLIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")

    def run(x: Tensor) -> Tensor:
        node.reset()
        return node(x)

    return run


def own_lif(shape: tuple[int, ...], surrogate: str, rounds: int) -> dict[str, Any]:
    built_in, user = LIF(surrogate=surrogate), UserLIF(surrogate)
    if explain(user, torch.zeros(1, *shape[1:])) != "fused":
        sys.exit(f"the user's LIF is not fused: {explain(user)}")
    agree("the user's LIF", user, built_in, shape)
    agree("the loop", loop(user), built_in, shape)
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    contenders = {"built-in": built_in, "generated": user}
    times, first = in_turn({k: step(run, x, upstream) for k, run in contenders.items()}, rounds, time.process_time)
    slow, _ = in_turn({"loop": step(loop(user), x, upstream)}, 1, time.process_time)
    row = {
        "shape": list(shape),
        "surrogate": surrogate,
        "ms": {k: round(t * 1e3, 2) for k, t in (times | slow).items()},
        "generated_over_built_in": round(times["generated"] / times["built-in"], 2),
        "loop_over_generated": round(slow["loop"] / times["generated"], 1),
        "first_call_s": round(first["generated"], 2),
    }
    print(
        f"{shape!s:16} {surrogate:8} {row['ms']['generated']:7.1f} ms | {row['generated_over_built_in']:.2f}x "
        f"the built-in LIF | the loop takes {row['loop_over_generated']:.1f}x as long",
        flush=True,
    )
    return row


def zoo(shape: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    neurons = [KLIF(surrogate="atan"), CLIF(), EIF(), GLIF(), ALIF(), CubaLIF(), Izhikevich()]
    rows: list[dict[str, Any]] = []
    for neuron in neurons:
        name = type(neuron).__name__
        if explain(neuron, torch.zeros(1, *shape[1:])) != "fused":
            print(f"{name}: {explain(neuron)}", flush=True)
            continue
        own = type(neuron).scan is Neuron.scan
        agree(f"{name}'s loop", loop(neuron), lambda x, n=neuron: Neuron.scan(n, x, None, False)[0], shape)
        times, _ = in_turn({"generated": step(neuron, x, upstream)}, rounds, time.process_time)
        slow, _ = in_turn({"loop": step(loop(neuron), x, upstream)}, 1, time.process_time)
        rows.append({
            "neuron": name, "shape": list(shape), "generated_is_used": own,
            "ms": {k: round(t * 1e3, 2) for k, t in (times | slow).items()},
            "loop_over_generated": round(slow["loop"] / times["generated"], 1),
        })  # fmt: skip
        print(
            f"{shape!s:16} {name:12} {times['generated'] * 1e3:7.1f} ms | "
            f"the loop takes {rows[-1]['loop_over_generated']:.1f}x as long",
            flush=True,
        )
    return rows


def klif_beside_spikingjelly(shape: tuple[int, ...], rounds: int) -> dict[str, Any] | None:
    peer = spikingjelly_klif()
    if peer is None:
        return None
    ours = KLIF(surrogate="atan")
    agree("SpikingJelly's KLIF", peer, ours, shape)
    x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    times, _ = in_turn(
        {"ranvier": step(ours, x, upstream), "SpikingJelly": step(peer, x, upstream)}, rounds, time.process_time
    )
    ratio = round(times["SpikingJelly"] / times["ranvier"], 1)
    print(f"{shape!s:16} KLIF {times['ranvier'] * 1e3:7.1f} ms | SpikingJelly {ratio}x", flush=True)
    return {"shape": list(shape), "ms": {k: round(t * 1e3, 2) for k, t in times.items()}, "ratio_spikingjelly": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = {
        "own_lif": [own_lif(shape, surrogate, rounds) for shape in SHAPES for surrogate in ("atan", "sigmoid")],
        "zoo": zoo((500, 16, 512), rounds),
        "klif": [klif_beside_spikingjelly(shape, 5) for shape in SHAPES],
    }
    print(f"stored in benchmarks/results/{store('step_scan', 'python -m benchmarks step_scan', rows).name}")


if __name__ == "__main__":
    main()
