"""The report's figures, from results to SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ranvier.bench import quantity
from ranvier.bench.result import Epoch, Raster, Result
from ranvier.bench.score import Score, score
from ranvier.bench.summary import Cost, Row, Spread, pareto_front
from ranvier.bench.svg import Axis, Canvas, Point, band, frame, padded

_LEFT, _TOP, _BOTTOM = 46.0, 30.0, 50.0
_GLYPH = 6.6  # pixels a character of a 12 px label takes, on the generous side

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CostAxis:
    """What a Pareto plot has on its x axis: a figure of a row, its name, and how its values read."""

    name: str
    value: Cost
    text: Callable[[float], str]


ENERGY = CostAxis("Energy of one inference, as built", lambda row: row.energy, quantity.energy)
SYNOPS = CostAxis("Synaptic operations of one sample", lambda row: row.synops, quantity.engineering)


def energy_axis(model: str, title: str) -> CostAxis:
    """Energy by one of `ranvier.measure.energy.ENERGY_MODELS`."""
    return CostAxis(f"Energy, {title}", lambda row: row.energy_by(model), quantity.energy)


def pareto(rows: Sequence[Row], width: float = 940, height: float = 400, cost: CostAxis = ENERGY) -> Markup | None:
    """The score over a cost (log), energy as built by default; the line is the front, whiskers one deviation."""
    shown = [row for row in rows if (spread := cost.value(row)) is not None and spread.mean > 0]
    if not shown:
        return None

    def spent(row: Row) -> float:
        spread = cost.value(row)
        return spread.mean if spread is not None else 0.0

    costs = [spent(row) for row in shown]
    kind = shown[0].kind
    tops = [kind.scale * (row.score.mean + (row.score.sd or 0)) for row in shown]
    bottoms = [kind.scale * (row.score.mean - (row.score.sd or 0)) for row in shown]
    low, high = padded([*tops, *bottoms], 0.12, floor=0, cap=max(100.0, *tops) if kind.unit == "%" else None)
    x = Axis(min(costs) / 1.5, max(costs) * 1.5, _LEFT, width - 16, log=True)
    y = Axis(low, high, height - _BOTTOM, _TOP)
    label = cost.name[0].lower() + cost.name[1:]
    name = _on_test(kind)
    canvas = Canvas(width, height, f"{name} over {label} for {len(shown)} models")
    frame(canvas, x, y, cost.name, _on_test(kind, kind.unit), lambda value: _tick(cost.text(value)), _plain)
    front = pareto_front(shown, cost.value)
    best = {id(row) for row in front}
    steps: list[Point] = []
    for row in sorted(front, key=spent):
        at = (x(spent(row)), y(kind.scale * row.score.mean))
        steps += [(at[0], steps[-1][1]), at] if steps else [at]
    if len(front) > 1:
        canvas.line(steps, "front")
    taken: list[Box] = []
    for row in shown:
        px, py = x(spent(row)), y(kind.scale * row.score.mean)
        taken.append((px - 7, py - 7, px + 7, py + 7))
    for row in sorted(shown, key=lambda row: id(row) in best):  # the front is drawn last, over what it covers
        _mark(canvas, row, (spent(row), cost.text(spent(row))), id(row) in best, x, y, taken)
    return canvas.render()


def _mark(
    canvas: Canvas, row: Row, spent: tuple[float, str], on_front: bool, x: Axis, y: Axis, taken: list[Box]
) -> None:  # fmt: skip
    kind = row.kind
    px, py = x(spent[0]), y(kind.scale * row.score.mean)
    group = Canvas(0, 0, "")
    group.add("title", f"{row.label}: {quantity.shown(kind, row.score)} {kind.unit}, {spent[1]}")
    if row.score.sd:
        spread = kind.scale * row.score.sd
        ends = [y(min(y.high, max(y.low, kind.scale * row.score.mean + sign * spread))) for sign in (1, -1)]
        group.add("line", x1=px, x2=px, y1=ends[0], y2=ends[1], class_="whisker")
    group.add("circle", cx=px, cy=py, r=5.5, class_="point on-front" if on_front else "point")
    name = row.label if len(row.label) <= 32 else row.label[:31] + "…"
    place = _place(px, py, len(name) * _GLYPH, x, y, taken)
    if place is not None:
        (tx, ty, anchor), box = place
        taken.append(box)
        group.text(tx, ty, name, "point-label", anchor)
    canvas.add("a", Markup("").join(group.parts), href=row.page)


def _place(
    px: float, py: float, width: float, x: Axis, y: Axis, taken: Sequence[Box]
) -> tuple[tuple[float, float, str], Box] | None:
    """The first spot beside a point that is inside the plot and covers nothing; `None` leaves it to the tooltip."""
    candidates: list[tuple[tuple[float, float, str], Box]] = []
    for dy in (4.0, -9.0, 18.0, -22.0, 31.0):
        right, left = px + 10, px - 10
        candidates.append(((right, py + dy, "start"), (right, py + dy - 10, right + width, py + dy + 3)))
        candidates.append(((left, py + dy, "end"), (left - width, py + dy - 10, left, py + dy + 3)))
    for spot, box in candidates:
        inside = box[0] >= x.start and box[2] <= x.end + 12 and box[1] >= y.end - 14 and box[3] <= y.start
        if inside and not any(_overlap(box, other) for other in taken):
            return spot, box
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _on_test(kind: Score, unit: str = "") -> str:
    name = f"Test {kind.title[0].lower()}{kind.title[1:]}" if kind.title[1:2].islower() else f"Test {kind.title}"
    return f"{name}, {unit}" if unit else name


def _tick(text: str) -> str:
    figure, _, unit = text.partition(" ")
    return f"{float(figure):g} {unit}".strip()


def _plain(value: float) -> str:
    return f"{value:g}"


def accuracy_curves(results: Sequence[Result]) -> Markup | None:
    """Training and validation accuracy by epoch: mean line, a band from the lowest to the highest seed."""
    series = [
        ("validation", "line-a", "band-a", _by_epoch(results, lambda e: _percent(e.val_accuracy))),
        ("training", "line-b", "band-b", _by_epoch(results, lambda e: _percent(e.train_accuracy))),
    ]
    return _lines(series, "Accuracy by epoch", "Accuracy, %", "Epoch", cap=100.0)


def score_curve(results: Sequence[Result]) -> Markup | None:
    """The validation figure of nets that do not classify, by epoch."""
    kind = score(results[0].task.metric)
    values = _by_epoch(results, lambda e: None if e.val_score is None else kind.scale * e.val_score)
    series = [("validation", "line-a", "band-a", values)]
    cap = 100.0 if kind.unit == "%" else None
    return _lines(series, f"{kind.title} by epoch", kind.label, "Epoch", floor=0.0, cap=cap)


def loss_curves(results: Sequence[Result]) -> Markup | None:
    """Training and validation loss by epoch."""
    series = [
        ("validation", "line-a", "band-a", _by_epoch(results, lambda e: e.val_loss)),
        ("training", "line-b", "band-b", _by_epoch(results, lambda e: e.train_loss)),
    ]
    return _lines(series, "Loss by epoch", "Loss", "Epoch", floor=0.0)


def step_curve(results: Sequence[Result]) -> Markup | None:
    """Test accuracy when the readout stops after t steps."""
    values: dict[int, list[float]] = {}
    for result in results:
        for index, accuracy in enumerate(result.accuracy_by_step):
            values.setdefault(index + 1, []).append(100 * accuracy)
    return _lines([("test", "line-a", "band-a", values)], "Accuracy by time step", "Test accuracy, %", "Steps read",
                  cap=100.0)  # fmt: skip


Series = tuple[str, str, str, dict[int, list[float]]]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _by_epoch(results: Sequence[Result], value: Callable[[Epoch], float | None]) -> dict[int, list[float]]:
    collected: dict[int, list[float]] = {}
    for result in results:
        for epoch in result.curve:
            figure = value(epoch)
            if figure is not None:
                collected.setdefault(epoch.epoch, []).append(figure)
    return dict(sorted(collected.items()))


def _lines(
    series: Sequence[Series], label: str, y_title: str, x_title: str,
    floor: float | None = None, cap: float | None = None, width: float = 390, height: float = 280,
) -> Markup | None:  # fmt: skip
    present = [entry for entry in series if entry[3]]
    if not present:
        return None
    everything = [value for entry in present for values in entry[3].values() for value in values]
    positions = [at for entry in present for at in entry[3]]
    low, high = padded(everything, 0.06, floor, cap)
    first, last = min(positions), max(positions)
    x = Axis(first - (0.5 if first == last else 0), last + (0.5 if first == last else 0), _LEFT + 4, width - 14)
    y = Axis(low, high, height - _BOTTOM, _TOP)
    canvas = Canvas(width, height, label)
    frame(canvas, x, y, x_title, y_title, _whole, _plain)
    for _, line, area, values in present:
        if any(len(v) > 1 for v in values.values()):
            upper = [(x(at), y(max(v))) for at, v in values.items()]
            lower = [(x(at), y(min(v))) for at, v in values.items()]
            band(canvas, upper, lower, area)
        points = [(x(at), y(sum(v) / len(v))) for at, v in values.items()]
        canvas.line(points, line)
        if len(points) <= 12:
            for at, v in values.items():
                spread = Spread.of(v)
                assert spread is not None
                tip = f"{x_title} {at}: {spread.mean:.2f}" + (f" ± {spread.sd:.2f}" if spread.sd is not None else "")
                mark = Canvas(0, 0, "")
                mark.add("title", tip)
                mark.add("circle", cx=x(at), cy=y(spread.mean), r=3.2, class_=f"dot {line}")
                canvas.add("g", Markup("").join(mark.parts))
    if len(present) > 1:
        _legend(canvas, [(entry[0], entry[1]) for entry in present], width)
    return canvas.render()


def _whole(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else ""


def _legend(canvas: Canvas, entries: Sequence[tuple[str, str]], width: float) -> None:
    at = width - 14
    for name, line in reversed(entries):
        at -= len(name) * _GLYPH
        canvas.text(at, _TOP - 13, name, "tick")
        canvas.line([(at - 22, _TOP - 17), (at - 6, _TOP - 17)], line)
        at -= 38


def raster(spikes: Raster, width: float = 660) -> Markup:
    """Spikes of one layer for one sample: steps run down, neurons across; counts above one are darker."""
    columns = max((len(row) for row in spikes.steps), default=0)
    steps = len(spikes.steps)
    tall = 14.0 if steps <= 8 else 9.0 if steps <= 20 else 5.0
    left = 24.0
    pitch = (width - left) / max(columns, 1)
    canvas = Canvas(width, steps * tall + 2, f"Spikes of layer {spikes.layer}: {steps} steps, {columns} neurons")
    canvas.add("rect", x=left, y=0, width=width - left, height=steps * tall, class_="raster-ground")
    every = 1 if tall >= 9 else 5
    paths: dict[str, list[str]] = {"spike": [], "spike many": []}
    for step, row in enumerate(spikes.steps):
        if step % every == 0:
            canvas.text(left - 6, step * tall + tall / 2 + 4, str(step + 1), "raster-tick", "end")
        for neuron, digit in enumerate(row):
            if digit != "0":
                wide = max(pitch * 0.72, 0.8)
                corner = f"M{left + (neuron + 0.14) * pitch:.1f} {step * tall + 1:.1f}"
                paths["spike" if digit == "1" else "spike many"].append(
                    f"{corner}h{wide:.1f}v{tall - 2:.1f}h-{wide:.1f}z"
                )
    for class_, path in paths.items():
        if path:
            canvas.add("path", d="".join(path), class_=class_)
    return canvas.render("chart raster")
