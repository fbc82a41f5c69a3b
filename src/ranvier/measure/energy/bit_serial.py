"""The quantised twin of a net: the same layers without time, multiplied bit by bit."""

from __future__ import annotations

from ranvier.errors import ArgumentError
from ranvier.measure.bits import check_bits
from ranvier.measure.energy.closed import bit_serial_pj
from ranvier.measure.energy.estimate import BitSerialEnergy, LayerEnergy
from ranvier.measure.energy.horowitz import bit_energy, op_energy
from ranvier.measure.energy.traffic import LayerLoad, Widths, tiled_bits
from ranvier.measure.report import Report, Row


def bit_serial(
    report: Report,
    bits: int = 4,
    *,
    compute: str = "fp32",
    ones: float | None = None,
    memory: str | float | None = None,
) -> BitSerialEnergy:
    """Energy of one inference of the quantised, formal twin of a net on bit-serial hardware, in pJ.

    Every product of one dense pass is up to `bits` shift-adds, of which those of zero bits are skipped: `F · B · ρ ·
    E_AC`, ρ being the measured share of one-bits in the activations (Shen et al., STEP, 2025). A spiking net's
    activation is the mean over time of what enters the layer, the value that its spikes stand for. Memory traffic is
    that of the tiled flow in one step, without membranes.

    Args:
        report: of `ranvier.measure.count(..., activation_bits=bits)`, unless `ones` is given.
        bits: width of activations and of stored weights, 1 to 16.
        compute: number format of an addition ("fp32" is what publications charge; "int8", "int4", ...).
        ones: ρ of all layers, in [0, 1]; default: the measured one of each.
        memory: None (compute alone), a preset of `horowitz.BIT_PJ` or pJ per bit.
    """
    check_bits(bits)
    cost = op_energy(compute)
    bit_pj = 0.0 if memory is None else bit_energy(memory)
    widths = Widths(weight=bits, activation=bits)
    layers: list[LayerEnergy] = []
    for row in report.rows:
        share = _share(row, ones)
        macs = row.macs_dense / report.T
        parts = {"bit_serial": bit_serial_pj(macs, bits, share, cost.add)}
        if memory is not None:
            moved = tiled_bits(_load(row, report.T, bits), widths)
            parts.update({f"memory.{kind}": value * bit_pj for kind, value in moved.items() if kind != "membrane"})
        layers.append(LayerEnergy(row.name, "AC", macs * bits * share, parts))
    constants: dict[str, float | str] = {
        "process": "45 nm, 0.9 V (Horowitz 2014)", "compute": cost.format, "add_pj": cost.add, "bits": bits,
    }  # fmt: skip
    if memory is not None:
        constants |= {"memory": memory if isinstance(memory, str) else "given", "bit_pj": bit_pj}
    notes = {
        "one pass over the mean of what enters over time": True,
        "the share of one-bits is given": ones is not None,
        "memory traffic is not included": memory is None,
        "batch norms are folded; activation functions, poolings and shortcuts are free": True,
    }
    return BitSerialEnergy(tuple(layers), constants, tuple(note for note, holds in notes.items() if holds))


def _share(row: Row, ones: float | None) -> float:
    share = row.input.one_bits if ones is None else ones
    if share is None:
        raise ArgumentError(
            f"layer {row.name!r}: the report has no share of one-bits; make it with "
            "ranvier.measure.count(..., activation_bits=...), or give `ones`"
        )
    return share


def _load(row: Row, T: int, bits: int) -> LayerLoad:
    inputs = (row.input.elements + (row.other.elements if row.other is not None else 0.0)) / T
    outputs = row.outputs / T
    return LayerLoad(
        synops=0.0, inputs=inputs, events=0.0, outputs=outputs, weights=row.weights, input_size=inputs,
        output_size=outputs, neurons=False, input_bits=bits, output_bits=bits,
    )  # fmt: skip
