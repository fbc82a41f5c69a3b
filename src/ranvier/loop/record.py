"""Logs of runs that can be replayed bit for bit: arrays and JSON, never pickle."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, DataError
from ranvier.files import write_bytes
from ranvier.loop.config import LoopConfig, parse_config
from ranvier.loop.engine import SenseActLoop, Tick
from ranvier.loop.report import Report
from ranvier.train.files import explained

FORMAT = 1
_MAX_BYTES = 1 << 31
FIELDS = ("position", "centre", "ranges", "truth", "hit", "sensed", "gate", "velocity", "mode", "status", "energy_nj")


@dataclass
class Log:
    """A recorded run: its configuration, a hash of every tick, and full frames of the first worlds.

    Attributes:
        hashes: one line (SHA-256, hex) per tick of the whole run, over positions, scans, commands and modes of all
            worlds.
        frames: arrays `[ticks, worlds, agents, ...]` of the first batch's first worlds; see `FIELDS`.
        scene: goal, disc radii and names.
    """

    config: LoopConfig
    hashes: list[str] = field(default_factory=list)
    frames: dict[str, NDArray[Any]] = field(default_factory=dict)
    scene: dict[str, NDArray[Any]] = field(default_factory=dict)
    digest: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .npz file, all or nothing."""
        head = {"format": FORMAT, "config": self.config.model_dump(mode="json"), "digest": self.digest,
                "torch": torch.__version__}  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {f"frame.{k}": v for k, v in self.frames.items()}
        arrays |= {f"scene.{k}": v for k, v in self.scene.items()}
        arrays["hashes"] = np.frombuffer("".join(self.hashes).encode(), np.uint8)
        arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        with explained(f"write {path}"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Log:
        """Read a log; `DataError` says what is wrong with it."""
        try:
            if Path(path).stat().st_size > _MAX_BYTES:
                raise DataError(f"{path}: too large for a log")
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(arrays.pop("head").tobytes().decode())
            text = arrays.pop("hashes").tobytes().decode("ascii")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except DataError:
            raise
        except Exception as error:  # broken archives and headers end in whatever Python's own parsers raise
            raise DataError(f"{path}: not a log of a loop ({error})") from error
        if not isinstance(head, dict) or head.get("format") != FORMAT or len(text) % 64:
            raise DataError(f"{path}: not a log of format {FORMAT}")
        parts: dict[str, dict[str, NDArray[Any]]] = {"frame": {}, "scene": {}}
        for name, value in arrays.items():
            group, _, key = name.partition(".")
            if group in parts:
                parts[group][key] = value
        if not all(name in parts["frame"] for name in FIELDS) or "goal" not in parts["scene"]:
            raise DataError(f"{path}: frames are missing")
        hashes = [text[i : i + 64] for i in range(0, len(text), 64)]
        if not isinstance(config := head.get("config"), dict):
            raise DataError(f"{path}: holds no configuration")
        return cls(parse_config(config, str(path)), hashes, parts["frame"], parts["scene"], str(head.get("digest")))


class Recorder:
    """Collects a `Log` while a loop runs: give `tick` and `batch` to `SenseActLoop.run`."""

    def __init__(self, config: LoopConfig, worlds: int = 4) -> None:
        if worlds < 1:
            raise ArgumentError(f"worlds must be positive, got {worlds}")
        self.log, self.worlds = Log(config), worlds
        self._batches = 0
        self._frames: dict[str, list[NDArray[Any]]] = {name: [] for name in FIELDS}

    def batch(self, loop: SenseActLoop) -> None:
        """A batch begins."""
        self._batches += 1
        if self._batches == 1:
            env = loop.env
            kept = slice(0, self.worlds)
            self.log.scene = {
                "goal": env.goal[kept].numpy().copy(), "radius": env.radius[kept].numpy().copy(),
                "seeds": np.array(env.seeds[: self.worlds]),
            }  # fmt: skip

    def tick(self, loop: SenseActLoop, tick: Tick) -> None:
        """A tick has passed."""
        self.log.hashes.append(tick_hash(loop, tick))
        if self._batches != 1:
            return
        env = loop.env
        worlds = min(self.worlds, len(env.seeds))
        rows = worlds * env.num_agents

        def shaped(value: torch.Tensor) -> NDArray[Any]:
            return value[:rows].reshape(worlds, env.num_agents, *value.shape[1:]).numpy().copy()

        for name, value in (
            ("position", shaped(tick.position)), ("centre", env.centre[:worlds].numpy().copy()),
            ("ranges", shaped(tick.belief.ranges.float())), ("truth", shaped(tick.truth.float())),
            ("hit", shaped(tick.raw.hit)), ("sensed", shaped(tick.raw.sensed)), ("gate", shaped(tick.raw.gate.float())),
            ("velocity", shaped(tick.command.velocity.float())), ("mode", shaped(tick.verdict.mode.to(torch.int8))),
            ("status", env.status[:worlds].numpy().astype(np.int8)), ("energy_nj", shaped(loop.ledger.total())),
        ):  # fmt: skip
            self._frames[name].append(value)

    def finish(self, report: Report) -> Log:
        """The log."""
        self.log.frames = {name: np.stack(values) for name, values in self._frames.items()}
        self.log.digest = report.digest
        return self.log


def tick_hash(loop: SenseActLoop, tick: Tick) -> str:
    """SHA-256 over everything that the tick decided, of all rows."""
    digest = hashlib.sha256()
    for value in (
        loop.env.position, loop.env.status, tick.raw.ranges, tick.scan.sensed, tick.belief.ranges,
        tick.command.velocity, tick.verdict.mode, loop.ledger.total(),
    ):  # fmt: skip
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def record(config: LoopConfig, worlds: int = 4, on_tick: Callable[[SenseActLoop, Tick], Any] | None = None
           ) -> tuple[Report, Log]:  # fmt: skip
    """Run a configuration and record it."""
    loop = config.build()
    recorder = Recorder(config, worlds)

    def tick(loop: SenseActLoop, now: Tick) -> None:
        recorder.tick(loop, now)
        if on_tick is not None:
            on_tick(loop, now)

    report = loop.run(config.worlds, config.seed, noise_seed=config.noise_seed, on_tick=tick, on_batch=recorder.batch)
    report.config = config.model_dump(mode="json")
    return report, recorder.finish(report)


@dataclass(frozen=True)
class Replay:
    """What a replay found: ticks that agree, and the first that does not (None: all agree)."""

    ticks: int
    first_difference: int | None
    digest_matches: bool

    @property
    def identical(self) -> bool:
        """Whether the run was reproduced bit for bit."""
        return self.first_difference is None and self.digest_matches


def replay(log: Log) -> Replay:
    """Run the log's configuration again and compare every tick of all worlds, bit by bit."""
    loop = log.config.build()
    found: list[str] = []
    report = loop.run(
        log.config.worlds, log.config.seed, noise_seed=log.config.noise_seed,
        on_tick=lambda lp, now: found.append(tick_hash(lp, now)),
    )  # fmt: skip
    pairs = zip(found, log.hashes, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if first is None and len(found) != len(log.hashes):
        first = min(len(found), len(log.hashes))
    return Replay(len(found), first, report.digest == log.digest)
