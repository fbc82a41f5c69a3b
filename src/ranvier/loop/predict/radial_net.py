"""The network that senses a part of the circle and predicts the rest: spiking, streaming, circular."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons import build as build_neuron
from ranvier.state import Stateful

CHANNELS = 7
"""Sensed mask, 1/r sensed, hit flag, memory 1/r, memory age/3 s, ring ON count, ring OFF count."""

OUTPUTS = 4
"""Inverse range, log-variance, logit of "occupied within 2 m", inverse range at the next tick."""


class CircularConv1d(nn.Conv1d):
    """A convolution around the circle, no bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False, padding_mode="circular")


class CircularUp1d(nn.ConvTranspose1d):
    """A transposed convolution (kernel 4, stride 2) around the circle: twice as many places."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, bias=False)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        wrapped = F.pad(input, (1, 1), mode="circular")
        return super().forward(wrapped)[..., 3:-3]


class RecurrentSpikes(Stateful):
    """A neuron layer that hears its own last spikes through a circular convolution."""

    def __init__(self, channels: int, kernel: int, neuron: Any) -> None:
        super().__init__()
        self.recurrent = CircularConv1d(channels, channels, kernel)
        self.neuron = build_neuron(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Currents `[T, B, C, L]` to spikes."""
        state = self.recall()
        if state is None:
            spikes, inner = torch.zeros_like(x[0]), self.neuron.initial_state(x[0])
        else:
            fresh = (x[0], *self.neuron.initial_state(x[0]))
            spikes, *rest = self.fits(state, fresh)
            inner = tuple(rest)
        out: list[Tensor] = []
        for x_t in x.unbind(0):
            spikes, inner = self.neuron.step(x_t + self.recurrent(spikes), inner)
            out.append(spikes)
        self.remember((spikes, *inner))
        return torch.stack(out)


class GatedUnits(Stateful):
    """The counterpart of `RecurrentSpikes` without spikes: a GRU with depthwise gates, so that sizes stay alike."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.recurrent = CircularConv1d(channels, channels, kernel)
        self.gates_in = nn.Conv1d(channels, 2 * channels, 1, groups=channels)
        self.gates_own = nn.Conv1d(channels, 2 * channels, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Currents `[T, B, C, L]` to activations."""
        state = self.recall()
        h = torch.zeros_like(x[0]) if state is None else self.fits(state, (x[0],))[0]
        out: list[Tensor] = []
        for x_t in x.unbind(0):
            update, reset = torch.sigmoid(self.gates_in(x_t) + self.gates_own(h)).chunk(2, 1)
            h = (1 - update) * h + update * torch.tanh(x_t + self.recurrent(reset * h))
            out.append(h)
        self.remember((h,))
        return torch.stack(out)


class _Framewise(nn.Module):
    """A convolution and a norm over `[T, B, C, L]`, all steps at once."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])


class RadialNet(nn.Module):
    """Circular encoder-decoder over 120 beams, one step a tick; state is carried over ticks (`ranvier.carry`).

    7→32 k5; 32→64 k5 stride 2; 64→64 k5 and 64→64 k3 on its own last spikes; transposed 64→32 k4 stride 2; 32→4 k1.
    52,836 weights with a neuron that learns nothing; a threshold that learns would repeat what the norm before it does.
    Inverse ranges are residuals to the memory's.

    Args:
        kind: "spiking"; "ann", its twin of rectified units with a GRU in the middle; "hybrid", a spiking encoder with
            a rectified decoder.
        neuron: for the spiking layers; with `{"type": "plif", ...}` each layer learns its leak.
    """

    widths = (32, 64, 64, 32)

    def __init__(
        self, kind: Literal["spiking", "ann", "hybrid"] = "spiking", neuron: str | Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        if kind not in ("spiking", "ann", "hybrid"):
            raise ArgumentError(f"kind must be 'spiking', 'ann' or 'hybrid', got {kind!r}")
        self.kind = kind
        spec = neuron if neuron is not None else {"type": "lif", "tau": 2.0, "surrogate": "atan"}
        spikes, decodes = kind != "ann", kind == "spiking"
        self.enter = _Framewise(CircularConv1d(CHANNELS, 32, 5), 32)
        self.fire1 = build_neuron(spec) if spikes else nn.ReLU()
        self.down = _Framewise(CircularConv1d(32, 64, 5, 2), 64)
        self.fire2 = build_neuron(spec) if spikes else nn.ReLU()
        self.middle = _Framewise(CircularConv1d(64, 64, 5), 64)
        self.fire3 = RecurrentSpikes(64, 3, spec) if spikes else GatedUnits(64, 3)
        self.up = _Framewise(CircularUp1d(64, 32), 32)
        self.fire4 = build_neuron(spec) if decodes else nn.ReLU()
        self.leave = nn.Conv1d(32, OUTPUTS, 1)
        for block, fires in ((self.enter, spikes), (self.down, spikes), (self.middle, spikes), (self.up, decodes)):
            if (
                fires
            ):  # unit variance rarely reaches a threshold of 1 through a leak: spikes would die out layer by layer
                nn.init.constant_(block.norm.weight, 2.0)
                nn.init.constant_(block.norm.bias, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Frames `[T, B, 7, 120]` to `[T, B, 4, 120]`."""
        return self.trace(x)[0]

    def trace(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the activity of the four hidden layers."""
        if x.dim() != 4 or x.shape[2] != CHANNELS or x.shape[3] % 2:
            raise ShapeError(
                f"frames must be [T, B, {CHANNELS}, beams] with an even number of beams, got {tuple(x.shape)}"
            )
        one = self.fire1(self.enter(x))
        two = self.fire2(self.down(one))
        three = self.fire3(self.middle(two))
        four = self.fire4(self.up(three))
        out = self.leave(four.flatten(0, 1)).unflatten(0, x.shape[:2])
        memory = x[:, :, 3]
        out = torch.stack(
            [out[:, :, 0] + memory, out[:, :, 1].clamp(-8, 3), out[:, :, 2], out[:, :, 3] + memory], dim=2
        )
        return out, [one, two, three, four]

    def work(self, activity: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Additions, MACs and spikes of one step, `[B]` each, from the activity of that step (`[B, C, L]` a layer).

        Additions are counted: each spike times the synapses it really reaches. A layer that receives real values
        multiplies densely, as built; so does the update of each neuron, one MAC a step.
        """
        one = activity[0]
        beams = one.shape[-1]
        macs = torch.full((len(one),), float(32 * CHANNELS * 5 * beams), dtype=torch.float64)
        acs, spikes = torch.zeros_like(macs), torch.zeros_like(macs)
        spiking = (self.kind != "ann",) * 3 + (self.kind == "spiking",)
        even, odd = one[..., 0::2].double().sum((1, 2)), one[..., 1::2].double().sum((1, 2))
        total = [t.double().sum((1, 2)) for t in activity]
        reached = (
            (even * 3 + odd * 2) * 64,  # stride 2, kernel 5: places of even number reach three outputs, odd ones two
            total[1] * 64 * 5, total[2] * (64 * 3 + 32 * 4), total[3] * OUTPUTS,
        )  # fmt: skip
        dense = (
            64 * 32 * 5 * beams // 2, 64 * 64 * 5 * beams // 2, (64 * 64 * 3 + 64 * 32 * 4) * beams // 2,
            32 * OUTPUTS * beams,
        )  # fmt: skip
        for fires, sparse, full, layer in zip(spiking, reached, dense, activity, strict=True):
            if fires:
                acs, macs = acs + sparse, macs + layer[0].numel()
                spikes = spikes + layer.double().sum((1, 2))
            else:
                macs = macs + full
        if self.kind == "ann":
            macs = macs + 4 * 64 * beams // 2 + 3 * 64 * beams // 2  # gates, and the products of the GRU
        return acs, macs, spikes
