"""Eager beside `torch.compile`: a convolutional net and Spikformer, forward + backward, one thread, CPU time.

Outputs and gradients are compared first. The compiled nets are single graphs (`fullgraph=True`) with one node a neuron.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ranvier
from benchmarks.timing import in_turn, store

NETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "spiking_conv_net": ({"in_channels": 3, "img_size": 32, "channels": (32, 64)}, (16, 3, 32, 32)),
    "spikformer_cifar_4_256": ({"img_size": 32, "embed_dim": 64, "depth": 1, "num_heads": 2}, (8, 3, 32, 32)),
}


def step(net: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    def once() -> None:
        net(x).square().mean().backward()

    return once


def agree(name: str, eager: nn.Module, compiled: Any, x: Tensor) -> None:
    outcomes = []
    for net in (eager, compiled):
        eager.zero_grad()
        y = net(x)
        y.square().mean().backward()
        outcomes.append([y.detach(), *(p.grad.clone() for p in eager.parameters() if p.grad is not None)])
    for a, b in zip(*outcomes, strict=True):
        if (a - b).abs().max() > 1e-3 * (a.abs().max() + 1e-6):
            sys.exit(f"{name}: compiled and eager differ by {(a - b).abs().max():.1e}; no time is printed")


def measure(name: str, neuron: str, steps: int, rounds: int) -> dict[str, Any]:
    arguments, shape = NETS[name]
    torch.manual_seed(0)
    torch._dynamo.reset()
    net = ranvier.create_model(name, T=steps, neuron=neuron, **arguments)
    twin = copy.deepcopy(net).eval()  # batch statistics amplify rounding, so agreement is that of evaluation mode
    x = torch.rand(shape)
    compiled = torch.compile(net, fullgraph=True, dynamic=False)
    agree(name, twin, torch.compile(twin, fullgraph=True, dynamic=False), x)
    times, first = in_turn({"eager": step(net, x), "compiled": step(compiled, x)}, rounds, time.process_time)
    row = {
        "net": name, "neuron": neuron, "T": steps, "ms": {k: round(t * 1e3, 1) for k, t in times.items()},
        "first_call_s": round(first["compiled"], 1),
        "eager_over_compiled": round(times["eager"] / times["compiled"], 2),
    }  # fmt: skip
    print(
        f"{name:24} {neuron:5} T={steps:<3} eager {row['ms']['eager']:8.1f} ms | compiled {row['ms']['compiled']:8.1f} "
        f"ms = {row['eager_over_compiled']:.2f}x as fast | first call {row['first_call_s']:.1f} s",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    conv, transformer = NETS
    grid = [(conv, "lif", 4), (conv, "lif", 16), (conv, "alif", 4), (transformer, "lif", 4), (transformer, "lif", 16)]
    rows = [measure(*cell, rounds) for cell in grid]
    print(f"stored in benchmarks/results/{store('compile', 'python -m benchmarks compile', rows).name}")


if __name__ == "__main__":
    main()
