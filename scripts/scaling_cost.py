"""Measure what one training step of the two large recipes costs here, and print the table of `docs/scaling.md`.

    OMP_NUM_THREADS=1 python scripts/scaling_cost.py

A forward and backward pass of the full-size model on a tiny batch: seconds (the second pass) and multiply-adds as
PyTorch counts them in matrix products and convolutions, two operations each. The rest is arithmetic, written out there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ranvier.models import create_model
from ranvier.train import load_recipe


@dataclass(frozen=True)
class Cost:
    """Of one training sample (a token or an image): operations and seconds on one core; of the run: samples."""

    name: str
    unit: str
    parameters: int
    operations: float
    seconds: float
    samples: float


def passes(net: Any, x: Tensor) -> tuple[float, float]:
    """Operations and seconds of a forward and backward pass."""
    counter = FlopCounterMode(display=False)
    with counter:
        net(x).float().square().mean().backward()
    net.zero_grad()
    started = time.perf_counter()
    net(x).float().square().mean().backward()
    return float(counter.get_total_flops()), time.perf_counter() - started


def text() -> Cost:
    """SpikeGPT-216M: 64 tokens."""
    recipe = load_recipe("openwebtext_spike_gpt_216m")
    net: Any = create_model(recipe.model.name, num_classes=50277, **recipe.model.args).train()
    tokens = 64
    operations, seconds = passes(net, torch.randint(50277, (tokens, 1)))
    total = (recipe.train.max_steps or 0) * recipe.data.batch_size * recipe.data.options["length"]
    parameters = sum(p.numel() for p in net.parameters())
    return Cost("SpikeGPT-216M, OpenWebText", "token", parameters, operations / tokens, seconds / tokens, total)


def images() -> Cost:
    """Max-Former-10-384 on ImageNet: one image."""
    recipe = load_recipe("imagenet_max_former_10_384")
    net: Any = create_model(recipe.model.name, num_classes=1000, **recipe.model.args).train()
    operations, seconds = passes(net, torch.rand(1, 3, 224, 224))
    parameters = sum(p.numel() for p in net.parameters())
    return Cost(
        "Max-Former-10-384, ImageNet", "image", parameters, operations, seconds, 1_281_167.0 * recipe.train.epochs
    )  # fmt: skip


def main() -> None:
    """Print the rows."""
    torch.set_num_threads(1)
    for measure in (text, images):
        torch.manual_seed(0)
        c = measure()
        gpu = c.samples * c.operations / (0.2 * 312e12) / 3600
        print(
            f"| {c.name} | {c.parameters / 1e6:.0f} M | {c.samples:.3g} {c.unit}s | {c.operations / 1e9:.3g} G | "
            f"{c.seconds * 1e3:.3g} ms | {c.operations / c.seconds / 1e9:.3g} G/s | "
            f"{c.samples * c.seconds / 3600 / 24 / 365:.3g} years | {gpu:.3g} h |",
            flush=True,
        )


if __name__ == "__main__":
    main()
