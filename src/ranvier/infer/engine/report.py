"""What a compiled net consists of, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.infer.engine.engine import Engine


@dataclass(frozen=True)
class Layer:
    """One instruction. `density`: share of its inputs that is not zero, `event_us` and `dense_us`: its time in a step
    (all measured in calibration; None where it was not, or where there is no such variant). `additions`: what a step
    costs at that density when it runs event-driven."""

    where: str
    operation: str
    choice: str
    inputs: int
    outputs: int
    density: float | None
    event_us: float | None
    dense_us: float | None
    additions: float | None


@dataclass(frozen=True)
class Report:
    """A compiled net. `equivalence` compares it with the graph: steps, largest difference, and in which precision."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str
    bytes: int
    calibration_steps: int
    layers: tuple[Layer, ...]
    equivalence: dict[str, Any] | None

    @classmethod
    def of(cls, engine: Engine) -> Report:
        """The report of `engine`."""
        rows: list[Layer] = []
        for op in engine.ops:
            if op.code in ("copy", "events", "pack"):
                continue
            share = op.density
            size = 0 if op.source is None else op.source.size
            rows.append(Layer(
                op.where, op.code + (f" ({op.note})" if op.note else ""), "event" if op.choice == "only" and op.work
                else op.choice, size, 0 if op.made is None else op.made.size, share,
                op.times.get("event"), op.times.get("dense"), None if share is None or not op.work
                else share * size * op.work,
            ))  # fmt: skip
        return cls(
            engine.input_shape, engine.output_shape, str(engine.dtype), engine.nbytes,
            engine.notes.get("steps", 0), tuple(rows), engine.notes.get("equivalence"),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"input {self.input_shape}, output {self.output_shape}, {self.dtype}, {self.bytes / 1e6:.2f} MB; "
            f"calibrated on {self.calibration_steps} steps",
            f"{'layer':40} {'operation':22} {'runs':6} {'density':>8} {'event µs':>9} {'dense µs':>9} "
            f"{'additions':>10}",
        ]
        for row in self.layers:
            numbers = [
                "" if row.density is None else f"{100 * row.density:.2f} %",
                *("" if v is None else f"{v:.2f}" for v in (row.event_us, row.dense_us)),
                "" if row.additions is None else f"{row.additions:.0f}",
            ]
            choice = "" if row.choice == "only" else row.choice
            lines.append(
                f"{row.where[-40:]:40} {row.operation:22} {choice:6} "
                f"{numbers[0]:>8} {numbers[1]:>9} {numbers[2]:>9} {numbers[3]:>10}"
            )
        if self.equivalence is not None:
            found = self.equivalence
            lines.append(
                f"against the graph: {found['steps']} steps, outputs differ by {found['max_difference']:.3g} at most "
                f"({found['dtype']})"
            )
        return "\n".join(lines)
