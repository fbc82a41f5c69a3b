"""Which layers really receive spikes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from ranvier.errors import ArgumentError, nearest
from ranvier.measure.batches import Batches
from ranvier.measure.count import count
from ranvier.measure.report import Report, Row

Verdict = Literal["spikes", "encoder", "violation", "silent"]

_REAL_VALUED_OPS = {
    "_softmax": "softmax", "softmax": "softmax", "gelu": "GELU", "silu": "SiLU", "sigmoid": "sigmoid", "tanh": "tanh",
    "native_layer_norm": "layer norm", "native_group_norm": "group norm", "relu": "ReLU", "exp": "exponential",
}  # fmt: skip


@dataclass(frozen=True)
class AuditRow:
    """One synaptic layer: what enters it, how densely, and the verdict.

    "spikes": nothing but spikes (a product of activations: spikes on one side, so that additions suffice). "encoder":
    the layer that takes the analog image. "silent": only zeros entered, so the run says nothing about it.
    """

    name: str
    op: str
    entering: str
    density: float
    verdict: Verdict


@dataclass(frozen=True)
class Audit:
    """The result of `ranvier.measure.audit`. `notes` names real-valued operations outside the synaptic layers."""

    rows: tuple[AuditRow, ...]
    notes: tuple[str, ...]
    samples: int
    T: int

    @property
    def violations(self) -> tuple[str, ...]:
        """Names of the layers that receive something other than spikes, the encoder layer aside."""
        return tuple(row.name for row in self.rows if row.verdict == "violation")

    @property
    def silent(self) -> tuple[str, ...]:
        """Names of the layers that nothing entered: with other input they may receive anything."""
        return tuple(row.name for row in self.rows if row.verdict == "silent")

    @property
    def spike_driven(self) -> bool:
        """Whether spikes enter at least one layer and no layer violates."""
        return not self.violations and any(row.verdict == "spikes" for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON-ready values."""
        return {
            "spike_driven": self.spike_driven,
            "violations": list(self.violations),
            "silent": list(self.silent),
            "layers": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
            "samples": self.samples,
            "T": self.T,
        }

    def __str__(self) -> str:
        cells = [_cells(row) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), self.summary()])

    def summary(self) -> str:
        """The verdict in one line."""
        if self.spike_driven:
            found = "spike-driven: every layer behind the encoder receives spikes"
        elif self.violations:
            found = f"not spike-driven: {len(self.violations)} of {len(self.rows)} layers receive other values"
        else:
            found = "not spike-driven: no layer received a spike"
        return found + (f" ({len(self.silent)} received nothing in this run)" if self.silent else "")

    def table(self) -> Any:
        """The layers as a `rich.table.Table` (needs the extra `cli`)."""
        from ranvier.measure.table import audit_table

        return audit_table(self)


def _cells(row: AuditRow) -> tuple[str, ...]:
    return row.name, row.op, row.entering, f"{row.density:.2%}", row.verdict


def audit(
    model: nn.Module,
    x: Batches | Report,
    *,
    encoder: Sequence[str] | None = None,
    allow_counts: bool = False,
    **options: Any,
) -> Audit:
    """Run `model` on `x` and say for each synaptic layer what enters it: spikes, counts or real values.

    The verdict rests on the values of this run, so give it real data and enough of it.

    Args:
        model: any module, in any mode; it is run in eval mode and left as it was.
        x: a batch, an iterable of batches, or a `Report` of this net.
        encoder: names of the layers that may take analog input; default the first layer with weights. Pass () for none.
        allow_counts: accept integer counts (a neuron that emits n, to be unrolled into n spikes) like spikes.
        options: `T`, `samples`, `time_first`, `max_batches`, `max_count` as in `count`.
    """
    if isinstance(x, Report):
        if options:
            raise ArgumentError(f"a finished report takes no {', '.join(options)}: pass them to count")
        report = x
    else:
        report = count(model, x, **options)
    names = [row.name for row in report.rows]
    if encoder is None:
        encoder = [row.name for row in report.rows if row.other is None][:1]
    elif isinstance(encoder, str):
        raise ArgumentError(f"encoder must be a sequence of layer names, got the string {encoder!r}")
    for name in encoder:
        if name not in names:
            raise ArgumentError(f"encoder: no layer {name!r} in the net{nearest(name, names)}")
    rows = tuple(
        AuditRow(row.name, row.op, row.entering, row.density, _verdict(row, row.name in encoder, allow_counts))
        for row in report.rows
    )
    notes = [f"{shown} on real values" for op, shown in _REAL_VALUED_OPS.items() if op in report.elementwise]
    notes += [f"{norm.name}: batch norm cannot be folded into weights" for norm in report.norms if not norm.folded]
    notes += [f"{hidden} was not looked into" for hidden in report.unseen]
    return Audit(rows, tuple(dict.fromkeys(notes)), report.samples, report.T)


def _verdict(row: Row, encoder: bool, allow_counts: bool) -> Verdict:
    operands = [row.input] if row.other is None else [row.input, row.other]
    if row.synops == 0:
        return "silent"
    if any(operand.spikes or (allow_counts and operand.input_class == "integer") for operand in operands):
        return "spikes"
    return "encoder" if encoder else "violation"
