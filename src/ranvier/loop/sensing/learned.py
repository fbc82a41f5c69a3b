"""A sensing policy that is learned on the task: a small spiking net scores the sectors under an energy budget."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import PER_SECTOR, SECTORS
from ranvier.loop.predict.radial_net import CircularConv1d
from ranvier.loop.sensing.policies import Decision, View, _bump, _Gated, priority, top
from ranvier.neurons import build as build_neuron
from ranvier.state import Memory, stream

INPUTS = 8


def sector_features(view: View) -> Tensor:
    """What is known of each sector, float32 `[N, 8, 30]`."""
    nearest = view.ranges.view(-1, SECTORS, PER_SECTOR).min(-1).values
    spread = torch.zeros_like(nearest)
    if view.std is not None:
        spread = view.std.double().clamp(0, 4).view(-1, SECTORS, PER_SECTOR).mean(-1)
    return torch.stack(
        [
            view.age.clamp(max=40).double() / 10, _bump(view.heading), _bump(view.goal_bearing),
            ((2.5 - nearest) / 2.5).clamp(0, 1), spread, view.ring.view(-1, SECTORS, PER_SECTOR).sum(-1) / 4,
            view.known.view(-1, SECTORS, PER_SECTOR).double().mean(-1),
            (priority(view) / 20).clamp(max=4),
        ], 1,
    ).float()  # fmt: skip


class _Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = CircularConv1d(INPUTS, 16, 3)
        self.fire = build_neuron({"type": "plif", "surrogate": "atan", "threshold": 0.5})
        self.leave = nn.Conv1d(16, 1, 1)
        self.direct = nn.Parameter(torch.tensor(1.0))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """`[T, N, 8, 30]` to logits `[T, N, 30]`; starts as the logarithm of the priority."""
        spikes = self.fire(self.enter(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        score = self.leave(spikes.flatten(0, 1)).unflatten(0, x.shape[:2])[:, :, 0]
        return score + self.direct * torch.log(x[:, :, 7] + 1e-3)


class LearnedSectors(nn.Module, _Gated):
    """Logits of the sectors from a small spiking net; the `k` best are sensed.

    While `explore` is on, sectors are drawn by Gumbel top-k (without replacement, by the softmax of the logits) and the
    score function is kept for `reinforce`. It begins as the priority policy and moves from there.

    Args:
        k: sectors a tick.
        gate: see the other policies.
    """

    def __init__(self, k: int = 3, gate: bool = False) -> None:
        nn.Module.__init__(self)
        _Gated.__init__(self, gate)
        if not 0 < k <= SECTORS:
            raise ArgumentError(f"k must be from 1 to {SECTORS}, got {k}")
        self.k, self.explore = k, False
        self.net = _Scores()
        self._stream: Memory | None = None
        self.inputs: list[Tensor] = []
        self.chosen: list[Tensor] = []

    @classmethod
    def load(cls, path: str | os.PathLike[str], **arguments: Any) -> LearnedSectors:
        """A policy with the weights of a safetensors file."""
        from ranvier.train.checkpoint import load_weights, restore_module

        policy = cls(**arguments)
        restore_module(policy.net, load_weights(Path(path)), f"the policy in {path}")
        return policy

    def reset(self, rows: int) -> None:
        """Begin an episode."""
        self._stream = None
        self.inputs.clear()
        self.chosen.clear()

    @torch.no_grad()
    def decide(self, view: View) -> Decision:
        """The k best sectors, or k drawn ones while exploring."""
        x = sector_features(view)
        logits, self._stream = stream(self.net, x[None], self._stream)
        score = logits[0].double() + torch.log(view.discount)
        if self.explore:
            score = score - torch.log(-torch.log(view.noise.clamp(1e-9, 1 - 1e-9)))
        sectors = top(score, self.k)
        if self.explore:
            self.inputs.append(x)
            self.chosen.append(sectors)
        return Decision(sectors, self.reach(view))

    def log_probability(self) -> Tensor:
        """Log-probability `[T, N]` of the drawn sectors in the episode that was explored.

        Of the set, by the straight-through relaxation: k times the mean log-softmax of its members.
        """
        logits = self.net(torch.stack(self.inputs))
        return (F.log_softmax(logits, -1) * torch.stack(self.chosen)).sum(-1)


def task_rollout(loop: Any, episodes: int, seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Rollouts for `reinforce`: step number to return (without its energy term) and energy share of one batch.

    Args:
        loop: a `SenseActLoop` with the policy that is trained.
        episodes: worlds a step, at most those of one batch; `seed`: of the first world (training worlds).
    """
    if episodes > loop.env.num_worlds:
        raise ArgumentError(f"episodes must fit one batch of {loop.env.num_worlds} worlds, got {episodes}")

    def rollout(step: int) -> tuple[Tensor, Tensor]:
        report = loop.run(episodes, seed + step * episodes, noise_seed=step)
        full = report.full_nj_per_tick
        value = [e.episode_return(0.0, full) for e in report.episodes]
        energy = [sum(e.energy_nj.values()) / (full * max(e.ticks, 1)) for e in report.episodes]
        return torch.tensor(value, dtype=torch.float64), torch.tensor(energy, dtype=torch.float64)

    return rollout


def reinforce(
    policy: LearnedSectors, rollout: Callable[[int], tuple[Tensor, Tensor]], steps: int, *, budget: float,
    lr: float = 1e-2, dual_lr: float = 0.5, say: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:  # fmt: skip
    """Train by policy gradient with a Lagrangian for the energy (dual ascent).

    Args:
        rollout: step number to (return `[N]`, energy share `[N]`) of one explored batch; it runs the loop with the
            policy and leaves the batch in it.
        budget: energy share that should not be exceeded; the multiplier rises while it is.

    Returns mean return, energy and multiplier of every step.
    """
    adam = torch.optim.Adam(policy.net.parameters(), lr=lr)
    multiplier, history = 0.0, []
    policy.explore = True
    try:
        for step in range(steps):
            value, energy = rollout(step)
            gain = value - multiplier * (energy - budget)
            advantage = ((gain - gain.mean()) / gain.std().clamp_min(1e-6)).float()
            with torch.enable_grad():
                loss = -(policy.log_probability().mean(0) * advantage).mean()
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
            multiplier = max(0.0, multiplier + dual_lr * (float(energy.mean()) - budget))
            history.append({"return": float(value.mean()), "energy": float(energy.mean()), "multiplier": multiplier})
            if say is not None:
                say(f"step {step + 1}/{steps}: return {history[-1]['return']:.3f}, energy {history[-1]['energy']:.4f}")
    finally:
        policy.explore = False
    return history
