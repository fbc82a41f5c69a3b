"""What packing saves: a batch of sequences of different lengths, packed, padded, and one sequence after the other.

Forward + backward, one thread, CPU time, contenders in turn. A net without batch norm, so that all three compute the
same; no time is printed where outputs or gradients differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ranvier
from benchmarks.timing import in_turn, store
from ranvier.neurons import ALIF, LIF

INPUTS, HIDDEN, CLASSES, BATCH, LONGEST = 140, 256, 20, 64, 500
Outcome = list[Tensor]


def lengths_of(share: float) -> Tensor:
    """Lengths whose mean is about `share` of the longest: uniform around it, one sequence of full length."""
    generator = torch.Generator().manual_seed(0)
    low = max(2 * share - 1, 0.02) * LONGEST
    high = 2 * share * LONGEST - low
    lengths = (low + (high - low) * torch.rand(BATCH, generator=generator)).long().clamp(1, LONGEST)
    lengths[0] = LONGEST
    return lengths


def nets() -> dict[str, tuple[nn.Module, int]]:
    net = nn.Sequential(
        nn.Linear(INPUTS, HIDDEN), LIF(surrogate="atan"), nn.Linear(HIDDEN, HIDDEN), LIF(surrogate="atan"),
        nn.Linear(HIDDEN, CLASSES),
    )  # fmt: skip
    return {"LIF": (LIF(surrogate="atan"), HIDDEN), "ALIF": (ALIF(), HIDDEN), "two layers and a readout": (net, INPUTS)}


def runs(net: nn.Module, padded: Tensor, lengths: Tensor) -> dict[str, Callable[[], Outcome]]:
    """The mean output of every sequence and the gradients, in three ways."""
    sequences = [padded[:n, i] for i, n in enumerate(lengths.tolist())]
    valid = (torch.arange(LONGEST)[:, None] < lengths).to(padded.dtype)[..., None]

    def gradients(outputs: Tensor, leaves: list[Tensor]) -> Outcome:
        found = torch.autograd.grad(outputs.square().sum(), [*leaves, *net.parameters()])
        return [outputs.detach(), *found]

    def packed() -> Outcome:
        batch = ranvier.pack(padded, lengths)
        batch.data.requires_grad_()
        outcome = gradients(batch.through(net).mean(), [batch.data])
        return [outcome[0], *outcome[2:]]

    def pads() -> Outcome:
        x = padded.detach().requires_grad_()
        out = (net(x) * valid).sum(0) / lengths[:, None]
        outcome = gradients(out, [x])
        return [outcome[0], *outcome[2:]]

    def one_by_one() -> Outcome:
        leaves = [s.detach().requires_grad_() for s in sequences]
        out = torch.stack([net(s.unsqueeze(1)).mean(0)[0] for s in leaves])
        outcome = gradients(out, leaves)
        return [outcome[0], *outcome[1 + len(leaves) :]]

    return {"packed": packed, "padded": pads, "one by one": one_by_one}


def agree(name: str, contenders: dict[str, Callable[[], Outcome]]) -> None:
    want = contenders["one by one"]()
    for way in ("packed", "padded"):
        for a, b in zip(contenders[way](), want, strict=True):
            if (a - b).abs().max() > 1e-4 * (1 + b.abs().max()):
                sys.exit(f"{name}: {way} differs from one by one by {(a - b).abs().max():.2e}; no time is printed")


def measure(name: str, net: nn.Module, inputs: int, share: float, rounds: int) -> dict[str, Any]:
    lengths = lengths_of(share)
    padded = torch.randn(LONGEST, BATCH, inputs, generator=torch.Generator().manual_seed(1)) * 2
    contenders = runs(net, padded, lengths)
    agree(name, contenders)
    times, _ = in_turn(contenders, rounds, time.process_time)
    filled = lengths.sum().item() / (BATCH * LONGEST)
    row = {
        "net": name, "steps": LONGEST, "batch": BATCH, "valid_share": round(filled, 3),
        "ms": {k: round(t * 1e3, 1) for k, t in times.items()},
        "packed_over_padded": round(times["packed"] / times["padded"], 3),
        "one_by_one_over_packed": round(times["one by one"] / times["packed"], 2),
    }  # fmt: skip
    print(
        f"{name:24} {filled:4.0%} of the steps are valid: packed {times['packed'] * 1e3:7.1f} ms = "
        f"{row['packed_over_padded']:.2f} of padded; one by one {row['one_by_one_over_packed']:.1f}x packed",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [
        measure(name, net, inputs, share, rounds)
        for name, (net, inputs) in nets().items()
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    print(f"stored in benchmarks/results/{store('packed', 'python -m benchmarks packed', rows).name}")


if __name__ == "__main__":
    main()
