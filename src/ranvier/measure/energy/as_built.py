"""Energy as built: spikes cost additions, everything else the multiplications that dense code performs."""

from __future__ import annotations

from typing import Any, Literal

from ranvier.errors import ArgumentError, nearest
from ranvier.measure.energy.estimate import AsBuiltEnergy, LayerEnergy, OpClass
from ranvier.measure.energy.horowitz import OpEnergy, bit_energy, op_energy
from ranvier.measure.energy.neuron_ops import NEURON_OPS
from ranvier.measure.energy.traffic import LayerLoad, Membrane, Widths, event_bits, tiled_bits
from ranvier.measure.report import Operand, Report, Row

Flow = Literal["event", "tiled"]
Counts = Literal["mac", "unrolled"]


def as_built(
    report: Report,
    compute: str = "fp32",
    *,
    widths: Widths | None = None,
    memory: str | float | None = None,
    flow: Flow = "tiled",
    membrane: Membrane = "step",
    weights_resident: bool = True,
    counts: Counts = "mac",
    zero_skip: bool = False,
    stem_once: bool = False,
    neurons: bool = True,
) -> AsBuiltEnergy:
    """Energy of one inference from a `Report`, in pJ.

    A layer that spikes enter ({0, 1} or {-1, 0, 1}; of a product of activations, on one side at least) costs one
    addition a synaptic operation. Any other layer costs one multiply-accumulate for every product of the dense op.

    Args:
        report: of `ranvier.measure.count`.
        compute: number format of the arithmetic: "fp32", "fp16", "int8", "int32", or an interpolated width ("int4").
        widths: bit widths in memory; default that of `compute` for all three.
        memory: None (compute alone), a preset of `horowitz.BIT_PJ` ("step", "sram_1mb", ...) or pJ per bit.
        flow: "tiled" (ideal reuse) or "event"; which traffic is charged. Both are in `traffic_bits`.
        membrane: in the event flow, state updates once a "step" or at every "event".
        weights_resident: in the tiled flow, whether weights are read once, or in each of the T steps.
        counts: counts cost "mac"s like real values, or are "unrolled" into n additions.
        zero_skip: charge real and counted input by its non-zero values (hardware that skips zeros).
        stem_once: charge a layer whose input does not change over time for one step.
        neurons: charge the arithmetic of the neurons.
    """
    for name, value, known in (("flow", flow, ("event", "tiled")), ("counts", counts, ("mac", "unrolled"))):
        if value not in known:
            raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}")
    cost = op_energy(compute)
    widths = widths or Widths(cost.bits, cost.bits, cost.bits)
    bit_pj = 0.0 if memory is None else bit_energy(memory)
    traffic: dict[str, dict[str, float]] = {"event": {}, "tiled": {}}
    layers: list[LayerEnergy] = []
    for row in report.rows:
        op_class, ops = _operations(row, counts, zero_skip, stem_once)
        parts = {op_class.lower(): ops * (cost.add if op_class == "AC" else cost.mac)}
        load = _load(row, report.T, widths)
        loads = 1 if weights_resident or (stem_once and row.static) else report.T
        moved = {"event": event_bits(load, widths, membrane), "tiled": tiled_bits(load, widths, loads)}
        for name, bits in moved.items():
            for kind, value in bits.items():
                traffic[name][kind] = traffic[name].get(kind, 0.0) + value
        if memory is not None:
            parts.update({f"memory.{kind}": bits * bit_pj for kind, bits in moved[flow].items()})
            if flow == "event":
                parts["addressing"] = _addressing(row)
        layers.append(LayerEnergy(row.name, op_class, ops, parts))
    for norm in report.norms:
        if not norm.folded:
            layers.append(LayerEnergy(norm.name, "MAC", norm.elements, {"norm": norm.elements * cost.mac}))
    if neurons:
        layers += _neurons(report, cost)
    return AsBuiltEnergy(
        layers=tuple(layers),
        constants=_constants(cost, widths, memory, bit_pj, flow, membrane),
        assumptions=_assumptions(
            report, cost, memory is not None, counts, zero_skip, stem_once, neurons, weights_resident
        ),
        traffic_bits=traffic,
    )


def _operations(row: Row, counts: Counts, zero_skip: bool, stem_once: bool) -> tuple[OpClass, float]:
    if row.additions_only:
        return "AC", row.synops
    if counts == "unrolled" and row.unrolled is not None:
        return "AC", row.unrolled
    if zero_skip:
        return "MAC", row.synops
    return "MAC", row.macs_dense_once if stem_once else row.macs_dense


def _load(row: Row, T: int, widths: Widths) -> LayerLoad:
    neurons = row.spikes_out is not None
    inputs, events, bits = row.input.elements, row.input.nonzero, row.input.elements * _bits(row.input, widths)
    if row.other is not None:
        inputs, events = inputs + row.other.elements, events + row.other.nonzero
        bits += row.other.elements * _bits(row.other, widths)
    return LayerLoad(
        synops=row.synops if row.other is None else 0.0,  # a product reads no weights, its factors are the inputs
        inputs=inputs,
        events=events,
        outputs=row.outputs,
        weights=row.weights,
        input_size=inputs / T,
        output_size=row.outputs / T,
        events_out=row.spikes_out or 0.0,
        bias=row.bias,
        neurons=neurons,
        input_bits=bits / inputs if inputs else 1.0,
        event_payload=max(_payload(row.input, widths), _payload(row.other, widths) if row.other else 0),
        output_bits=1 if neurons else widths.activation,
    )


def _bits(operand: Operand, widths: Widths) -> int:
    """Bits of one dense element."""
    if operand.input_class == "real":
        return widths.activation
    return {"binary": 1, "ternary": 2}.get(operand.input_class) or operand.max_count.bit_length()


def _payload(operand: Operand, widths: Widths) -> int:
    """Bits that an event carries beside its address."""
    return 0 if operand.input_class == "binary" else _bits(operand, widths)


def _addressing(row: Row) -> float:
    """Finding the synapses of an event, in 32-bit integers: an addition each, by weight row for a convolution."""
    if row.other is not None:
        return 0.0
    integer = op_energy("int32")
    if row.op == "linear":
        return row.synops * integer.add
    return row.input.nonzero * 2 * integer.mac + row.synops / max(1, row.fan_channels) * integer.add


def _neurons(report: Report, cost: OpEnergy) -> list[LayerEnergy]:
    layers: list[LayerEnergy] = []
    for row in report.neurons:
        ops = NEURON_OPS[row.priced_as or "LIF"]
        updates = row.neurons * row.steps
        terms = row.steps if ops.over_time else 1
        pj = updates * (terms * (ops.mul * cost.mul + ops.add * cost.add) + ops.compare * cost.add)
        pj += row.spikes * cost.add
        layers.append(LayerEnergy(row.name, "AC", 0.0, {"neuron": pj}))
    return layers


def _constants(
    cost: OpEnergy, widths: Widths, memory: str | float | None, bit_pj: float, flow: Flow, membrane: Membrane
) -> dict[str, float | str]:
    constants: dict[str, float | str] = {
        "process": "45 nm, 0.9 V (Horowitz 2014)",
        "compute": cost.format,
        "add_pj": cost.add,
        "mac_pj": cost.mac,
    }
    if memory is not None:
        constants |= {
            "memory": memory if isinstance(memory, str) else "given",
            "bit_pj": bit_pj,
            "flow": flow,
            "membrane": membrane,
            "weight_bits": widths.weight,
            "activation_bits": widths.activation,
            "membrane_bits": widths.membrane,
        }
    return constants


def _assumptions(
    report: Report, cost: OpEnergy, memory: bool, counts: Any, zero_skip: bool, stem_once: bool, neurons: bool,
    weights_resident: bool,
) -> tuple[str, ...]:  # fmt: skip
    unknown = sorted({row.neuron for row in report.neurons if row.priced_as is None})
    notes = {
        f"the energies of {cost.format} are interpolated": cost.interpolated,
        "memory traffic is not included": not memory,
        "weights are read in every step": memory and not weights_resident,
        "batch norms directly behind weights are folded into them": any(norm.folded for norm in report.norms),
        "counts are unrolled into unit spikes": counts == "unrolled",
        "zeros in real input are skipped": zero_skip,
        "layers with constant input run once": stem_once,
        "the arithmetic of the neurons is not included": not neurons,
        f"neurons without a table entry cost what LIF costs: {', '.join(unknown)}": neurons and bool(unknown),
        "poolings, shortcuts and other elementwise operations are free": bool(report.elementwise),
        f"operations that hide multiplications are missing: {', '.join(report.unseen)}": bool(report.unseen),
    }
    return tuple(note for note, holds in notes.items() if holds)
