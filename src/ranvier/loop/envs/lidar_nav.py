"""A plane of standing and moving discs that agents cross from one corner to the other, many worlds at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import ANGLES, to_discs, to_walls

RUNNING, SUCCESS, COLLISION, TIMEOUT = 0, 1, 2, 3
STATUS_NAMES = ("running", "success", "collision", "timeout")

_FORMATION = ((0.0, 0.0), (1.4, 0.0), (0.0, 1.4), (1.4, 1.4), (2.8, 0.0), (0.0, 2.8), (2.8, 1.4), (1.4, 2.8))


class LidarNav2D:
    """`num_worlds` worlds of 20 x 20 m with 16 discs, `num_agents` holonomic agents in each.

    Discs: centre U[1.5, 18.5]², radius U[0.35, 0.9]; the first `moving` go at U[0.2, 0.5] m/s and reflect at 1 and
    19 m. Agents start near one corner and want to the other; their worlds are drawn again until every disc is more
    than 1.2 m from the start and 1 m from the goal. A world depends on its seed alone, not on the batch it is in.
    Everything is float64; rows are worlds x agents, world first.

    Args:
        num_worlds: worlds that run at a time.
        num_agents: 1 to 8; others are discs of radius 0.25 to each. They start side by side (a convoy).
        max_ticks: ticks of 0.1 s until a timeout.
        discs, moving: how many discs, and how many of them move.
    """

    size = 20.0
    agent_radius = 0.25
    goal_radius = 0.6
    max_speed = 1.0
    tick_us = 100_000

    def __init__(
        self, num_worlds: int = 1, num_agents: int = 1, *, max_ticks: int = 500, discs: int = 16, moving: int = 5
    ) -> None:
        for name, value, low, high in (
            ("num_worlds", num_worlds, 1, 1 << 20), ("num_agents", num_agents, 1, len(_FORMATION)),
            ("max_ticks", max_ticks, 1, 1 << 20), ("discs", discs, 0, 64), ("moving", moving, 0, discs),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ArgumentError(f"{name} must be an integer from {low} to {high}, got {value!r}")
        self.num_worlds, self.num_agents, self.max_ticks = num_worlds, num_agents, max_ticks
        self.discs, self.moving = discs, moving
        self.seeds: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Agents in all worlds of the batch."""
        return len(self.seeds) * self.num_agents

    def reset(self, seeds: Sequence[int]) -> None:
        """Draw the worlds of these seeds (at most `num_worlds`)."""
        if not 1 <= len(seeds) <= self.num_worlds:
            raise ArgumentError(f"seeds: expected 1 to {self.num_worlds}, got {len(seeds)}")
        drawn = [_draw(seed, self.num_agents, self.discs, self.moving) for seed in seeds]
        stacked = [torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True)]
        self.position, self.goal, self.centre, self.radius, self.drift, self.albedo = stacked
        self.seeds = tuple(int(seed) for seed in seeds)
        self.velocity = torch.zeros_like(self.position)
        self.status = torch.zeros(len(seeds), self.num_agents, dtype=torch.int64)
        self.finish_tick = torch.zeros_like(self.status)
        self.path_length = torch.zeros(len(seeds), self.num_agents, dtype=torch.float64)
        self.tick = 0

    @property
    def active(self) -> Tensor:
        """Which agents still run, bool `[rows]`."""
        return (self.status == RUNNING).flatten()

    def flat(self, per_agent: Tensor) -> Tensor:
        """`[B, M, ...]` as rows `[B M, ...]`."""
        return per_agent.flatten(0, 1)

    def obstacles(self) -> tuple[Tensor, Tensor, Tensor]:
        """What each row can bump into: centres `[N, D, 2]`, radii `[N, D]` and albedos `[N, D]`, other agents last."""
        worlds, agents = self.position.shape[:2]
        centre, radius, albedo = (
            t[:, None].expand(worlds, agents, *t.shape[1:]).flatten(0, 1)
            for t in (self.centre, self.radius, self.albedo)
        )
        if agents == 1:
            return centre, radius, albedo
        other = self.position[:, None].expand(worlds, agents, agents, 2).flatten(0, 1)
        there = ((self.status == RUNNING)[:, None] & ~torch.eye(agents, dtype=torch.bool)).flatten(0, 1)
        size = torch.where(there, self.agent_radius, 0.0).double()
        return (
            torch.cat([centre, other], 1), torch.cat([radius, size], 1),
            torch.cat([albedo, torch.full_like(size, 0.9)], 1),
        )  # fmt: skip

    def cast(self) -> tuple[Tensor, Tensor]:
        """True distance `[N, 120]` to the nearest surface along each beam, and that surface's albedo."""
        centre, radius, albedo = self.obstacles()
        origin = self.flat(self.position)
        disc, which = to_discs(origin, centre, radius, ANGLES)
        wall = to_walls(origin, self.size, ANGLES)
        if not albedo.shape[1]:
            return wall, torch.full_like(wall, 0.9)
        return torch.minimum(disc, wall), torch.where(disc < wall, albedo.gather(1, which), 0.9)

    def advance(self, switches: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        """Let one tick pass.

        Args:
            switches: `(offset_us, velocity)` in the order in which they take effect: int64 `[N]` microseconds after
                the start of the tick, −1 for rows that do not change, and `[N, 2]` in m/s.
        """
        before = self.flat(self.position).clone()
        active = self.active
        here, velocity = before.clone(), self.flat(self.velocity).clone()
        local = torch.zeros(self.rows, dtype=torch.int64)
        for offset, command in switches:
            valid = (offset >= 0) & active
            until = torch.where(valid, torch.minimum(torch.maximum(offset, local), torch.tensor(self.tick_us)), local)
            here = here + velocity * ((until - local).double() * 1e-6)[:, None]
            velocity = torch.where(valid[:, None], command.double(), velocity)
            local = until
        here = here + velocity * ((self.tick_us - local).double() * 1e-6)[:, None]
        here = torch.where(active[:, None], here, before)
        velocity = torch.where(active[:, None], velocity, 0.0)
        self.position, self.velocity = here.view_as(self.position), velocity.view_as(self.velocity)
        self.path_length += (here - before).norm(dim=-1).view_as(self.path_length)
        self._drift()
        self.tick += 1
        self._judge()

    def _drift(self) -> None:
        self.centre = self.centre + self.drift * (self.tick_us * 1e-6)
        for bound, side in ((1.0, -1.0), (self.size - 1.0, 1.0)):
            over = ((self.centre - bound) * side > 0) & (self.drift != 0)
            self.centre = torch.where(over, 2 * bound - self.centre, self.centre)
            self.drift = torch.where(over, -self.drift, self.drift)

    def _judge(self) -> None:
        centre, radius, _ = self.obstacles()
        position = self.flat(self.position)
        gap = (centre - position[:, None]).norm(dim=-1) - radius
        hit = ((gap < self.agent_radius) & (radius > 0)).any(1)
        hit |= ((position < self.agent_radius) | (position > self.size - self.agent_radius)).any(1)
        arrived = (position - self.flat(self.goal)).norm(dim=-1) < self.goal_radius
        status = self.status.flatten()
        new = torch.where(hit, COLLISION, torch.where(arrived, SUCCESS, RUNNING))
        if self.tick >= self.max_ticks:
            new = torch.where(new == RUNNING, TIMEOUT, new)
        running = status == RUNNING
        finish = self.finish_tick.flatten()
        self.finish_tick = torch.where(running & (new != RUNNING), self.tick, finish).view_as(self.finish_tick)
        self.status = torch.where(running, new, status).view_as(self.status)
        done = (self.status != RUNNING)[..., None]
        self.velocity = torch.where(done, 0.0, self.velocity)


def _draw(seed: int, agents: int, discs: int, moving: int) -> tuple[np.ndarray, ...]:
    rng = np.random.Generator(np.random.PCG64([20240611, int(seed)]))
    shape = np.array(_FORMATION[:agents])
    while True:
        centre = rng.uniform(1.5, 18.5, (discs, 2))
        radius = rng.uniform(0.35, 0.9, discs)
        start = 1.5 + rng.uniform(0, 1, 2) + shape
        goal = 18.5 - rng.uniform(0, 1, 2) - shape
        from_start = np.linalg.norm(centre[None] - start[:, None], axis=-1) - radius
        from_goal = np.linalg.norm(centre[None] - goal[:, None], axis=-1) - radius
        if discs == 0 or (from_start.min() > 1.2 and from_goal.min() > 1.0):
            break
    speed, angle = rng.uniform(0.2, 0.5, discs), rng.uniform(0, 2 * np.pi, discs)
    drift = np.stack([np.cos(angle), np.sin(angle)], -1) * speed[:, None]
    drift[moving:] = 0.0
    return start, goal, centre, radius, drift, rng.uniform(0.8, 1.0, discs)
