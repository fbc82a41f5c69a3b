"""A learned controller: a small spiking net that imitates a teacher, heading by heading."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError
from ranvier.loop.control.gap_follow import Command, GapFollow
from ranvier.loop.envs.geometry import ANGLES, BEAMS, STEP, wrap
from ranvier.loop.predict.persistence import Work
from ranvier.loop.predict.radial_net import CircularConv1d
from ranvier.neurons import build as build_neuron

CHANNELS, WIDTH = 4, 24


def controller_frame(ranges: Tensor, goal_bearing: Tensor, goal_distance: Tensor, previous: Tensor) -> Tensor:
    """What the controller sees, float32 `[N, 4, 120]`: inverse ranges, the goal's direction, the same weighted by its
    distance, the heading so far."""

    def bump(direction: Tensor) -> Tensor:
        return torch.exp(-0.5 * (wrap(ANGLES - direction[:, None]) / 0.3) ** 2)

    goal = bump(goal_bearing)
    return torch.stack(
        [1 / ranges.clamp(0.2, 8.0), goal, goal * (goal_distance / 8).clamp(max=1.0)[:, None], bump(previous)], 1
    ).float()


class SpikingController(nn.Module):
    """Logits of 120 headings and the room along each, from one pass of two spiking circular convolutions over T steps.

    Args:
        T: time steps of a decision; the state does not outlive it.
        max_speed: m/s.
    """

    def __init__(self, T: int = 4, max_speed: float = 1.0) -> None:
        super().__init__()
        if T < 1 or not max_speed > 0:
            raise ArgumentError(f"T and max_speed must be positive, got {T} and {max_speed}")
        self.T, self.max_speed = T, max_speed
        spec = {"type": "plif", "surrogate": "atan"}
        self.enter, self.norm1 = CircularConv1d(CHANNELS, WIDTH, 9), nn.BatchNorm1d(WIDTH)
        self.fire1 = build_neuron(spec)
        self.wide, self.norm2 = CircularConv1d(WIDTH, WIDTH, 31), nn.BatchNorm1d(WIDTH)
        self.fire2 = build_neuron(spec)
        self.leave = nn.Conv1d(WIDTH, 2, 1)
        for norm in (self.norm1, self.norm2):
            nn.init.constant_(norm.weight, 2.0)
            nn.init.constant_(norm.bias, 0.5)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **arguments: Any) -> SpikingController:
        """A controller with the weights of a safetensors file."""
        from ranvier.train.checkpoint import load_weights, restore_module

        controller = cls(**arguments)
        restore_module(controller, load_weights(Path(path)), f"the controller in {path}")
        return controller.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Frames `[N, 4, 120]` to `[N, 2, 120]`: logits, and room in metres."""
        return self._trace(x)[0]

    def _trace(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        current = self.norm1(self.enter(x))
        one = self.fire1(current.expand(self.T, *current.shape))
        two = self.norm2(self.wide(one.flatten(0, 1))).unflatten(0, one.shape[:2])
        two = self.fire2(two)
        out = self.leave(two.mean(0))
        return torch.stack([out[:, 0], F.softplus(out[:, 1])], 1), one, two

    def reset(self, rows: int) -> None:
        """Nothing is kept."""
        self.eval()

    @torch.no_grad()
    def act(self, ranges: Tensor, goal_bearing: Tensor, goal_distance: Tensor, previous: Tensor,
            speed_cap: Tensor | None = None) -> Command:  # fmt: skip
        """As `GapFollow.act`; the command carries what the net cost."""
        out, one, two = self._trace(controller_frame(ranges, goal_bearing, goal_distance, previous))
        best = out[:, 0].argmax(1)
        room = torch.minimum(out[:, 1].gather(1, best[:, None])[:, 0].double(), goal_distance.double())
        heading = best.double() * STEP
        speed = self.max_speed * (room - 0.15).clamp(0, 1)
        if speed_cap is not None:
            speed = torch.minimum(speed, speed_cap)
        spikes = [layer.double().sum((0, 2, 3)) for layer in (one, two)]
        dense = float(CHANNELS * WIDTH * 9 * BEAMS + 2 * self.T * WIDTH * BEAMS)  # real input once, neuron updates
        work = Work(spikes[0] * WIDTH * 31 + spikes[1] * 2, torch.full_like(spikes[0], dense), spikes[0] + spikes[1])
        return Command(speed[:, None] * torch.stack([heading.cos(), heading.sin()], -1), heading, room, work)


def imitate(
    controller: SpikingController, ranges: Tensor, *, steps: int = 400, batch: int = 256, lr: float = 3e-3,
    teacher: GapFollow | None = None, seed: int = 0, say: Callable[[str], None] | None = None,
) -> float:  # fmt: skip
    """Learn the teacher's heading and room on range images `[K, 120]` with random goals; returns the share of headings
    within 6 degrees of the teacher's over the last tenth of the steps."""
    if ranges.dim() != 2 or ranges.shape[1] != BEAMS or not len(ranges):
        raise ArgumentError(f"ranges must be [K, {BEAMS}] with K >= 1, got {tuple(ranges.shape)}")
    teacher = teacher or GapFollow()
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(controller.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    close, seen = 0, 0
    controller.train()
    for step in range(steps):
        rows = ranges[torch.randint(len(ranges), (batch,), generator=generator)].double()
        draw = torch.rand(3, batch, generator=generator, dtype=torch.float64)
        bearing, distance = draw[0] * 2 * math.pi, 0.5 + draw[1] * 20
        previous = bearing + (draw[2] - 0.5) * 3
        told = teacher.act(rows, bearing, distance, previous)
        index = (told.heading / STEP).round().long() % BEAMS
        out = controller(controller_frame(rows, bearing, distance, previous))
        near = torch.exp(-0.5 * (wrap(ANGLES - told.heading[:, None]) / 0.06) ** 2).float()
        room = out[:, 1].gather(1, index[:, None])[:, 0]
        loss = -(F.log_softmax(out[:, 0], 1) * near / near.sum(1, keepdim=True)).sum(1).mean()
        loss = loss + 0.5 * (room - told.clearance.clamp(max=3.0).float()).abs().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        schedule.step()
        if step >= steps - max(steps // 10, 1):
            gap = wrap(out[:, 0].detach().argmax(1).double() * STEP - told.heading).abs()
            close, seen = close + int((gap < 2.5 * STEP).sum()), seen + batch
        if say is not None and (step + 1) % 100 == 0:
            say(f"controller: step {step + 1}/{steps}: loss {float(loss.detach()):.3f}")
    controller.eval()
    return close / seen
