"""Figures of claims as SVG."""

from __future__ import annotations

import math

from markupsafe import Markup

from ranvier.bench.svg import Axis, Canvas, Point, band, frame, padded
from ranvier.claims.record import FigureRecord, LineRecord

STYLES = 6
"""How many kinds of line the style sheet tells apart; further ones repeat."""

_LEFT, _TOP, _BOTTOM, _GLYPH = 64.0, 30.0, 50.0, 6.8


def draw(figure: FigureRecord, width: float = 660) -> Markup:
    """One figure, `width` pixels wide; the legend stands below the plot."""
    return _bars(figure, width) if figure.kind == "bars" else _plot(figure, width)


def _number(value: float) -> str:
    return (
        f"{value:g}"
        if value == 0 or 1e-3 <= abs(value) < 1e5
        else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    )


def _bars(figure: FigureRecord, width: float) -> Markup:
    """Horizontal bars from zero (or from the lowest value where all lie far from zero), whiskers of one s.d."""
    rows = [(line.label, *line.points[0][1:]) for line in figure.lines if line.points]
    left = min(max(len(label) for label, _, _ in rows) * _GLYPH + 14, width * 0.42)
    tops, bottoms = [m + s for _, m, s in rows], [m - s for _, m, s in rows]
    low, high = padded([*tops, *bottoms], 0.1)
    if low <= 0 or low < 0.5 * high:
        low, high = min(0.0, min(bottoms)), max(tops) * 1.06 if max(tops) > 0 else 0.0
    if low == high:
        high = low + 1.0
    tall = 26.0
    height = len(rows) * tall + _TOP + _BOTTOM
    x = Axis(low, high, left, width - 90)
    canvas = Canvas(width, height, figure.title)
    bottom = _TOP + len(rows) * tall
    for tick in x.ticks(5):
        canvas.add("line", x1=x(tick), x2=x(tick), y1=_TOP - 4, y2=bottom, class_="grid")
        canvas.text(x(tick), bottom + 16, _number(tick), anchor="middle")
    canvas.text((left + width - 90) / 2, bottom + 38, figure.y, "axis-title", "middle")
    zero = x(max(low, 0.0)) if low <= 0 else x(low)
    for index, (label, mean, sd) in enumerate(rows):
        top = _TOP + index * tall
        canvas.text(left - 8, top + 15, _short(label, left), "axis-title", "end")
        start, end = sorted((zero, x(mean)))
        canvas.add(
            "rect", x=start, y=top + 4, width=max(end - start, 0.6), height=tall - 10, class_=f"fill-{index % STYLES}"
        )
        if sd:
            canvas.add(
                "line", x1=x(mean - sd), x2=x(mean + sd), y1=top + tall / 2 - 1, y2=top + tall / 2 - 1, class_="whisker"
            )
        spread = f" ± {sd:.2g}" if sd else ""
        canvas.text(max(x(mean + sd), zero) + 7, top + 15, f"{mean:.4g}{spread}", "tick")
    return canvas.render()


def _short(label: str, left: float) -> str:
    room = int((left - 8) / _GLYPH)
    return label if len(label) <= room else label[: max(room - 1, 1)] + "…"


def _plot(figure: FigureRecord, width: float) -> Markup:
    lines = [LineRecord(label=line.label, points=_shown(figure, line)) for line in figure.lines]
    lines = [line for line in lines if line.points]
    legend = _legend_rows(lines, width)
    height = 300 + 18.0 * len(legend)
    if not lines:
        canvas = Canvas(width, 40, figure.title)
        canvas.text(8, 24, "nothing that this scale can show")
        return canvas.render()
    xs = [p[0] for line in lines for p in line.points]
    means = [p[1] for line in lines for p in line.points]
    ys = [e for line in lines for p in line.points for e in (p[1] - p[2], p[1] + p[2]) if not figure.log_y or e > 0]
    x = _axis(min(xs), max(xs), figure.log_x, _LEFT, width - 16)
    low, high = (min(ys + means), max(ys + means)) if figure.log_y else padded([*ys, *means], 0.06)
    y = _axis(low, high, figure.log_y, 300 - _BOTTOM, _TOP)
    canvas = Canvas(width, height, figure.title)
    frame(canvas, x, y, figure.x, figure.y, _number, _number)
    for index, line in enumerate(lines):
        style = index % STYLES
        points: list[Point] = [(x(a), y(m)) for a, m, _ in line.points]
        if figure.kind == "lines":
            if any(s for _, _, s in line.points):
                floor = y.low
                upper = [(x(a), y(min(m + s, y.high))) for a, m, s in line.points]
                lower = [(x(a), y(max(m - s, floor))) for a, m, s in line.points]
                band(canvas, upper, lower, f"area-{style}")
            canvas.line(points, f"line-{style}")
        if figure.kind == "scatter" or len(points) <= 14:
            for (px, py), (a, m, s) in zip(points, line.points, strict=True):
                mark = Canvas(0, 0, "")
                mark.add("title", f"{line.label}: {a:g}, {m:.4g}" + (f" ± {s:.2g}" if s else ""))
                mark.add("circle", cx=px, cy=py, r=3.2, class_=f"mark-{style}")
                canvas.add("g", Markup("").join(mark.parts))
    for row, entries in enumerate(legend):
        at = _LEFT
        for index, label in entries:
            level = 300 + 18.0 * row + 8
            canvas.line([(at, level), (at + 18, level)], f"line-{index % STYLES}")
            canvas.text(at + 24, level + 4, label, "tick")
            at += 24 + len(label) * _GLYPH + 18
    return canvas.render()


def _shown(figure: FigureRecord, line: LineRecord) -> list[tuple[float, float, float]]:
    """A logarithm shows what is above zero only."""
    return [p for p in line.points if (not figure.log_x or p[0] > 0) and (not figure.log_y or p[1] > 0)]


def _axis(low: float, high: float, log: bool, start: float, end: float) -> Axis:
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    if log and high / low < 3:
        middle = math.sqrt(low * high)
        low, high = min(low, middle / 1.8), max(high, middle * 1.8)
    return Axis(low, high, start, end, log)


def _legend_rows(lines: list[LineRecord], width: float) -> list[list[tuple[int, str]]]:
    if len(lines) < 2:
        return []
    rows: list[list[tuple[int, str]]] = [[]]
    used = _LEFT
    for index, line in enumerate(lines):
        label = line.label if len(line.label) <= 40 else line.label[:39] + "…"
        wide = 42 + len(label) * _GLYPH
        if rows[-1] and used + wide > width:
            rows.append([])
            used = _LEFT
        rows[-1].append((index, label))
        used += wide
    return rows
