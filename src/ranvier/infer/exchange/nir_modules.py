"""The nodes of NIR as modules over sequences, where the library has no layer of the kind."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ShapeError
from ranvier.neurons import Neuron
from ranvier.state import State, Stateful
from ranvier.surrogates import Surrogate


class ScaleBy(nn.Module):
    """`y = s · x`, element by element, with learned factors."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class FlattenFeatures(nn.Module):
    """Flattens axes `start` .. `end` of the features of `[T, B, ...]`."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__()
        self.start, self.end = start, end

    def forward(self, x: Tensor) -> Tensor:
        first = self.start + 2 if self.start >= 0 else self.start
        return x.flatten(first, self.end + 2 if self.end >= 0 else self.end)


class SumPool(nn.Module):
    """Sums of windows of `[B, C, H, W]`."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, self.stride, self.padding, divisor_override=1)


class DelayLine(Stateful):
    """`y[t, n] = x[t − d[n], n]` over `[T, B, ...]`, zero before the start; `d` (int64) is shaped like the features."""

    def __init__(self, delay: Tensor) -> None:
        super().__init__()
        self.delay: Tensor
        self.register_buffer("delay", delay)
        self.reach = int(delay.max()) if delay.numel() else 0

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3 or x.shape[2:] != self.delay.shape:
            raise ShapeError(f"DelayLine takes [T, B, {', '.join(map(str, self.delay.shape))}], got {tuple(x.shape)}")
        state = self.recall()
        before = x.new_zeros(self.reach, *x.shape[1:]) if state is None else state[0].transpose(0, 1)
        if state is not None:
            self.fits(state, (x.new_empty(x.shape[1], self.reach, *x.shape[2:], device="meta"),))
        whole = torch.cat([before.to(x.dtype), x])
        self.remember((whole[len(whole) - self.reach :].transpose(0, 1),))
        steps = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * self.delay.dim())
        rows = (steps + self.reach - self.delay).unsqueeze(1).expand(x.shape)
        return whole.gather(0, rows)

    def extra_repr(self) -> str:
        return f"{self.delay.numel()} lines of up to {self.reach} steps"


class _Constants(Neuron):
    """A neuron whose constants are arrays over its features."""

    def __init__(self, surrogate: str | dict[str, Any] | Surrogate, **constants: Tensor | None) -> None:
        super().__init__(surrogate)
        for name, value in constants.items():
            self.register_buffer(name, value)

    def initial_state(self, like: Tensor) -> State:
        return tuple(torch.zeros_like(like) for _ in self.state_names)


class Threshold(_Constants):
    """`y = 1[x ≥ θ]`."""

    threshold: Tensor

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.surrogate(x_t - self.threshold), state

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        return self.surrogate(x - self.threshold), ()


class Leaky(_Constants):
    """`h = v + k (leak − v) + g x`; with a threshold θ the output is `1[h ≥ θ]` and v is reset, else it is h.

    NIR's I, IF, LI and LIF by Euler's rule: k = dt / τ (0 for I and IF), g = R dt / τ (R dt for I and IF).
    """

    state_names = ("v",)
    keep: Tensor
    gain: Tensor
    leak: Tensor
    threshold: Tensor | None
    v_reset: Tensor | None

    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros_like(like) + self.leak,)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        h = state[0] + self.keep * (self.leak - state[0]) + self.gain * x_t
        if self.threshold is None or self.v_reset is None:
            return h, (h,)
        s = self.surrogate(h - self.threshold)
        fired = s.detach()
        return s, (h * (1 - fired) + self.v_reset * fired,)


class LeakyCurrent(_Constants):
    """`Leaky` behind a synapse `i = (1 − k_s) i + w x`: NIR's CubaLI and CubaLIF."""

    state_names = ("i", "v")
    keep_synapse: Tensor
    weight: Tensor
    keep: Tensor
    gain: Tensor
    leak: Tensor
    threshold: Tensor | None
    v_reset: Tensor | None

    def initial_state(self, like: Tensor) -> State:
        return torch.zeros_like(like), torch.zeros_like(like) + self.leak

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        i = state[0] - self.keep_synapse * state[0] + self.weight * x_t
        h = state[1] + self.keep * (self.leak - state[1]) + self.gain * i
        if self.threshold is None or self.v_reset is None:
            return h, (i, h)
        s = self.surrogate(h - self.threshold)
        fired = s.detach()
        return s, (i, h * (1 - fired) + self.v_reset * fired)
