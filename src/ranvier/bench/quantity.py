"""Figures as people read them: three significant digits, a unit with its prefix, a mean with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ranvier.bench.score import Score
from ranvier.bench.summary import Board, Spread

MISSING = "–"
PREFIXES = (
    ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9), ("p", 1e-12),
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One unit for a whole column, so that its figures compare at a glance."""

    unit: str
    scale: float

    @classmethod
    def of(cls, values: Iterable[float | None], unit: str = "", scale: float = 1.0) -> Column:
        """The unit that keeps the column's median at one to a thousand; `scale` turns the values into `unit`."""
        given = [abs(value * scale) for value in values if value]
        middle = statistics.median_low(given) if given else 1.0
        prefix, size = next(((p, s) for p, s in PREFIXES if middle >= s), PREFIXES[-1])
        return cls(f"{prefix}{unit}", scale / size)

    def text(self, value: float | None) -> str:
        """The figure alone, without the unit that the column's head names."""
        return MISSING if value is None else "0" if value == 0 else significant(value * self.scale)


def shown(kind: Score, spread: Spread | None) -> str:
    """A score as its kind reads, `96.42 ± 0.31` or `2.143 ± 0.004`; a single seed has no spread."""
    if spread is None:
        return MISSING
    mean = kind.text(spread.mean)
    return mean if spread.sd is None else f"{mean} ± {kind.text(spread.sd)}"


def engineering(value: float | None, unit: str = "") -> str:
    """`1.23 M`: three digits, and the unit with the prefix that fits, from pico to tera."""
    if value is None:
        return MISSING
    if value == 0:
        return f"0 {unit}".strip()
    for prefix, scale in PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{significant(value / scale)} {prefix}{unit}".strip()
    return f"{value:.2e} {unit}".strip()


def energy(picojoules: float | None) -> str:
    """Picojoules with the prefix that fits."""
    return engineering(None if picojoules is None else picojoules * 1e-12, "J")


def seconds(value: float | None) -> str:
    """`12.3 s`, `4 min 05 s` or `2 h 10 min`."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float | None) -> str:
    """`0.52 ms`."""
    return MISSING if value is None else f"{significant(value)} ms"


def plain(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return MISSING if value is None else significant(value)


def significant(value: float, digits: int = 3) -> str:
    """`value` with three significant digits and no exponent."""
    rounded = float(f"{value:.{digits}g}")
    size = abs(rounded)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{rounded:.{decimals}f}"


def mean(spread: Spread | None) -> float | None:
    """The mean, where there is one."""
    return None if spread is None else spread.mean


def columns(board: Board) -> dict[str, Column]:
    """The units of a leaderboard's columns: params, synops, energy (as built) and paper (energy, in its own table)."""
    return {
        "params": Column.of(row.first.model.params for row in board.rows),
        "synops": Column.of(mean(row.synops) for row in board.rows),
        "energy": Column.of((mean(row.energy) for row in board.rows), "J", 1e-12),
        "paper": Column.of((mean(row.paper_energy) for row in board.rows), "J", 1e-12),
    }
