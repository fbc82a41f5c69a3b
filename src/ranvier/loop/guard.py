"""Stages that may fail: what they give is checked row by row, and replaced by something safe where it is no use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, nearest
from ranvier.loop.randomness import Randomness

T = TypeVar("T")
STAGES = ("predict", "policy", "sense", "monitor", "update", "link", "control")
KINDS = ("raise", "stall", "nan", "late")
Kind = Literal["raise", "stall", "nan", "late"]


@dataclass(frozen=True)
class StageFault:
    """An injected failure of a stage.

    Args:
        stage: one of `STAGES`.
        kind: "raise" an exception, "stall" (never answer; a watchdog ends it), "nan" in the result, or "late".
        probability: per agent and tick; an exception takes the whole batch with it.
        start, duration: seconds.
        late_us: how late.
    """

    stage: str
    kind: Kind
    probability: float = 1.0
    start: float = 0.0
    duration: float = float("inf")
    late_us: int = 60_000

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ArgumentError(f"stage must be one of {', '.join(STAGES)}, got {self.stage!r}"
                                f"{nearest(str(self.stage), STAGES)}")  # fmt: skip
        if self.kind not in KINDS:
            raise ArgumentError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.probability <= 1 or self.start < 0 or not self.duration >= 0 or self.late_us < 0:
            raise ArgumentError("expected probability in [0, 1], start, duration and late_us >= 0")

    def active(self, time_us: int) -> bool:
        """Whether it is there at this time."""
        return self.start * 1e6 <= time_us < (self.start + self.duration) * 1e6


class InjectedError(RuntimeError):
    """What an injected "raise" raises; nothing outside the loop ever sees it."""


@dataclass(frozen=True)
class Incident:
    """A stage that failed: when, how, for how many agents, and what was said."""

    time_us: int
    stage: str
    kind: str
    agents: int
    message: str = ""


class Guard:
    """Calls stages. Counts incidents, keeps the first `limit` of them in full.

    Args:
        injected: failures to inject.
        strict: let exceptions through instead (for debugging a stage of one's own).
        watchdog_us: a stage that has not answered by then is given up.
    """

    def __init__(
        self, injected: Sequence[StageFault] = (), strict: bool = False, watchdog_us: int = 80_000, limit: int = 1000
    ) -> None:
        self.injected, self.strict, self.watchdog_us, self.limit = tuple(injected), strict, watchdog_us, limit
        self.incidents: list[Incident] = []
        self.counts: dict[tuple[str, str], int] = {}

    def reset(self, rows: int, random: Randomness) -> None:
        """Begin a batch."""
        self._rows, self._random = rows, random

    def call(self, stage: str, time_us: int, function: Callable[[], T], fallback: Callable[[], T],
             active: Tensor | None = None) -> tuple[T, Tensor, Tensor]:  # fmt: skip
        """Run one stage.

        Returns its result (rows that cannot be used come from `fallback`), which rows failed, and how many
        microseconds late each row is. `active`: rows whose failures are worth a report.
        """
        late = torch.zeros(self._rows, dtype=torch.int64)
        failed = torch.zeros(self._rows, dtype=torch.bool)
        watched = torch.ones_like(failed) if active is None else active
        try:
            struck = self._strike(stage, time_us)
            if bool(struck["raise"].any()):
                raise InjectedError("injected")
            result = function()
        except Exception as error:
            if self.strict and not isinstance(error, InjectedError):
                raise
            self._note(time_us, stage, "raise", int(watched.sum()), f"{type(error).__name__}: {error}")
            return fallback(), ~failed, late
        if bool(struck["nan"].any()):
            result = poison(result, struck["nan"])
        bad = unusable(result, self._rows)
        failed |= struck["stall"] | bad
        late = torch.where(struck["stall"], self.watchdog_us, struck["late_us"])
        over = (late >= self.watchdog_us) & ~struck["stall"]
        failed |= over
        late = late.clamp(max=self.watchdog_us)
        for kind, rows in (
            ("nan", bad), ("stall", struck["stall"] | over), ("late", (struck["late_us"] > 0) & ~over),
        ):  # fmt: skip
            if bool((rows & watched).any()):
                self._note(time_us, stage, kind, int((rows & watched).sum()))
        if bool(failed.any()):
            result = choose_rows(failed, fallback(), result)
        return result, failed, late

    def _strike(self, stage: str, time_us: int) -> dict[str, Tensor]:
        none = torch.zeros(self._rows, dtype=torch.bool)
        struck = {kind: none.clone() for kind in KINDS}
        struck["late_us"] = torch.zeros(self._rows, dtype=torch.int64)
        for number, fault in enumerate(self.injected):
            if fault.stage != stage:
                continue
            draw = self._random.uniform(f"stage:{number}")  # drawn at every tick, so that times do not shift the rest
            if fault.active(time_us):
                chosen = draw < fault.probability
                struck[fault.kind] |= chosen
                if fault.kind == "late":
                    struck["late_us"] += torch.where(chosen, fault.late_us, 0)
        return struck

    def _note(self, time_us: int, stage: str, kind: str, agents: int, message: str = "") -> None:
        if agents == 0:
            return
        self.counts[stage, kind] = self.counts.get((stage, kind), 0) + agents
        if len(self.incidents) < self.limit:
            self.incidents.append(Incident(time_us, stage, kind, agents, message[:300]))


def _tensors(value: Any) -> list[tuple[str, Tensor]]:
    """The tensors that a stage gave: of a dataclass, a tuple of them, or itself."""
    if isinstance(value, Tensor):
        return [("", value)]
    if isinstance(value, tuple):
        return [pair for part in value for pair in _tensors(part)]
    if dataclasses.is_dataclass(value):
        found: list[tuple[str, Tensor]] = []
        for field in dataclasses.fields(value):
            found += [(name or field.name, entry) for name, entry in _tensors(getattr(value, field.name))]
        return found
    return []


def unusable(value: Any, rows: int) -> Tensor:
    """Rows with a NaN, or an infinity where that means nothing; ages may be infinite."""
    bad = torch.zeros(rows, dtype=torch.bool)
    for name, tensor in _tensors(value):
        if tensor.is_floating_point() and tensor.dim() and len(tensor) == rows:
            wrong = torch.isnan(tensor) if name == "age_s" else ~torch.isfinite(tensor)
            bad |= wrong.flatten(1).any(1) if tensor.dim() > 1 else wrong
    return bad


def _map(function: Callable[..., Tensor], value: Any, *others: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value, *others)
    if isinstance(value, tuple):
        return tuple(_map(function, *parts) for parts in zip(value, *others, strict=True))
    if dataclasses.is_dataclass(value):
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            entries = [getattr(part, field.name) for part in (value, *others)]
            if all(e is not None and type(e) is type(entries[0]) for e in entries):
                changed[field.name] = _map(function, *entries)
        return dataclasses.replace(cast("Any", value), **changed)
    return value


def poison(value: Any, rows: Tensor) -> Any:
    """NaN in the given rows of every floating-point tensor."""

    def spoil(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or not tensor.dim() or len(tensor) != len(rows):
            return tensor
        return torch.where(_shaped(rows, tensor), torch.nan, tensor)

    return _map(spoil, value)


def choose_rows(rows: Tensor, first: Any, second: Any) -> Any:
    """`first` in the given rows, `second` elsewhere."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        if not a.dim() or len(a) != len(rows) or a.shape != b.shape:
            return b
        return torch.where(_shaped(rows, a), a, b)

    return _map(choose, first, second)


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.dim() - 1))
