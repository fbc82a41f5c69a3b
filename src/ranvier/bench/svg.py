"""Charts as inline SVG: no script, no network, colours from the page's own style sheet.

Text passes through `markupsafe.escape`; every chart has a `role="img"` and a label that says what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A scale from data to pixels: linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = math.log10(value) if self.log else value
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside the axis: 1-2-5 steps, or 1, (2, 5 where there is room) of each decade."""
        if not self.log:
            return _linear_ticks(self.low, self.high, wanted)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for parts in ((1,), (1, 3), (1, 2, 5)):
            values = [part * 10.0**decade for decade in decades for part in parts]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) >= 3:
                return inside[:: math.ceil(len(inside) / 8)]
        # less than a decade in view: plain round values spread evenly enough
        return [value for value in _linear_ticks(self.low, self.high, wanted) if value > 0]


def _linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(wanted, 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.08, floor: float | None = None, cap: float | None = None) -> Point:
    """Lowest and highest of `values` with some air around them, inside `floor` and `cap`."""
    given = list(values)
    low, high = min(given), max(given)
    air = (high - low) * share or abs(high) * share or 1.0
    low, high = low - air, high + air
    return (max(low, floor) if floor is not None else low, min(high, cap) if cap is not None else high)


@dataclass
class Canvas:
    """SVG elements under construction."""

    width: float
    height: float
    label: str
    parts: list[Markup] = field(default_factory=list)

    def add(self, tag: str, content: str | Markup | None = None, **attributes: object) -> None:
        """Append one element; underscores in attribute names become dashes, `class_` becomes `class`."""
        names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
        pairs = Markup("").join(Markup(' {}="{}"').format(names[k], _number(v)) for k, v in attributes.items())
        body = Markup("/>") if content is None else Markup(">{}</{}>").format(content, Markup(tag))
        self.parts.append(Markup("<{}{}{}").format(Markup(tag), pairs, body))

    def text(self, x: float, y: float, content: str, class_: str = "", anchor: str = "start", **more: object) -> None:
        self.add("text", content, x=x, y=y, class_=class_ or "tick", text_anchor=anchor, **more)

    def line(self, points: Sequence[Point], class_: str) -> None:
        self.add("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)

    def raw(self, markup: Markup) -> None:
        self.parts.append(markup)

    def render(self, class_: str = "chart") -> Markup:
        return Markup(
            '<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
        ).format(
            class_, _number(self.width), _number(self.height), _number(self.width), _number(self.height),
            self.label, Markup("").join(self.parts),
        )  # fmt: skip


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def titled(mark: Markup, title: str) -> Markup:
    """A group with a tooltip."""
    return Markup("<g><title>{}</title>{}</g>").format(title, mark)


def band(canvas: Canvas, upper: Sequence[Point], lower: Sequence[Point], class_: str) -> None:
    """A filled area between two lines."""
    points = [*upper, *reversed(lower)]
    canvas.add("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def frame(canvas: Canvas, x: Axis, y: Axis, x_title: str, y_title: str, x_format: object, y_format: object) -> None:
    """Grid lines, tick labels and axis titles."""
    assert callable(x_format) and callable(y_format)
    for value in y.ticks(5):
        canvas.add("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid")
        canvas.text(x.start - 8, y(value) + 4, str(y_format(value)), anchor="end")
    canvas.add("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis")
    for value in x.ticks(6 if x.end - x.start > 380 else 5):
        canvas.add("line", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4, class_="axis")
        canvas.text(x(value), y.start + 18, str(x_format(value)), anchor="middle")
    canvas.text((x.start + x.end) / 2, y.start + 38, x_title, "axis-title", "middle")
    canvas.text(x.start - 8, y.end - 12, y_title, "axis-title", "start" if x.start < 60 else "middle")


__all__ = ["Axis", "Canvas", "Markup", "Point", "band", "escape", "frame", "padded", "titled"]
