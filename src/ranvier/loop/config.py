"""A loop as data: YAML that is validated, overridden by dotted keys, and built into a running loop."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ranvier.errors import ConfigError, RanvierError, nearest
from ranvier.loop.control.gap_follow import GapFollow
from ranvier.loop.control.spiking_controller import SpikingController
from ranvier.loop.costs import EnergyModel, LatencyModel
from ranvier.loop.engine import SenseActLoop, Sensors
from ranvier.loop.envs.lidar_nav import LidarNav2D
from ranvier.loop.guard import StageFault
from ranvier.loop.multi.comms import Comms, SectorAuction
from ranvier.loop.predict.persistence import PersistenceMap
from ranvier.loop.predict.plain import NoMemory
from ranvier.loop.sensing.learned import LearnedSectors
from ranvier.loop.sensing.policies import POLICIES
from ranvier.loop.sensing.policies import build as build_policy
from ranvier.loop.sensors.faults import build as build_fault
from ranvier.train.recipe_file import parse_yaml, read_yaml

SCENARIOS = Path(__file__).parent / "scenarios"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FaultConfig(_Strict):
    """A fault of a sensor."""

    name: str
    severity: float = 1.0
    start: float = 3.0
    duration: float = Field(default=1e9, ge=0)
    agents: tuple[int, ...] | None = None


class StageFaultConfig(_Strict):
    """A failure of a stage."""

    stage: str
    kind: Literal["raise", "stall", "nan", "late"]
    probability: float = Field(default=1.0, ge=0, le=1)
    start: float = Field(default=0.0, ge=0)
    duration: float = Field(default=1e9, ge=0)
    late_us: int = Field(default=60_000, ge=0)


class CommsConfig(_Strict):
    """The radio between agents."""

    loss: float = Field(default=0.0, ge=0, le=1)
    delay_us: int = Field(default=0, ge=0)
    auction: bool = True
    liars: tuple[int, ...] = ()
    distrust: bool = True


class LoopConfig(_Strict):
    """Everything that a run depends on.

    `predictor`: "persistence", "none", "spiking" (shipped weights) or a path to a .safetensors file. `controller`:
    "gap", or the .safetensors file of a `SpikingController`. `policy`: "full", "priority:3", "info_gain:3", ... with
    `policy_args` for the rest. `monitor`: null or the name of a score.
    """

    env: Literal["lidar-nav"] = "lidar-nav"
    worlds: int = Field(default=40, ge=1, le=100_000)
    batch: int = Field(default=200, ge=1, le=10_000)
    agents: int = Field(default=1, ge=1, le=8)
    max_ticks: int = Field(default=500, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)
    noise_seed: int = Field(default=0, ge=0)
    predictor: str = "persistence"
    predictor_args: dict[str, Any] = Field(default_factory=dict)
    controller: str = "gap"
    policy: str = "priority:6"
    gate: bool = True
    policy_args: dict[str, Any] = Field(default_factory=dict)
    monitor: Literal["residual", "likelihood_regret", "mahalanobis"] | None = None
    monitor_worlds: int = Field(default=60, ge=2, le=1000)
    comms: CommsConfig | None = None
    faults: tuple[FaultConfig, ...] = ()
    stage_faults: tuple[StageFaultConfig, ...] = ()
    overrun: Literal["skip", "queue"] = "skip"
    compensate: bool = False
    latency: dict[str, float] = Field(default_factory=dict)
    energy: dict[str, float] = Field(default_factory=dict)
    zero_latency: bool = False
    energy_weight: float = 0.1
    strict: bool = False

    @property
    def key(self) -> str:
        """A hash of all settings."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]

    def build(self) -> SenseActLoop:
        """The loop, with a monitor calibrated in validation worlds where one is asked for."""
        from ranvier.loop.trust.calibration import calibrate

        options: dict[str, Any] = {
            "energy": _made(EnergyModel, self.energy, "energy"), "latency": self._latency(), "overrun": self.overrun,
            "compensate": self.compensate,
        }  # fmt: skip
        monitor = None
        if self.monitor is not None:
            monitor = calibrate(
                self._predictor(), self._policy(), self._controller(), self.monitor, self.monitor_worlds, **options
            )
        comms = None
        if self.comms is not None:
            auction = SectorAuction() if self.comms.auction else None
            comms = Comms(self.comms.loss, delay_us=self.comms.delay_us, auction=auction, liars=self.comms.liars,
                          distrust=self.comms.distrust)  # fmt: skip
        try:
            faults = [
                build_fault(f.name, f.severity, start=f.start, duration=f.duration, agents=f.agents)
                for f in self.faults
            ]
            stage_faults = [StageFault(**f.model_dump()) for f in self.stage_faults]
        except RanvierError as error:
            raise ConfigError(f"faults: {error}") from error
        return SenseActLoop(
            LidarNav2D(min(self.batch, self.worlds), self.agents, max_ticks=self.max_ticks), Sensors.default(faults),
            self._predictor(), self._policy(), self._controller(), monitor, comms, stage_faults=stage_faults,
            strict=self.strict, energy_weight=self.energy_weight, **options,
        )  # fmt: skip

    def _latency(self) -> LatencyModel:
        if self.zero_latency:
            return LatencyModel.zero(self.latency.get("extra_us", 0.0))
        return _made(LatencyModel, self.latency, "latency")

    def _policy(self) -> Any:
        name = self.policy.partition(":")[0]
        if name == "learned":
            path = self.policy_args.get("weights")
            return LearnedSectors.load(path, gate=self.gate) if path else LearnedSectors(gate=self.gate)
        if name not in POLICIES:
            raise ConfigError(f"policy: unknown {name!r}{nearest(name, [*POLICIES, 'learned'])}")
        return build_policy(self.policy, gate=self.gate, **self.policy_args)

    def _controller(self) -> Any:
        if self.controller == "gap":
            return GapFollow()
        if self.controller.endswith(".safetensors"):
            return SpikingController.load(self.controller)
        raise ConfigError(f"controller: unknown {self.controller!r}; expected 'gap' or a .safetensors file")

    def _predictor(self) -> Any:
        if self.predictor == "persistence":
            return PersistenceMap(**self.predictor_args)
        if self.predictor == "none":
            return NoMemory()
        if self.predictor == "spiking" or self.predictor.endswith(".safetensors"):
            from ranvier.loop.predict.radial_mae import SpikingRadialMAE

            return SpikingRadialMAE.load(self.predictor, **self.predictor_args)
        known = ("persistence", "none", "spiking")
        raise ConfigError(
            f"predictor: unknown {self.predictor!r}{nearest(self.predictor, known)}; or a .safetensors file"
        )


def _made(kind: Any, settings: Mapping[str, float], what: str) -> Any:
    known = list(kind.__dataclass_fields__)
    for name in settings:
        if name not in known:
            raise ConfigError(f"{what}: unknown key {name!r}{nearest(name, known)}")
    return kind(**settings)


def list_scenarios() -> list[str]:
    """Names of the configurations that come with the library."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


def load_config(scenario: str | os.PathLike[str] | None = None, overrides: Sequence[str] = (),
                settings: Mapping[str, Any] | None = None) -> LoopConfig:  # fmt: skip
    """A configuration by name or from a YAML file, then `settings`, then `KEY=VALUE` overrides on top.

    Raises `ConfigError` naming the key, what was given and the nearest known key.
    """
    document: dict[str, Any] = {}
    where = "loop"
    if scenario is not None:
        path = Path(scenario)
        if path.suffix not in (".yaml", ".yml"):
            if str(scenario) not in list_scenarios():
                raise ConfigError(f"unknown scenario {str(scenario)!r}{nearest(str(scenario), list_scenarios())}; "
                                  "or give a path to a .yaml file")  # fmt: skip
            path = SCENARIOS / f"{scenario}.yaml"
        where = f"scenario {scenario}"
        document = dict(read_yaml(path, where))
    document.update(settings or {})
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"override {override!r}: expected KEY=VALUE, such as policy=priority:3")
        branch = document
        for part in parts[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"override {override!r}: {part!r} is not a section")
        branch[parts[-1]] = parse_yaml(text, f"override {override!r}")
    return parse_config(document, where)


def parse_config(document: Mapping[str, Any], where: str = "loop") -> LoopConfig:
    """A configuration from a mapping; `ConfigError` for what is wrong in it."""
    try:
        return LoopConfig.model_validate(dict(document))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, LoopConfig.model_fields)}") from error
        raise ConfigError(f"{where}: {key}: {first['msg']}, got {first.get('input')!r}") from error
