"""What a count says: one row a synaptic layer, one a neuron layer, totals; all figures are means per sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ranvier.measure.synaptic import OpKind
from ranvier.measure.values import SPIKES, InputClass


@dataclass(frozen=True)
class Operand:
    """What enters an op on one side. Sums are per sample and over all time steps.

    `count` is Σ|value|/scale (0 for real values). `from_synapses` marks the bare result of another synaptic op, as
    Kᵀ V is. `one_bits` is the share of one-bits in the quantised mean over time, where `count` was told a width.
    """

    input_class: InputClass
    scale: float
    max_count: int
    elements: float
    nonzero: float
    count: float
    from_synapses: bool = False
    one_bits: float | None = None

    @property
    def density(self) -> float:
        """Share of the elements that are not zero: the firing rate of what enters."""
        return self.nonzero / self.elements if self.elements else 0.0

    @property
    def spikes(self) -> bool:
        """Whether the values are {0, 1} or {-1, 0, 1}."""
        return self.input_class in SPIKES


@dataclass(frozen=True)
class Row:
    """One synaptic op of one module: a layer with weights, or a product of two activations (`other` is set).

    Per sample, summed over the T steps:
    `synops`: additions that non-zero inputs cause, Σ 1[x≠0]·fan (products: pairs where both factors are not zero).
    `unrolled`: the same when a count of n is n events, Σ |x|/scale·fan; None for real values.
    `macs_dense`: multiply-accumulates of the dense op, none for padding: of all-ones input, synops = macs_dense.
    `macs_padded`: the same with the multiplications by padding, outputs × fan-in, as publications count.
    `macs_dense_once`: macs_dense of one step where the input does not change over time (`static`), else macs_dense.
    `outputs`: output elements. `spikes_out`: non-zero outputs of the neuron layer behind, None where there is none.
    `weights` and `inputs_per_step`, `outputs_per_step` are plain sizes; `fan_channels` the outputs a weight row feeds;
    `channels` are its output features; `kernel` and `stride` those of a convolution.
    """

    name: str
    module: str
    op: OpKind
    input: Operand
    other: Operand | None
    synops: float
    unrolled: float | None
    macs_dense: float
    macs_padded: float
    macs_dense_once: float
    outputs: float
    spikes_out: float | None
    weights: int
    bias: bool
    fan_channels: int
    static: bool
    calls: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    channels: int = 0

    @property
    def input_class(self) -> InputClass:
        """Class of what enters; of a product, of its more spike-like factor, which is the one that gates additions."""
        if self.other is None or _RANK[self.input.input_class] <= _RANK[self.other.input_class]:
            return self.input.input_class
        return self.other.input_class

    @property
    def entering(self) -> str:
        """What enters, in words: `binary`, `integer (0..4)·0.25`, `binary × integer`."""
        if self.other is not None:
            return f"{_words(self.input)} × {_words(self.other)}"
        return _words(self.input)

    @property
    def density(self) -> float:
        """Share of non-zero inputs; of a product, of its sparser factor."""
        if self.other is None:
            return self.input.density
        return min(self.input.density, self.other.density)

    @property
    def additions_only(self) -> bool:
        """Whether spikes gate every product, so that accumulations suffice."""
        return self.input.spikes or (self.other is not None and self.other.spikes)


_RANK = {"binary": 0, "ternary": 1, "integer": 2, "real": 3}


def _words(operand: Operand) -> str:
    if operand.input_class != "integer":
        return operand.input_class
    scale = "" if operand.scale == 1 else f"·{operand.scale:.4g}"
    return f"integer (≤ {operand.max_count}){scale}"


@dataclass(frozen=True)
class NeuronRow:
    """One neuron layer: `density` per step (share of neurons that fire), `mean_count` spikes a neuron and step.

    `neurons` is the size of the layer, `silent` the share that never fired in the run (None where sizes varied),
    `spikes` the non-zero outputs per sample, `priced_as` the class whose arithmetic stands for this
    one's (None: unknown).
    """

    name: str
    neuron: str
    priced_as: str | None
    input_class: InputClass
    neurons: float
    steps: int
    density: tuple[float, ...]
    mean_count: float
    silent: float | None
    spikes: float

    @property
    def rate(self) -> float:
        """Mean share of neurons that fire in a step."""
        return sum(self.density) / len(self.density) if self.density else 0.0


@dataclass(frozen=True)
class NormRow:
    """One batch norm: elements per sample, and whether it folds into the weights right before it."""

    name: str
    elements: float
    folded: bool


@dataclass(frozen=True)
class Totals:
    """Sums over the rows, and the spikes of all neuron layers."""

    synops: float
    macs_dense: float
    macs_dense_once: float
    weights: int
    spikes: float


@dataclass(frozen=True)
class Report:
    """The result of `ranvier.measure.count`.

    `elementwise` gives, per aten op outside the neurons, the output elements per sample that no row counts;
    `unseen` names calls of ops that hide multiplications (fused recurrent layers, say): the rows lack them.
    """

    rows: tuple[Row, ...]
    neurons: tuple[NeuronRow, ...]
    norms: tuple[NormRow, ...]
    elementwise: dict[str, float]
    unseen: tuple[str, ...]
    samples: int
    T: int

    @property
    def totals(self) -> Totals:
        """Sums over all rows."""
        return Totals(
            synops=sum(row.synops for row in self.rows),
            macs_dense=sum(row.macs_dense for row in self.rows),
            macs_dense_once=sum(row.macs_dense_once for row in self.rows),
            weights=sum(row.weights for row in self.rows),
            spikes=sum(row.spikes for row in self.neurons),
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        document = asdict(self)
        for shown, row in zip(document["rows"], self.rows, strict=True):
            shown.update(
                input_class=row.input_class, entering=row.entering, density=row.density,
                additions_only=row.additions_only,
            )  # fmt: skip
        for shown, neuron in zip(document["neurons"], self.neurons, strict=True):
            shown["rate"] = neuron.rate
        document["totals"] = asdict(self.totals)
        return _plain(document)

    def table(self) -> Any:
        """The layers as a `rich.table.Table` (needs the extra `cli`)."""
        from ranvier.measure.table import report_table

        return report_table(self)


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
