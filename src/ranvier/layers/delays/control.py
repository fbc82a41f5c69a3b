"""What a training run does to the delays of a whole net: narrow the bumps, keep delays inside, round them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from ranvier.errors import ArgumentError
from ranvier.layers.delays.conv import DelayConv2d
from ranvier.layers.delays.linear import DelayLinear

DelayLayer = DelayLinear | DelayConv2d


def delay_layers(net: nn.Module) -> list[DelayLinear]:
    """Every layer with delays in `net` (of a convolution the linear layer inside it), in order."""
    return [module for module in net.modules() if isinstance(module, DelayLinear)]


class DelayAnnealer:
    """Narrows the bumps of all learned delays of `net` as training goes on.

    σ(e) = start · (end / start)^(e / epochs) until epoch `epochs` ("exp"), or straight from start to end ("linear"),
    then `end`. The published schedule is "exp" from ⌊K/2⌋ to 0.23 over the first quarter of training (a standard
    deviation of 0.5, with the 0.27 that is added). Layers whose delays do not learn are left alone.

    Args:
        start: None for ⌊K/2⌋ of each layer.
        end: σ at the end, > 0.
        epochs: over how many epochs; 0 is at `end` from the first one.
    """

    def __init__(
        self, net: nn.Module, schedule: Literal["exp", "linear"] = "exp", start: float | None = None,
        end: float = 0.23, epochs: int = 1,
    ) -> None:  # fmt: skip
        if schedule not in ("exp", "linear"):
            raise ArgumentError(f"schedule must be 'exp' or 'linear', got {schedule!r}")
        if end <= 0 or (start is not None and start <= 0):
            raise ArgumentError(f"start and end must be positive, got {start!r} and {end!r}")
        if not isinstance(epochs, int) or epochs < 0:
            raise ArgumentError(f"epochs must be an integer >= 0, got {epochs!r}")
        self.net, self.schedule, self.start, self.end, self.epochs = net, schedule, start, end, epochs

    def sigma(self, epoch: float, start: float) -> float:
        """σ of epoch `epoch` (from 0) for a layer that begins at `start`."""
        done = 1.0 if epoch >= self.epochs else epoch / self.epochs
        if self.schedule == "linear":
            return start + (self.end - start) * done
        return start * (self.end / start) ** done

    def step(self, epoch: float) -> None:
        """Set σ of every layer for `epoch`; depends on nothing else, so that a resumed run needs no state."""
        for layer in delay_layers(self.net):
            if layer.learn_delay and layer.interpolation in ("gauss", "max"):
                start = self.start if self.start is not None else max(float(layer.taps // 2), self.end)
                layer.sigma.fill_(self.sigma(epoch, start))


@torch.no_grad()
def clamp_delays_(net: nn.Module) -> None:
    """Put every delay back into its buffer (and missing synapses back to zero); for training loops of your own."""
    for layer in delay_layers(net):
        layer.after_update()


@torch.no_grad()
def round_delays_(net: nn.Module) -> None:
    """Round every delay to whole steps in place."""
    for layer in delay_layers(net):
        layer.delay.copy_(layer.rounded_delay())


def freeze_delays_(net: nn.Module, frozen: bool = True) -> None:
    """Round all delays and train weights only from here on, on the kernels of evaluation (or undo it).

    It closes the gap between the soft kernels of training and the rounded ones of evaluation.
    """
    if frozen:
        round_delays_(net)
    for layer in delay_layers(net):
        layer.frozen = frozen


@contextmanager
def integer_delays(net: nn.Module, integer: bool = True) -> Iterator[nn.Module]:
    """Inside the block every delay is rounded, in training and evaluation alike (or soft in both, with False).

    Nothing is changed: parameters are the same to the bit afterwards.
    """
    layers = delay_layers(net)
    before = [layer.integer for layer in layers]
    for layer in layers:
        layer.integer = integer
    try:
        yield net
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.integer = value


def delay_param_groups(
    net: nn.Module, lr: float = 1e-3, lr_delay: float = 0.1, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: delays (rate `lr_delay` in steps, never decayed), weights, and the rest.

    Weight decay reaches parameters with at least two axes that are not delays.
    """
    delays = {id(layer.delay) for layer in delay_layers(net)}
    trained = [p for p in net.parameters() if p.requires_grad]
    groups = {
        "delays": ([p for p in trained if id(p) in delays], lr_delay, 0.0),
        "weights": ([p for p in trained if id(p) not in delays and p.dim() > 1], lr, weight_decay),
        "others": ([p for p in trained if id(p) not in delays and p.dim() <= 1], lr, 0.0),
    }
    return [
        {"params": params, "lr": rate, "weight_decay": decay, "name": name}
        for name, (params, rate, decay) in groups.items()
        if params
    ]
