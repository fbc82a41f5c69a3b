"""The navigation world as a Gymnasium environment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ranvier.extras import require
from ranvier.loop.costs import EnergyModel
from ranvier.loop.envs.geometry import BEAMS, PER_SECTOR, SECTORS
from ranvier.loop.envs.lidar_nav import COLLISION, RUNNING, SUCCESS, LidarNav2D
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensors.lidar import LidarBeams
from ranvier.loop.sensors.ring import RingDVS

if TYPE_CHECKING:
    import gymnasium

    _Env = gymnasium.Env[dict[str, np.ndarray], dict[str, np.ndarray]]
else:
    _Env = require("gymnasium", extra="loop").Env


class LidarNavEnv(_Env):
    """One agent in one `LidarNav2D`: decide the velocity and which sectors to sense, how far.

    Observation: `ranges` (0 where not sensed), `hit`, `sensed` `[120]`; `ring` `[2, 120]` ON and OFF counts; `goal`
    (bearing and distance); `velocity`. Action: `velocity` `[2]` in m/s (its length is cut to 1), `sectors` `[30]` of 0
    and 1, `gate` `[1]` metres. Reward: +1 at the goal, −1 for a collision, −0.001 a tick, − `energy_weight` times the
    laser's energy over that of a full scan; the terms stand in `info`.

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
        self._lidar, self._ring, self._energy = LidarBeams(), RingDVS(), EnergyModel()

        def box(low: float, high: float, *shape: int) -> Any:
            return spaces.Box(low, high, shape, np.float32)

        self.observation_space = spaces.Dict(
            {
                "ranges": box(0, 8, BEAMS), "hit": spaces.MultiBinary(BEAMS), "sensed": spaces.MultiBinary(BEAMS),
                "ring": box(0, 1000, 2, BEAMS), "goal": box(-30, 30, 2), "velocity": box(-1, 1, 2),
            }
        )  # fmt: skip
        self.action_space = spaces.Dict(
            {"velocity": box(-1, 1, 2), "sectors": spaces.MultiBinary(SECTORS), "gate": box(0.1, 8, 1)}
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Draw a world; the seed is the world's."""
        super().reset(seed=seed)
        world = int(self.np_random.integers(1 << 31)) if seed is None else seed
        self.world.reset([world])
        self._random = Randomness([world])
        truth, albedo = self.world.cast()
        self._ring.reset(truth, albedo, self._random.normal("ring", BEAMS))
        return self._observe(np.ones(SECTORS, np.int8), 8.0), {"world": world}

    def _observe(self, sectors: Any, gate: float) -> dict[str, np.ndarray]:
        truth, albedo = self.world.cast()
        ring = self._ring.step(truth, albedo)
        mask = torch.as_tensor(np.asarray(sectors)).bool()[None]
        scan = self._lidar.sense(truth, mask, torch.tensor([gate]).double(), self._random.normal("lidar", BEAMS))
        x, y = (self.world.goal - self.world.position)[0, 0].tolist()
        return {
            "ranges": scan.ranges[0].numpy().astype(np.float32), "hit": scan.hit[0].numpy().astype(np.int8),
            "sensed": scan.sensed[0].numpy().astype(np.int8),
            "ring": torch.cat([ring.on, ring.off]).numpy().astype(np.float32),
            "goal": np.array([math.atan2(y, x), math.hypot(x, y)], np.float32),
            "velocity": self.world.velocity[0, 0].numpy().astype(np.float32),
        }  # fmt: skip

    def step(self, action: dict[str, np.ndarray]) -> Any:
        """One tick of 0.1 s; the new sectors are sensed at its end."""
        velocity = torch.as_tensor(np.asarray(action["velocity"], np.float64))[None]
        velocity = velocity / velocity.norm().clamp_min(1.0)
        gate = float(np.clip(np.asarray(action["gate"]).item(), 0.1, 8.0))
        self.world.advance([(torch.zeros(1, dtype=torch.int64), velocity)])
        status = int(self.world.status[0, 0])
        beams = int(np.sum(action["sectors"])) * PER_SECTOR
        spent = int(self._energy.beams(torch.tensor(beams), torch.tensor(gate), 8.0))
        terms = {
            "outcome": {SUCCESS: 1.0, COLLISION: -1.0}.get(status, 0.0), "time": -0.001,
            "energy": -self.energy_weight * spent / 72e6,
        }  # fmt: skip
        observation = self._observe(action["sectors"], gate)
        ended = status in (SUCCESS, COLLISION)
        return (
            observation,
            sum(terms.values()),
            ended,
            status != RUNNING and not ended,
            {"terms": terms, "energy_nj": spent},
        )

    def render(self) -> Any:
        """The plane from above, uint8 `[200, 200, 3]`."""
        axis = (np.arange(200) + 0.5) / 10
        x, y = np.meshgrid(axis, axis[::-1])
        image = np.full((200, 200, 3), 255, np.uint8)

        def paint(cx: float, cy: float, r: float, colour: tuple[int, int, int]) -> None:
            image[(x - cx) ** 2 + (y - cy) ** 2 <= r * r] = colour

        for (cx, cy), r, drift in zip(self.world.centre[0].tolist(), self.world.radius[0].tolist(),
                                      self.world.drift[0].tolist(), strict=True):  # fmt: skip
            paint(cx, cy, r, (138, 127, 184) if any(drift) else (185, 185, 198))
        gx, gy = self.world.goal[0, 0].tolist()
        px, py = self.world.position[0, 0].tolist()
        paint(gx, gy, 0.6, (190, 230, 190))
        paint(px, py, 0.25, (91, 63, 168))
        return image
