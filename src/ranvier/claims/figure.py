"""Figures as data: what to draw, not how. The report draws them as SVG for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ranvier.claims.spread import Spread
from ranvier.errors import ArgumentError

if TYPE_CHECKING:
    from ranvier.claims.table import Table


@dataclass(frozen=True)
class Line:
    """One curve: points `(x, mean, sd)`; `sd` is 0 where there is none."""

    label: str
    points: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, label: str, points: Sequence[tuple[float, Spread]]) -> Line:
        """From what `Table.curve` gives."""
        return cls(label, tuple((x, spread.mean, spread.sd or 0.0) for x, spread in points))


@dataclass(frozen=True)
class Figure:
    """A figure: `lines` joins points, `scatter` does not, `bars` has one point a line (its x is ignored)."""

    title: str
    lines: tuple[Line, ...]
    x: str = ""
    y: str = ""
    kind: Literal["lines", "bars", "scatter"] = "lines"
    log_x: bool = False
    log_y: bool = False
    caption: str = ""

    def __post_init__(self) -> None:
        if not any(line.points for line in self.lines):
            raise ArgumentError(f"figure {self.title!r}: expected at least one point")


def bars(table: Table, metric: str, title: str | None = None, caption: str = "") -> Figure:
    """Every arm's mean and standard deviation of one metric."""
    about = table.claim.metric(metric)
    lines: list[Line] = []
    for arm in table.claim.arms:
        spread = table.spread(metric, arm.name)
        lines.append(Line(arm.name, ((0.0, spread.mean, spread.sd or 0.0),)))
    y = f"{about.description}, {about.unit}" if about.unit else about.description
    return Figure(title or about.description, tuple(lines), y=y, kind="bars", caption=caption)


def curves(table: Table, curve: str, title: str, x: str, y: str, *, log_x: bool = False, log_y: bool = False,
           arms: Sequence[str] | None = None, caption: str = "") -> Figure:  # fmt: skip
    """One curve of every arm (or of `arms`) that has it."""
    names = list(arms) if arms is not None else [arm.name for arm in table.claim.arms]
    lines = tuple(Line.of(name, points) for name in names if (points := table.curve(curve, name)))
    return Figure(title, lines, x, y, log_x=log_x, log_y=log_y, caption=caption)
