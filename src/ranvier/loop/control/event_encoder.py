"""From a window of events to a state, by a small spiking net that also says how sure it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.loop.envs.event_control import FRAMES, SIZE, EventControl
from ranvier.neurons import build as build_neuron


class EventEncoder(nn.Module):
    """Events binned at 1 ms `[20, N, 2, 64, 64]` to mean and log-variance of the state `[N, n]`.

    Two spiking convolutions (2→8 k8 stride 4, 8→16 k4 stride 2), spikes summed over the window, a linear read-out.
    """

    def __init__(self, state: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 8, 4, 2, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.fire1 = build_neuron({"type": "plif", "surrogate": "atan", "threshold": 0.5})
        self.second = nn.Conv2d(8, 16, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.fire2 = build_neuron({"type": "plif", "surrogate": "atan", "threshold": 0.5})
        self.out = nn.Linear(16 * 64, 2 * state)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(state))

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[N, n]`, in the units of the state."""
        if counts.dim() != 5 or counts.shape[2:] != (2, SIZE, SIZE):
            raise ShapeError(f"counts must be [T, N, 2, {SIZE}, {SIZE}], got {tuple(counts.shape)}")
        T, N = counts.shape[:2]
        x = self.fire1(self.norm1(self.first(counts.clamp(max=4).flatten(0, 1))).unflatten(0, (T, N)))
        x = self.fire2(self.norm2(self.second(x.flatten(0, 1))).unflatten(0, (T, N)))
        mean, log_var = self.out(x.sum(0).flatten(1) / T).chunk(2, 1)
        return mean * self.scale, log_var.clamp(-10, 4) + 2 * torch.log(self.scale)


class CoarseEstimate(nn.Module):
    """The cheap look: a linear map of the events' centroid, spread and number (12 numbers) to the state."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(13, state, dtype=torch.float64))

    @staticmethod
    def moments(counts: Tensor) -> Tensor:
        """`[N, 13]`: for either polarity the log-number, centroid and second moments of its events, and a one."""
        axis = (torch.arange(SIZE).double() + 0.5) / SIZE * 2 - 1
        total = counts.sum(0).double()  # [N, 2, 64, 64]
        number = total.sum((2, 3)).clamp_min(1e-9)
        cx = (total.sum(2) * axis).sum(-1) / number
        cy = (total.sum(3) * axis).sum(-1) / number
        xx = (total.sum(2) * axis**2).sum(-1) / number - cx**2
        yy = (total.sum(3) * axis**2).sum(-1) / number - cy**2
        xy = (total * axis[None, None, :, None] * axis).sum((2, 3)) / number - cx * cy
        parts = [torch.log1p(number), cx, cy, xx, yy, xy]
        return torch.cat([*parts, torch.ones(len(number), 1, dtype=torch.float64)], 1)

    def fit(self, counts: list[Tensor], states: Tensor) -> None:
        """Least squares with a ridge."""
        x = torch.cat([self.moments(c) for c in counts])
        gram = x.T @ x + 1e-3 * torch.eye(13, dtype=torch.float64) * len(x)
        self.weight.copy_(torch.linalg.solve(gram, x.T @ states.double()))

    def forward(self, counts: Tensor) -> Tensor:
        """The state, roughly `[N, n]`."""
        return self.moments(counts) @ self.weight


def fit_encoder(
    encoder: EventEncoder, coarse: CoarseEstimate, env: EventControl, controller: Callable[[Tensor], Tensor],
    ticks: int = 150, *, epochs: int = 6, lr: float = 3e-3, explore: float = 0.5, spread: float = 0.35, seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> float:  # fmt: skip
    """Drive the copies of `env` with `controller` plus noise, and train on their events; returns the last loss."""
    if ticks < 1 or epochs < 1:
        raise ArgumentError("ticks and epochs must be positive")
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(env.num_envs, env.state_size, generator=generator).double() * 2 - 1
    state = env.reset(draw * spread)
    windows: list[Tensor] = []
    states: list[Tensor] = []
    push = torch.zeros(env.num_envs).double()
    for _ in range(ticks):
        push = 0.9 * push + explore * torch.randn(env.num_envs, generator=generator).double()
        state, window = env.step(controller(state) + push)
        assert window is not None
        windows.append(window.counts.to(torch.uint8))
        states.append(state.clone())
    target = torch.cat(states)
    encoder.scale.copy_(target.std(0).clamp_min(1e-3).float())
    coarse.fit([w.float() for w in windows], target)
    adam = torch.optim.Adam(encoder.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * len(windows))
    last = 0.0
    encoder.train()
    for epoch in range(epochs):
        summed = 0.0
        for index in torch.randperm(len(windows), generator=generator).tolist():
            mean, log_var = encoder(windows[index].float())
            error = (states[index].float() - mean).square()
            loss = (0.5 * error * (-log_var).exp() + 0.5 * log_var).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            adam.step()
            schedule.step()
            summed += float(loss.detach())
        last = summed / len(windows)
        if say is not None:
            say(f"encoder: epoch {epoch + 1}/{epochs}: loss {last:.4f}")
    encoder.eval()
    return last


assert FRAMES == 20
