"""A layer whose synapses cover a receptive field in space and time: a free weight for every place and delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.space_time import SpaceTimeSynapses, space_time_at, space_time_convolve
from ranvier.ops.space_time.table import strongest
from ranvier.state import Stateful

Polarity = Literal["max", "signed"]
Delays = Literal["free", "fixed", "shared"]


@dataclass(frozen=True)
class ConeMask:
    """Where in space and time weights may be large: a cone that opens with the delay, for slow motions.

    With τ_n = n / (K − 1) for tap n, coordinates −1 + 2 (i + 1) / (k + 1) for tap i of k in space, and r the distance
    from the centre, M = [(1 + cos π r) / 2 for r < 1, else 0]^(1 / `exponent`) · exp(−r² / (2 (`v_max` (1 − τ_n) +
    `r0`)²)) (Grimaldi and Perrinet 2023).
    """

    v_max: float = 2.5
    r0: float = 0.05
    exponent: float = 4.0

    def __call__(self, taps: int, rows: int, columns: int) -> Tensor:
        """`[taps, rows, columns]` in [0, 1], float32."""
        tau = torch.arange(taps, dtype=torch.float64) / max(taps - 1, 1) if taps > 1 else torch.ones(1).double()
        u, v = (-1 + 2 * torch.arange(1, k + 1, dtype=torch.float64) / (k + 1) for k in (rows, columns))
        r = torch.hypot(u[:, None], v[None])
        window = torch.where(r < 1, (1 + torch.cos(math.pi * r)) / 2, 0.0).pow(1 / self.exponent)
        width = self.v_max * (1 - tau) + self.r0
        return (window * torch.exp(-(r**2) / (2 * width[:, None, None] ** 2))).float()


class SpaceTimeConv(Stateful):
    """Synapses at every (polarity, delay, place) of a receptive field: `[T, B, P, H, W]` to `[T, B, C, H, W]`.

    B_c(t, r) = b_c + Σ w_c(p, δ, s) A_p(t − δ, r − s), causal, with nothing beyond the edges. Tap n of `weight`
    `[C, P, K, KH, KW]` carries the delay K − 1 − n. Inside `ranvier.carry` the last K − 1 frames are kept.

    Args:
        in_channels: 2 (OFF, ON) where `polarity` is given.
        out_channels: neurons at every place.
        kernel: `(K, KH, KW)`, the sides in space odd; delays are 0 .. K − 1 steps.
        polarity: "max": the larger of the sums over the events and over the events with ON and OFF exchanged, the same
            weights: with S = ON + OFF and D = ON − OFF this is b + S∗k_S + |D∗k_D|, half the work. "signed": D alone,
            of one weight for both polarities, which the exchange negates. None: plain.
        bias: b, a number a neuron.
        delays: "free": a weight for every delay. The others are controls with one weight for all delays of a place:
            "fixed" has it at one delay, drawn at random and never changed (0 in the centre); "shared" at all of them,
            so that only the number of events in the last K steps counts, not when they were.
    """

    delay: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, ...],
        polarity: Polarity | None = None,
        bias: bool = True,
        delays: Delays = "free",
    ) -> None:
        super().__init__()
        sides = tuple(kernel)
        if len(sides) != 3 or any(not isinstance(k, int) or k < 1 for k in sides):
            raise ArgumentError(f"kernel must be (delays, rows, columns), positive integers, got {kernel!r}")
        if not sides[1] % 2 or not sides[2] % 2:
            raise ArgumentError(f"kernel must have odd sides in space, got {kernel!r}")
        if polarity not in ("max", "signed", None):
            raise ArgumentError(f"polarity must be 'max', 'signed' or None, got {polarity!r}")
        if polarity is not None and in_channels != 2:
            raise ArgumentError(f"polarity={polarity!r} needs 2 input channels (OFF, ON), got {in_channels}")
        if delays not in ("free", "fixed", "shared"):
            raise ArgumentError(f"delays must be 'free', 'fixed' or 'shared', got {delays!r}")
        self.in_channels, self.out_channels, self.polarity, self.delays = in_channels, out_channels, polarity, delays
        self.kernel: tuple[int, int, int] = (sides[0], sides[1], sides[2])
        inputs = 1 if polarity == "signed" else in_channels
        self.weight = nn.Parameter(torch.empty(out_channels, inputs, sides[0] if delays == "free" else 1, *sides[1:]))
        self.register_buffer("delay", None)
        if delays == "fixed":
            self.delay = torch.randint(0, sides[0], self.weight.shape)
            self.delay[..., sides[1] // 2, sides[2] // 2] = 0
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `torch.nn.Conv3d`: uniform within 1 / √fan-in."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def dense(self) -> Tensor:
        """The kernel `[C, P, K, KH, KW]` that the weights stand for; differentiable."""
        if self.delays == "free":
            return self.weight
        shape = (*self.weight.shape[:2], *self.kernel)
        if self.delay is None:
            return self.weight.expand(shape)
        return self.weight.new_zeros(shape).scatter(2, self.kernel[0] - 1 - self.delay, self.weight)

    def at_weights(self, mask: Tensor) -> Tensor:
        """A `mask` `[K, KH, KW]` as it holds for the weights: at their delay, or at its largest over shared delays."""
        if self.delays == "free":
            return mask
        if self.delay is None:
            return mask.amax(0, keepdim=True)
        return mask.expand(*self.weight.shape[:2], *mask.shape).gather(2, self.kernel[0] - 1 - self.delay)

    def forward(self, x: Tensor) -> Tensor:
        channels = self._channels(x)
        state = self.recall()
        reach = self.kernel[0] - 1
        fresh = (channels.new_zeros((reach, *channels.shape[1:])),)
        history = fresh[0] if state is None else self.fits(state, fresh)[0]
        if self._carried is not None:
            whole = torch.cat([history, channels])
            self.remember((whole[whole.shape[0] - reach :],))
        if self.delays == "shared":  # the number of events in the window, then one weight
            channels, history = torch.cat([history, channels]).unfold(0, self.kernel[0], 1).sum(-1), None
        kernel = self._frames()
        y = space_time_convolve(channels, kernel, history, groups=2 if self.polarity == "max" else 1)
        if self.polarity == "max":
            y = y[:, :, : self.out_channels] + y[:, :, self.out_channels :].abs()
        return y if self.bias is None else y + self.bias[:, None, None]

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """As `forward` without state, of M places a step: `[T, M, B, C]`; `place` `[T, M]` is row · W + column."""
        channels, kernel = self._channels(x), self._frames()
        if self.delays == "shared":
            before = channels.new_zeros((self.kernel[0] - 1, *channels.shape[1:]))
            channels = torch.cat([before, channels]).unfold(0, self.kernel[0], 1).sum(-1)
        if self.polarity == "max":
            total, difference = kernel.chunk(2)
            y = space_time_at(channels[:, :, :1], total, place)
            y = y + space_time_at(channels[:, :, 1:], difference, place).abs()
        else:
            y = space_time_at(channels, kernel, place)
        return y if self.bias is None else y + self.bias

    def _channels(self, x: Tensor) -> Tensor:
        """What is convolved: OFF and ON, their sum and difference, or the difference alone."""
        if x.dim() != 5 or x.shape[2] != self.in_channels:
            raise ShapeError(f"SpaceTimeConv takes [T, B, {self.in_channels}, H, W], got shape {tuple(x.shape)}")
        x = x.to(self.weight.dtype)
        if self.polarity == "max":
            return torch.stack([x[:, :, 1] + x[:, :, 0], x[:, :, 1] - x[:, :, 0]], 2)
        return x if self.polarity is None else x[:, :, 1:] - x[:, :, :1]

    def _frames(self) -> Tensor:
        """The kernels that `_channels` are convolved with; of shared delays those of the number of events."""
        kernel = self.weight if self.delays == "shared" else self.dense()
        if self.polarity != "max":
            return kernel
        half = 0.5 * kernel
        return torch.cat([half[:, 1:] + half[:, :1], half[:, 1:] - half[:, :1]])

    def synapses(self, fraction: float = 1.0) -> SpaceTimeSynapses:
        """The synapses, or the `fraction` of largest weight over the whole layer, for the event-driven engine.

        With polarity "max" they are those of one of the two polarity frames: run them on the events, and on the events
        with ON and OFF exchanged, and take the larger sum.
        """
        kernel = self.dense()
        there = int(kernel.count_nonzero()) if self.delays != "free" else kernel.numel()
        return SpaceTimeSynapses.from_dense(kernel, kept_count(there, fraction))

    @torch.no_grad()
    def prune_(self, fraction: float, scope: Literal["global", "per_neuron"] = "global") -> SpaceTimeConv:
        """Keep the `fraction` of the weights that is largest, over the whole layer or in each neuron; the rest is 0."""
        if scope not in ("global", "per_neuron"):
            raise ArgumentError(f"scope must be 'global' or 'per_neuron', got {scope!r}")
        for part in [self.weight] if scope == "global" else list(self.weight):
            part.mul_(strongest(part, kept_count(part.numel(), fraction)))
        return self

    @torch.no_grad()
    def shorten_(self, delays: int) -> SpaceTimeConv:
        """Keep the `delays` shortest delays, 0 .. delays − 1; the weights of longer ones are 0."""
        if not isinstance(delays, int) or isinstance(delays, bool) or not 0 <= delays <= self.kernel[0]:
            raise ArgumentError(f"delays must be an integer from 0 to {self.kernel[0]}, got {delays!r}")
        if self.delays != "free":
            raise ArgumentError(f"a layer with delays={self.delays!r} has no weight for each delay to leave out")
        self.weight[:, :, : self.kernel[0] - delays] = 0
        return self

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, kernel={self.kernel}"
        return f"{sizes}, polarity={self.polarity!r}, delays={self.delays!r}"


def kept_count(weights: int, fraction: float) -> int:
    """How many of so many `weights` a `fraction` in [0, 1] is, to the nearest."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction <= 1:
        raise ArgumentError(f"fraction must lie in [0, 1], got {fraction!r}")
    return round(fraction * weights)
