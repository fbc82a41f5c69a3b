"""What a run found: outcomes per agent, energy by stage, incidents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ranvier.loop.envs.lidar_nav import COLLISION, STATUS_NAMES, SUCCESS
from ranvier.loop.guard import Incident


@dataclass(frozen=True)
class Episode:
    """One agent in one world.

    `energy_nj`, `busy_us` and `counts` are by stage; `sectors` is the mean number of sectors a tick; `modes` counts the
    ticks in each state of the monitor.
    """

    seed: int
    agent: int
    status: int
    ticks: int
    path_length: float
    sectors: float
    skipped: int
    latency_us: float
    energy_nj: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    first_alarm_us: int | None = None
    alarms: int = 0
    modes: Mapping[str, int] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the goal was reached."""
        return self.status == SUCCESS

    def episode_return(self, energy_weight: float, full_nj_per_tick: float) -> float:
        """+1 success, −1 collision, −0.001 a tick, − weight x energy / energy of full sensing."""
        outcome = {SUCCESS: 1.0, COLLISION: -1.0}.get(self.status, 0.0)
        share = sum(self.energy_nj.values()) / (full_nj_per_tick * max(self.ticks, 1))
        return outcome - 0.001 * self.ticks - energy_weight * share


@dataclass
class Report:
    """Episodes of a run and what went wrong in it."""

    episodes: list[Episode]
    full_nj_per_tick: float
    energy_weight: float = 0.1
    incidents: Sequence[Incident] = ()
    incident_counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    digest: str = ""
    wall_s: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)

    def _share(self, status: int) -> float:
        return sum(e.status == status for e in self.episodes) / max(len(self.episodes), 1)

    @property
    def success(self) -> float:
        """Share of agents that reached their goal."""
        return self._share(SUCCESS)

    @property
    def collision(self) -> float:
        """Share of agents that hit something."""
        return self._share(COLLISION)

    @property
    def time_to_goal(self) -> float | None:
        """Mean seconds of the successful ones."""
        ticks = [e.ticks for e in self.episodes if e.success]
        return sum(ticks) / len(ticks) * 0.1 if ticks else None

    @property
    def ticks(self) -> int:
        """Agent-ticks of the run."""
        return sum(e.ticks for e in self.episodes)

    @property
    def sectors(self) -> float:
        """Mean sectors a tick."""
        return sum(e.sectors * e.ticks for e in self.episodes) / max(self.ticks, 1)

    def energy(self) -> dict[str, float]:
        """Millijoules a tick, by stage."""
        stages: dict[str, int] = {}
        for episode in self.episodes:
            for stage, amount in episode.energy_nj.items():
                stages[stage] = stages.get(stage, 0) + amount
        return {stage: amount * 1e-6 / max(self.ticks, 1) for stage, amount in stages.items()}

    def relative(self, stage: str | None = None) -> float:
        """Energy (of one stage, or all) over that of a full scan at every tick."""
        split = self.energy()
        amount = sum(split.values()) if stage is None else split.get(stage, 0.0)
        return amount / (self.full_nj_per_tick * 1e-6)

    @property
    def mean_return(self) -> float:
        """Mean return of an episode."""
        total = sum(e.episode_return(self.energy_weight, self.full_nj_per_tick) for e in self.episodes)
        return total / max(len(self.episodes), 1)

    @property
    def latency_ms(self) -> float:
        """Mean time from the start of a cycle to its effect."""
        return sum(e.latency_us for e in self.episodes) / max(len(self.episodes), 1) * 1e-3

    @property
    def false_alarms_per_1000_s(self) -> float:
        """Alarms of the monitor in 1,000 s (false ones only where there was no fault)."""
        return sum(e.alarms for e in self.episodes) / max(self.ticks * 0.1, 1e-9) * 1000

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "episodes": len(self.episodes), "success": self.success, "collision": self.collision,
            "timeout": 1 - self.success - self.collision, "time_to_goal_s": self.time_to_goal,
            "mean_return": self.mean_return, "sectors_per_tick": self.sectors,
            "energy_mj_per_tick": self.energy(), "energy_vs_full": self.relative(),
            "laser_vs_full": self.relative("lidar"), "latency_ms": self.latency_ms,
            "alarms_per_1000_s": self.false_alarms_per_1000_s,
            "incidents": {f"{stage}: {kind}": count for (stage, kind), count in self.incident_counts.items()},
            "digest": self.digest, "wall_s": self.wall_s,
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """Summary, configuration and every episode, as JSON values."""
        return {
            "format": 1, "config": dict(self.config), "summary": self.summary(),
            "episodes": [
                {
                    "seed": e.seed, "agent": e.agent, "status": STATUS_NAMES[e.status], "ticks": e.ticks,
                    "path_length": e.path_length, "sectors": e.sectors, "skipped": e.skipped,
                    "latency_us": e.latency_us, "energy_nj": dict(e.energy_nj),
                    "counts": {stage: dict(c) for stage, c in e.counts.items()},
                    "first_alarm_us": e.first_alarm_us, "alarms": e.alarms, "modes": dict(e.modes),
                }
                for e in self.episodes
            ],
            "incidents": [vars(incident) for incident in self.incidents],
        }  # fmt: skip
