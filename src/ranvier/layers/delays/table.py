"""Synapses as a list, one line each: the common form of a trained delay net, for event-driven engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.delays.linear import DelayLinear
from ranvier.ops.delay import Synapses, rounded


@dataclass(frozen=True)
class SynapseTable:
    """Synapse s leads from neuron `pre[s]` to `post[s]`, takes `delay[s]` and has the weight `weight[s]`.

    Args:
        pre, post: int64 `[S]`.
        delay: `[S]`, whole steps (int64) or real times (floating point), ≥ 0.
        weight: `[S]`.
        inputs, outputs: numbers of neurons; None for what the synapses reach.
        max_delay: longest delay that a buffer has to hold; None for the longest one here.

    Raises `ArgumentError` for a negative or non-finite delay, one beyond `max_delay`, or a neuron that does not exist.
    """

    pre: Tensor
    post: Tensor
    delay: Tensor
    weight: Tensor
    inputs: int = 0
    outputs: int = 0
    max_delay: float | None = None

    def __post_init__(self) -> None:
        columns: dict[str, Any] = {"pre": self.pre, "post": self.post, "delay": self.delay, "weight": self.weight}
        for name, column in columns.items():
            tensor = torch.as_tensor(column).detach()
            if tensor.dim() != 1 or tensor.shape != torch.as_tensor(self.pre).shape:
                raise ShapeError(
                    f"pre, post, delay and weight must be [S] of one length, got {name} of shape {tuple(tensor.shape)}"
                )
            if name in ("pre", "post") or (name == "delay" and not tensor.is_floating_point()):
                if tensor.is_floating_point():
                    raise ArgumentError(f"{name} must be whole neuron numbers, got {tensor.dtype}")
                tensor = tensor.long()
            object.__setattr__(self, name, tensor)
        for name, size in (("pre", "inputs"), ("post", "outputs")):
            numbers: Tensor = getattr(self, name)
            low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, -1)
            count = getattr(self, size) or high + 1
            if low < 0 or high >= count:
                raise ArgumentError(f"{name} must lie in 0 .. {count - 1}, got {low if low < 0 else high}")
            object.__setattr__(self, size, count)
        low, high = (float(self.delay.min()), float(self.delay.max())) if len(self) else (0.0, 0.0)
        limit = high if self.max_delay is None else self.max_delay
        if not (low >= 0 and high <= limit and high < float("inf")):
            raise ArgumentError(f"delays must be finite and lie in 0 .. {limit:g}, got {low:g} .. {high:g}")
        object.__setattr__(self, "max_delay", limit)

    def __len__(self) -> int:
        return len(self.pre)

    @classmethod
    def from_module(cls, layer: DelayLinear) -> SynapseTable:
        """The synapses of a layer at its rounded delays; weights that are zero are left out."""
        with torch.no_grad():
            weight = layer._weight()
            delay = rounded(layer._own_delay(), layer.max_delay).long()
        per_group = layer.in_features // layer.groups
        group = torch.arange(layer.out_features) // (layer.out_features // layer.groups)
        pre = torch.arange(per_group)[None, :, None] + (group * per_group)[:, None, None]
        post = torch.arange(layer.out_features)[:, None, None]
        there = weight != 0
        return cls(
            pre.expand(weight.shape)[there], post.expand(weight.shape)[there], delay[there], weight[there],
            layer.in_features, layer.out_features, layer.max_delay,
        )  # fmt: skip

    @classmethod
    def from_dense(cls, kernel: Tensor, threshold: float = 0.0, topk: int | None = None) -> SynapseTable:
        """A synapse for every tap of `kernel` `[O, I, K]` (tap n carries delay K − 1 − n) whose size exceeds
        `threshold`; with `topk` only so many of the largest."""
        if kernel.dim() != 3:
            raise ShapeError(f"kernel must be [O, I, K], got shape {tuple(kernel.shape)}")
        kernel = kernel.detach()
        outputs, inputs, taps = kernel.shape
        there = kernel.abs() > threshold
        if topk is not None and topk < int(there.sum()):
            least = kernel.abs().flatten().topk(topk).indices
            there = torch.zeros_like(there).flatten().index_fill_(0, least, True).view_as(there)
        post, pre, tap = there.nonzero(as_tuple=True)
        return cls(pre, post, taps - 1 - tap, kernel[there], inputs, outputs, taps - 1)

    def to_dense(self) -> Tensor:
        """The kernel `[O, I, K]` of these synapses (whole delays), K = max_delay + 1."""
        steps = self._whole()
        reach = int(self.max_delay or 0)
        kernel = self.weight.new_zeros((self.outputs, self.inputs, reach + 1))
        return kernel.index_put_((self.post, self.pre, reach - steps), self.weight, accumulate=True)

    def sorted_by_input(self) -> Synapses:
        """The form that `ranvier.ops.delay.scatter` takes (whole delays)."""
        steps, order = self._whole(), torch.argsort(self.pre, stable=True)
        ptr = torch.zeros(self.inputs + 1, dtype=torch.int64)
        ptr[1:] = torch.bincount(self.pre, minlength=self.inputs).cumsum(0)
        return Synapses(
            ptr, self.post[order].int(), steps[order].int(), self.weight[order].contiguous(), self.outputs,
            int(self.max_delay or 0), True,
        )  # fmt: skip

    def _whole(self) -> Tensor:
        if self.delay.is_floating_point():
            steps = self.delay.round()
            if not torch.equal(steps, self.delay):
                raise ArgumentError("delays of this table are real times; only an event queue can run them")
            return steps.long()
        return self.delay
