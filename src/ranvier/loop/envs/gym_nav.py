"""The navigation world as a Gymnasium environment, and what environments of it share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ranvier.extras import require
from ranvier.loop.costs import EnergyModel
from ranvier.loop.envs.geometry import BEAMS, PER_SECTOR, SECTORS
from ranvier.loop.envs.lidar_nav import COLLISION, SUCCESS, TIMEOUT, LidarNav2D
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensors.lidar import LidarBeams, Scan
from ranvier.loop.sensors.ring import RingDVS

if TYPE_CHECKING:
    import gymnasium

    _Env = gymnasium.Env[dict[str, np.ndarray], dict[str, np.ndarray]]
else:
    _Env = require("gymnasium", extra="loop").Env

AGENT_COLOURS = (
    (91, 63, 168), (194, 80, 58), (43, 123, 186), (122, 139, 42), (168, 85, 158), (74, 74, 74), (184, 134, 11),
    (22, 122, 122),
)  # fmt: skip


def agent_spaces() -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts of the observation and of the action of one agent, as Gymnasium spaces by name."""
    spaces = require("gymnasium.spaces", extra="loop")

    def box(low: float, high: float, *shape: int) -> Any:
        return spaces.Box(low, high, shape, np.float32)

    return (
        {
            "ranges": box(0, 8, BEAMS), "hit": spaces.MultiBinary(BEAMS), "sensed": spaces.MultiBinary(BEAMS),
            "ring": box(0, 1000, 2, BEAMS), "goal": box(-30, 30, 2), "velocity": box(-1, 1, 2),
        },
        {"velocity": box(-1, 1, 2), "sectors": spaces.MultiBinary(SECTORS), "gate": box(0.1, 8, 1)},
    )  # fmt: skip


class Senses:
    """What the agents of the first world of a `LidarNav2D` see, as NumPy arrays."""

    def __init__(self, world: LidarNav2D) -> None:
        self.world, self._lidar, self._ring, self._energy = world, LidarBeams(), RingDVS(), EnergyModel()

    def reset(self, seed: int) -> None:
        """Draw the world of this seed."""
        self.world.reset([seed])
        self.random = Randomness([seed], self.world.num_agents)
        truth, albedo = self.world.cast()
        self._ring.reset(truth, albedo, self.random.normal("ring", BEAMS))

    def look(self, sectors: Any, gates: Any) -> tuple[Scan, list[dict[str, np.ndarray]]]:
        """Sense with masks `[agents, 30]` and gates `[agents]`; the scan, and every agent's observation."""
        truth, albedo = self.world.cast()
        ring = self._ring.step(truth, albedo)
        mask = torch.as_tensor(np.asarray(sectors)).bool()
        reach = torch.as_tensor(np.asarray(gates, np.float64)).clamp(0.1, self._lidar.max_range)
        scan = self._lidar.sense(truth, mask, reach, self.random.normal("lidar", BEAMS))
        events = torch.stack([ring.on, ring.off], 1).numpy().astype(np.float32)
        to_goal = (self.world.goal - self.world.position)[0]
        goal = torch.stack([torch.atan2(to_goal[:, 1], to_goal[:, 0]), to_goal.norm(dim=-1)], 1).numpy()
        velocity = self.world.velocity[0].numpy()
        return scan, [
            {
                "ranges": scan.ranges[row].numpy().astype(np.float32), "hit": scan.hit[row].numpy().astype(np.int8),
                "sensed": scan.sensed[row].numpy().astype(np.int8), "ring": events[row],
                "goal": goal[row].astype(np.float32), "velocity": velocity[row].astype(np.float32),
            }
            for row in range(self.world.rows)
        ]  # fmt: skip

    def move(self, actions: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """Let a tick pass under one action an agent; every agent's status, and the nanojoules of its laser."""
        wanted = torch.as_tensor(np.stack([np.asarray(a["velocity"], np.float64).reshape(2) for a in actions]))
        wanted = wanted / wanted.norm(dim=1, keepdim=True).clamp_min(1.0)
        self.world.advance([(torch.zeros(len(actions), dtype=torch.int64), wanted)])
        beams = torch.tensor([int(np.sum(a["sectors"])) * PER_SECTOR for a in actions])
        gates = torch.tensor([float(np.clip(np.asarray(a["gate"]).item(), 0.1, 8.0)) for a in actions])
        spent = self._energy.beams(beams, gates.double(), self._lidar.max_range)
        return self.world.status[0].tolist(), spent.tolist()


def reward_terms(status: int, spent_nj: int, energy_weight: float) -> dict[str, float]:
    """+1 at the goal, −1 for a collision, −0.001 a tick, − `energy_weight` x energy / energy of a full scan."""
    outcome = {SUCCESS: 1.0, COLLISION: -1.0}.get(status, 0.0)
    return {"outcome": outcome, "time": -0.001, "energy": -energy_weight * spent_nj / 72e6}


def picture(world: LidarNav2D) -> np.ndarray:
    """The first world from above, uint8 `[200, 200, 3]`."""
    axis = (np.arange(200) + 0.5) / 10
    x, y = np.meshgrid(axis, axis[::-1])
    image = np.full((200, 200, 3), 255, np.uint8)

    def paint(cx: float, cy: float, r: float, colour: tuple[int, int, int]) -> None:
        image[(x - cx) ** 2 + (y - cy) ** 2 <= r * r] = colour

    for (cx, cy), r, drift in zip(
        world.centre[0].tolist(), world.radius[0].tolist(), world.drift[0].tolist(), strict=True
    ):
        paint(cx, cy, r, (138, 127, 184) if any(drift) else (185, 185, 198))
    for gx, gy in world.goal[0].tolist():
        paint(gx, gy, 0.6, (190, 230, 190))
    for number, (px, py) in enumerate(world.position[0].tolist()):
        paint(px, py, 0.25, AGENT_COLOURS[number])
    return image


class LidarNavEnv(_Env):
    """One agent in one `LidarNav2D`: decide the velocity and which sectors to sense, how far.

    Observation: `ranges` (0 where not sensed), `hit`, `sensed` `[120]`; `ring` `[2, 120]` ON and OFF counts; `goal`
    (bearing and distance); `velocity`. Action: `velocity` `[2]` in m/s (its length is cut to 1), `sectors` `[30]` of 0
    and 1, `gate` `[1]` metres. Reward: that of `reward_terms`; the terms stand in `info`.

    Args:
        render_mode: "rgb_array" or None.
        energy_weight: λ.
        max_ticks: ticks until truncation.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own name and form)

    def __init__(self, render_mode: str | None = None, energy_weight: float = 0.001, max_ticks: int = 500) -> None:
        spaces = require("gymnasium.spaces", extra="loop")
        self.render_mode, self.energy_weight = render_mode, energy_weight
        self.world = LidarNav2D(1, max_ticks=max_ticks)
        self._senses = Senses(self.world)
        observation, action = agent_spaces()
        self.observation_space, self.action_space = spaces.Dict(observation), spaces.Dict(action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Draw a world; the seed is the world's. Everything is sensed."""
        super().reset(seed=seed)
        world = int(self.np_random.integers(1 << 31)) if seed is None else seed
        self._senses.reset(world)
        return self._senses.look(np.ones((1, SECTORS), np.int8), [8.0])[1][0], {"world": world}

    def step(self, action: dict[str, np.ndarray]) -> Any:
        """One tick of 0.1 s; the new sectors are sensed at its end."""
        (status,), (spent,) = self._senses.move([action])
        terms = reward_terms(status, spent, self.energy_weight)
        seen = self._senses.look([action["sectors"]], [np.asarray(action["gate"]).item()])[1][0]
        ended = status in (SUCCESS, COLLISION)
        return seen, sum(terms.values()), ended, status == TIMEOUT, {"terms": terms, "energy_nj": spent}

    def render(self) -> Any:
        """The plane from above, uint8 `[200, 200, 3]`."""
        return picture(self.world)
