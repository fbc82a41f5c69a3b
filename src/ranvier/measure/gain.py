"""Gain-aware initialisation: weights that make every layer fire at a sensible rate from the first batch on.

After the idea of layer-sequential unit-variance initialisation (Mishkin and Matas, ICLR 2016), with the firing rate in
the place of the variance.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.measure.undisturbed import Batch, split_batch, undisturbed
from ranvier.neurons import Neuron

_SCALABLE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.LayerNorm, nn.GroupNorm,
)  # fmt: skip
_LARGEST_GAIN = 1024.0
_HALVINGS = 14


@dataclass(frozen=True)
class LayerGain:
    """What was done for one neuron layer: `scaled` (the module, or None) was multiplied by `gain`.

    `reached`: whether its rate, measured after all layers were set, is in the target range; `note` says why not.
    """

    name: str
    scaled: str | None
    gain: float
    rate_before: float
    rate_after: float
    reached: bool
    note: str = ""


@dataclass(frozen=True)
class GainReport:
    """The result of `calibrate_gain`, layers in the order in which they fire."""

    layers: tuple[LayerGain, ...]
    target: tuple[float, float]

    @property
    def reached(self) -> bool:
        """Whether every layer fires within the target range."""
        return all(layer.reached for layer in self.layers)


def calibrate_gain(
    model: nn.Module, batch: Batch, target: tuple[float, float] = (0.05, 0.3), rounds: int = 3
) -> GainReport:  # fmt: skip
    """Scale weights so that every neuron layer of `model` fires at a rate (share of non-zero outputs) within `target`.

    Layer by layer, in the order in which they fire: a layer outside the range has the last affine module before it
    (normalisation, linear layer or convolution: weight and bias) multiplied by the gain that brings its rate to the
    middle of the range. A layer that only sees other neurons' spikes, or the sum of a shortcut that is out of range by
    itself, may not be reachable; the report says so. Changes those parameters, nothing else (buffers, mode and random
    numbers are put back). Meant for initialisation: before training, in training mode, with a batch of training data.

    Args:
        model: any module with `ranvier` neurons.
        batch: input `x` as the model takes it; of `(x, y)` only x is used.
        target: lowest and highest rate, 0 < low < high < 1.
        rounds: attempts a layer; more than one where a shortcut adds to what is scaled.
    """
    x, _ = split_batch(batch)
    low, high = target
    if not 0 < low < high < 1:
        raise ArgumentError(f"target must be (low, high) with 0 < low < high < 1, got {target!r}")
    if rounds < 1:
        raise ArgumentError(f"rounds must be at least 1, got {rounds!r}")
    if not any(isinstance(module, Neuron) for module in model.modules()):
        raise ArgumentError(f"{type(model).__name__} has no neurons of ranvier.neurons to calibrate")
    with undisturbed(model):
        feeders = _feeders(model, x)
        before = {name: _rate(spikes) for name, (_, spikes) in _record(model, x).items()}
        gains: dict[str, float] = {}
        notes: dict[str, str] = {}
        taken: set[str] = set()
        for name in before:
            feeder = feeders.get(name)
            if feeder is not None and feeder[0] in taken:
                notes[name] = f"{feeder[0]!r} was already scaled for a layer before"
                continue
            gains[name], notes[name] = _set_layer(model, x, name, feeder, low, high, rounds)
            if feeder is not None and gains[name] != 1:
                taken.add(feeder[0])
        after = {name: _rate(spikes) for name, (_, spikes) in _record(model, x).items()}
    rows: list[LayerGain] = []
    for name, rate in after.items():
        gain = gains.get(name, 1.0)
        scaled = feeders[name][0] if gain != 1 and name in feeders else None
        reached = low <= rate <= high
        rows.append(LayerGain(name, scaled, gain, before[name], rate, reached, "" if reached else notes.get(name, "")))
    return GainReport(tuple(rows), (low, high))


def _set_layer(
    model: nn.Module,
    x: Tensor,
    name: str,
    feeder: tuple[str, nn.Module] | None,
    low: float,
    high: float,
    rounds: int,
) -> tuple[float, str]:
    """Bring one layer into the range; the product of the gains applied, and why it may not be enough."""
    total = 1.0
    neuron = model.get_submodule(name)
    assert isinstance(neuron, Neuron)
    for _ in range(rounds):
        current, spikes = _record(model, x, only=name)[name]
        if low <= _rate(spikes) <= high:
            return total, ""
        if feeder is None:
            return total, "no trainable normalisation, linear layer or convolution between it and the neurons before it"
        if not any(bool((c > 0).any()) for c in current):
            return total, "its input is never positive, which no gain changes"
        gain = _best_gain(neuron, current, math.sqrt(low * high))
        with torch.no_grad():
            for parameter in (feeder[1].weight, feeder[1].bias):
                if isinstance(parameter, Tensor):
                    parameter.mul_(gain)
        total *= gain
    return total, "what is scaled is not all that enters it (a shortcut?)"


@torch.no_grad()
def _best_gain(neuron: Neuron, current: list[Tensor], aim: float) -> float:
    """The factor of its input at which the neuron alone fires at the rate `aim`, as far as there is one."""

    def rate(gain: float) -> float:
        return _rate([neuron.scan(c * gain, None, False)[0] for c in current])

    tried = {1.0: rate(1.0)}
    rising = tried[1.0] < aim
    inside, outside = 1.0, 1.0
    while (tried[outside] < aim) == rising and 1 / _LARGEST_GAIN < outside < _LARGEST_GAIN:
        inside, outside = outside, outside * (2 if rising else 0.5)
        tried[outside] = rate(outside)
    for _ in range(_HALVINGS):
        middle = math.sqrt(inside * outside)
        tried[middle] = rate(middle)
        if (tried[middle] < aim) == rising:
            inside = middle
        else:
            outside = middle
    return min(tried, key=lambda gain: abs(tried[gain] - aim))


def _rate(spikes: list[Tensor]) -> float:
    fired = sum(int(torch.count_nonzero(s)) for s in spikes)
    return fired / max(1, sum(s.numel() for s in spikes))


Recorded = dict[str, tuple[list[Tensor], list[Tensor]]]


@contextmanager
def _recording(model: nn.Module, only: str | None = None) -> Iterator[Recorded]:
    recorded: Recorded = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            current, spikes = recorded.setdefault(name, ([], []))
            current.append(inputs[0])
            spikes.append(output)

        return note

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, Neuron) and only in (None, name)
    ]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _record(model: nn.Module, x: Tensor, only: str | None = None) -> Recorded:
    """Input currents and spikes of the neuron layers (of all, or of one) on `x`, in the order in which they fire.

    Every pass sees the same random numbers and starts from the same running statistics.
    """
    with undisturbed(model), _recording(model, only) as recorded:
        model(x)
    return recorded


def _feeders(model: nn.Module, x: Tensor) -> dict[str, tuple[str, nn.Module]]:
    """For every neuron layer the nearest affine module before it, found in the autograd graph of a pass."""
    owner = {
        id(parameter): (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _SCALABLE)
        for parameter in module.parameters(recurse=False)
    }
    found: dict[str, tuple[str, nn.Module]] = {}
    with torch.inference_mode(False), torch.enable_grad(), undisturbed(model), _recording(model) as recorded:
        output = model(x)
    stop = {s.grad_fn for _, spikes in recorded.values() for s in spikes if s.grad_fn is not None}
    for name, (current, _) in recorded.items():
        queue = deque([current[-1].grad_fn])
        known: set[Any] = set(queue)
        while queue and name not in found:
            node: Any = queue.popleft()
            if node is None or node in stop:
                continue
            variable = getattr(node, "variable", None)  # a leaf: the parameter whose gradient it accumulates
            if variable is not None and id(variable) in owner:
                found[name] = owner[id(variable)]
            for after, _ in node.next_functions:
                if after not in known:
                    known.add(after)
                    queue.append(after)
    del output
    return found
