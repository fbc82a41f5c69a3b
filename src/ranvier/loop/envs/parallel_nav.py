"""The navigation world for several agents at once, with the parallel interface of PettingZoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.loop.costs import EnergyModel
from ranvier.loop.envs.geometry import BEAMS, SECTORS
from ranvier.loop.envs.gym_nav import Senses, agent_spaces, picture, reward_terms
from ranvier.loop.envs.lidar_nav import COLLISION, SUCCESS, TIMEOUT, LidarNav2D
from ranvier.loop.multi.message import RANGE_STEP, message_bits
from ranvier.loop.sensors.lidar import Scan

if TYPE_CHECKING:
    _Parallel = object
else:
    try:  # the interface is plain methods; with PettingZoo there, its own class, so that its wrappers take it
        from pettingzoo import ParallelEnv as _Parallel
    except ImportError:
        _Parallel = object


class LidarNavParallel(_Parallel):
    """Two to eight agents in one `LidarNav2D` that act at the same time and share scans over a radio that loses some.

    PettingZoo's parallel interface: `reset` and `step` take and give dictionaries by agent ("agent_0", ...); an agent
    leaves `agents` when it has arrived, collided or run out of time. PettingZoo itself is not needed.

    Observation of an agent: that of `LidarNavEnv`, and `heard` `[others, 123]`, a row for each other agent in the order
    of their numbers: 1 if its message arrived at this tick, where it stands (metres from here, x and y), its 120 ranges
    (0 where it did not look), in the radio's steps of 8 bits. Action: that of `LidarNavEnv`, and `share`, 1 to
    broadcast what the sensed sectors show. Reward: that of `LidarNavEnv`, the radio's energy included; the terms stand
    in `infos`.

    Args:
        num_agents: 2 to 8.
        loss: probability that a message does not reach one of its receivers.
        reach: of the radio, metres.
        render_mode: "rgb_array" or None.
        energy_weight: λ.
        max_ticks: ticks until truncation.
    """

    metadata = {  # noqa: RUF012 (PettingZoo's own name and form)
        "name": "ranvier_lidar_nav_v0", "render_modes": ["rgb_array"], "render_fps": 10, "is_parallelizable": True,
    }  # fmt: skip

    def __init__(
        self, num_agents: int = 3, loss: float = 0.0, reach: float = 8.0, *, render_mode: str | None = None,
        energy_weight: float = 0.001, max_ticks: int = 500,
    ) -> None:  # fmt: skip
        if isinstance(num_agents, bool) or not isinstance(num_agents, int) or not 2 <= num_agents <= 8:
            raise ArgumentError(f"num_agents must be an integer from 2 to 8, got {num_agents!r}")
        if not 0 <= loss <= 1 or not reach > 0:
            raise ArgumentError(f"loss must be in [0, 1] and reach positive, got {loss} and {reach}")
        spaces = require("gymnasium.spaces", extra="loop")
        self.loss, self.reach, self.render_mode, self.energy_weight = loss, reach, render_mode, energy_weight
        self.possible_agents = [f"agent_{number}" for number in range(num_agents)]
        self.agents: list[str] = []
        self.world = LidarNav2D(1, num_agents, max_ticks=max_ticks)
        self._senses, self._energy = Senses(self.world), EnergyModel()
        observation, action = agent_spaces()
        heard = spaces.Box(-20, 20, (num_agents - 1, 3 + BEAMS), np.float32)
        self.observation_spaces = {
            name: spaces.Dict({**observation, "heard": heard}) for name in self.possible_agents
        }  # fmt: skip
        self.action_spaces = {
            name: spaces.Dict({**action, "share": spaces.Discrete(2)}) for name in self.possible_agents
        }  # fmt: skip
        self._seeds = np.random.default_rng()

    @property
    def num_agents(self) -> int:
        """Agents that still run."""
        return len(self.agents)

    @property
    def max_num_agents(self) -> int:
        """Agents at the start."""
        return len(self.possible_agents)

    @property
    def unwrapped(self) -> LidarNavParallel:
        """This environment."""
        return self

    def observation_space(self, agent: str) -> Any:
        """The space of an agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, Any]]]:
        """Draw a world; the seed is the world's. Everybody senses everything, and nobody has spoken yet."""
        world = int(self._seeds.integers(1 << 31)) if seed is None else seed
        self._senses.reset(world)
        self.agents = list(self.possible_agents)
        count = len(self.agents)
        _, seen = self._senses.look(np.ones((count, SECTORS), np.int8), [8.0] * count)
        silence = np.zeros((count, count - 1, 3 + BEAMS), np.float32)
        return (
            {name: {**seen[row], "heard": silence[row]} for row, name in enumerate(self.agents)},
            {name: {"world": world} for name in self.agents},
        )

    def step(self, actions: Mapping[str, Mapping[str, Any]]) -> tuple[
        dict[str, dict[str, np.ndarray]], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:  # fmt: skip
        """One tick of 0.1 s for everybody; the new sectors are sensed, and shared, at its end."""
        missing = [name for name in self.agents if name not in actions]
        if missing:
            raise ArgumentError(f"actions: {missing[0]} has none; expected one for each of {', '.join(self.agents)}")
        rest: dict[str, Any] = {
            "velocity": np.zeros(2),
            "sectors": np.zeros(SECTORS),
            "gate": np.array([0.1]),
            "share": 0,
        }
        asked = [dict(actions[name]) if name in self.agents else rest for name in self.possible_agents]
        status, spent = self._senses.move(asked)
        scan, seen = self._senses.look(
            [action["sectors"] for action in asked], [np.asarray(action["gate"]).item() for action in asked]
        )
        shares = [bool(a["share"]) and n in self.agents for a, n in zip(asked, self.possible_agents, strict=True)]
        heard = self._deliver(scan, shares)
        observations: dict[str, dict[str, np.ndarray]] = {}
        rewards: dict[str, float] = {}
        ended: dict[str, bool] = {}
        cut: dict[str, bool] = {}
        infos: dict[str, dict[str, Any]] = {}
        for row, name in enumerate(self.possible_agents):
            if name not in self.agents:
                continue
            bits = message_bits(int(np.sum(asked[row]["sectors"]))) if shares[row] else 0
            radio = int(self._energy.radio(torch.tensor(bits)))
            terms = reward_terms(status[row], spent[row] + radio, self.energy_weight)
            observations[name] = {**seen[row], "heard": heard[row]}
            rewards[name] = sum(terms.values())
            ended[name], cut[name] = status[row] in (SUCCESS, COLLISION), status[row] == TIMEOUT
            infos[name] = {"terms": terms, "energy_nj": spent[row] + radio, "bits": bits}
        self.agents = [name for name in self.agents if not ended[name] and not cut[name]]
        return observations, rewards, ended, cut, infos

    def _deliver(self, scan: Scan, shares: list[bool]) -> np.ndarray:
        """What everybody hears, float32 `[agents, others, 123]`."""
        count = len(shares)
        place = self.world.position[0].numpy()
        lost = self._senses.random.uniform("link", count).numpy() < self.loss
        told = np.where(scan.sensed.numpy(), np.clip(np.round(scan.ranges.numpy() / RANGE_STEP), 0, 254), 0)
        heard = np.zeros((count, count - 1, 3 + BEAMS), np.float32)
        for receiver in range(count):
            others = [sender for sender in range(count) if sender != receiver]
            for slot, sender in enumerate(others):
                offset = place[sender] - place[receiver]
                if shares[sender] and not lost[receiver, sender] and np.hypot(*offset) <= self.reach:
                    heard[receiver, slot] = np.concatenate([[1.0], offset, told[sender] * RANGE_STEP])
        return heard

    def render(self) -> Any:
        """The plane from above, uint8 `[200, 200, 3]`."""
        return picture(self.world)

    def state(self) -> np.ndarray:
        """Positions, velocities and goals of all agents and the discs' places and radii, float32."""
        world = self.world
        parts = (world.position, world.velocity, world.goal, world.centre, world.radius)
        return torch.cat([part[0].flatten() for part in parts]).numpy().astype(np.float32)

    def close(self) -> None:
        """Nothing is open."""
