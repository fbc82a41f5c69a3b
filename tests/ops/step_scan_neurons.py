"""Neurons as a user would write them: equations in `step`, nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ranvier.neurons import Neuron
from ranvier.state import State


class OwnLIF(Neuron):
    """LIF's own equations, with a constant, a learned or a per-channel time constant."""

    def __init__(
        self, tau: float | Tensor = 2.0, soft: bool = False, detach: bool = True, learned: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.tau: Any = nn.Parameter(torch.as_tensor(tau)) if learned else tau
        self.threshold, self.soft, self.detach = 1.0, soft, detach

    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros_like(like),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        tau = self.tau
        if isinstance(tau, Tensor) and tau.dim() == 1:
            tau = tau.view(-1, *[1] * (x_t.dim() - 2))
        h = v + (x_t - v) / tau
        s = self.surrogate(h - self.threshold)
        gate = s.detach() if self.detach else s
        return s, (h - gate * self.threshold if self.soft else h * (1 - gate),)


class Resonator(Neuron):
    """A damped oscillator: two coupled states, a learned frequency a channel and a learned damping a layer."""

    def __init__(self, channels: int) -> None:
        super().__init__("atan")
        self.frequency = nn.Parameter(torch.linspace(0.3, 1.2, channels))
        self.damping = nn.Parameter(torch.tensor(2.0))

    def initial_state(self, like: Tensor) -> State:
        return torch.zeros_like(like), torch.zeros_like(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        u, w = state
        kept = torch.sigmoid(self.damping)
        cos, sin = (f(self.frequency).view(-1, *[1] * (x_t.dim() - 2)) for f in (torch.cos, torch.sin))
        u, w = kept * (cos * u - sin * w) + x_t, kept * (sin * u + cos * w)
        s = self.surrogate(w - 0.5)
        return s, (u, w * (1 - s.detach()))


class Adaptive(Neuron):
    """A threshold that rises with every spike, kept as a buffer of one value an element of the step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.rise: Tensor
        self.register_buffer("rise", torch.linspace(0.2, 1.5, size))
        self.decay = nn.Parameter(torch.full((size,), 0.8))

    def initial_state(self, like: Tensor) -> State:
        return torch.zeros_like(like), torch.ones_like(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, theta = state
        v = 0.6 * v + x_t
        s = self.surrogate(v - theta)
        return s, (torch.where(s.detach() > 0, v - theta, v), theta * self.decay + (1 - self.decay) + self.rise * s)


class Everything(Neuron):
    """Not a neuron anybody wants: as many operations as fit into one step."""

    def __init__(self) -> None:
        super().__init__("triangle")
        self.a = nn.Parameter(torch.tensor(0.7))

    def initial_state(self, like: Tensor) -> State:
        return (torch.full_like(like, 0.25),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        v = torch.tanh(v) + torch.exp(-x_t.abs()) * self.a - torch.nn.functional.softplus(v - 1).sqrt()
        v = v + 0.1 * torch.sin(x_t) * torch.cos(v) + torch.log1p(v * v) + torch.expm1(-v.square()) / (1 + v**4)
        v = torch.maximum(v, x_t - 2).clamp(-3, 3) + torch.rsqrt(1 + v**2) - torch.minimum(v, 0.5 * x_t)
        v = v + 0.05 * torch.round(3 * v) + 0.02 * torch.floor(v) - 0.01 * torch.ceil(x_t) + 0.03 * torch.sign(v)
        odd = ((v > 0.2) & ~(x_t < -1)) | torch.logical_xor(v > 1, x_t >= 1)
        v = torch.where(odd, v - 0.3 * torch.nn.functional.silu(x_t), v.reciprocal().clamp(min=-2, max=2))
        s = self.surrogate(torch.nn.functional.leaky_relu(v, 0.1) - torch.relu(self.a))
        return s, (v * (1 - s) + torch.zeros_like(v).masked_fill(odd, 0.1) + torch.scalar_tensor(0.01, dtype=v.dtype),)


class Stateless(Neuron):
    """No state at all."""

    def initial_state(self, like: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.surrogate(x_t - 0.5), ()


USER_NEURONS: dict[str, Neuron] = {
    "hard": OwnLIF(),
    "hard_attached": OwnLIF(detach=False, surrogate="atan"),
    "soft": OwnLIF(soft=True, surrogate="rectangle"),
    "soft_attached": OwnLIF(soft=True, detach=False, surrogate="triangle"),
    "learned": OwnLIF(3.0, learned=True, detach=False),
    "learned_per_channel": OwnLIF(torch.tensor([1.5, 2.0, 4.0]), learned=True),
    "resonator": Resonator(3),
    "adaptive": Adaptive(5),
    "everything": Everything(),
    "stateless": Stateless(),
}
