"""The analytical model of Lemaire et al. (2022): every read, write, addition and address of an event-driven layer.

Source: E. Lemaire, L. Cordone, A. Castagnetti, P.-E. Novac, J. Courtois, B. Miramond, "An Analytical Estimation of
Spiking Neural Networks Energy Efficiency", ICONIP 2022. 45 nm; an addition of 32-bit integers costs 0.1 pJ and a
multiplication 3.1 pJ (Jouppi et al., 2021). Where the printed equations slip, the corrected term is used: the adds of a
fully connected spiking layer name N_in once too often and forget the reset, and addressing a spike of a convolution
touches k_h·k_w·C_out weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ranvier.errors import ArgumentError, nearest
from ranvier.measure.energy.estimate import LayerEnergy, LemaireEnergy, OpClass
from ranvier.measure.report import Report, Row

ADD_PJ = 0.1
MUL_PJ = 3.1
MAC_PJ = MUL_PJ + ADD_PJ
WORD_BITS = 32

_POINTS = ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))  # bytes of SRAM, pJ of one access


def linear_access(words: float, bits: int = WORD_BITS) -> float:
    """pJ of one access to a memory of `words` words of `bits` bits: `1.09e-5 · n · b + 13.2`."""
    return 1.09e-5 * words * bits + 13.2


def piecewise_access(words: float, bits: int = WORD_BITS) -> float:
    """pJ of one access, linear between 0, (8 KB, 10 pJ), (32 KB, 20 pJ) and (1 MB, 100 pJ), and beyond the last."""
    size = words * bits / 8
    (low, cost_low), (high, cost_high) = (0.0, 0.0), _POINTS[0]
    for point in _POINTS[1:]:
        if size > high:
            (low, cost_low), (high, cost_high) = (high, cost_high), point
    return cost_low + (size - low) * (cost_high - cost_low) / (high - low)


MEMORY_LAWS: dict[str, Callable[[float, int], float]] = {"linear": linear_access, "piecewise": piecewise_access}
"""What one access costs by the size of the memory."""


@dataclass(frozen=True)
class Layer:
    """One layer of the model, for one inference.

    Args:
        inputs: elements of one step's input; `outputs` of one step's output, `output_channels` of these features.
        weights: stored weights; `macs` multiply-accumulates of one dense step.
        kernel, stride: of a convolution; empty for a fully connected layer.
        fan_channels: output channels that an input reaches (C_out; with groups, those of its own group).
        spikes_in, spikes_out: spikes of the whole inference (θ).
        T: time steps.
        bias: whether every output starts from a bias, which is read in every step.
        leaky: whether the neurons leak, a multiply-accumulate each in every step.
    """

    inputs: float
    outputs: float
    output_channels: float
    weights: float
    macs: float
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    fan_channels: float = 0.0
    spikes_in: float = 0.0
    spikes_out: float = 0.0
    T: int = 1
    bias: bool = True
    leaky: bool = True

    @property
    def taps(self) -> float:
        """Weights that one input meets: k_h·k_w·C_out, or N_out."""
        return math.prod(self.kernel) * (self.fan_channels or self.output_channels)

    @property
    def reach(self) -> float:
        """Outputs that one input reaches: ⌈k_h/s⌉·⌈k_w/s⌉·C_out, or N_out."""
        sides = (math.ceil(k / s) for k, s in zip(self.kernel, self.stride, strict=True))
        return math.prod(sides) * (self.fan_channels or self.output_channels)


def spiking_layer_pj(layer: Layer, memory: str = "linear") -> dict[str, float]:
    """Energy of an event-driven spiking layer in pJ: operations, addressing, weights, bias, potentials, events.

    Raises `ArgumentError` for an unknown memory law.
    """
    access = _law(memory)
    updates = layer.spikes_in * layer.taps + layer.T * layer.outputs
    additions = layer.spikes_in * layer.reach + layer.T * layer.outputs + layer.spikes_out
    leaks = layer.T * layer.outputs if layer.leaky else 0.0
    addressing = layer.spikes_in * layer.taps * ADD_PJ
    if layer.kernel:
        addressing += layer.spikes_in * 2 * MAC_PJ  # the coordinates of the outputs that the spike reaches
    return {
        "operations": additions * ADD_PJ + leaks * MAC_PJ,
        "addressing": addressing,
        "memory.weights": layer.spikes_in * layer.taps * access(layer.weights, WORD_BITS),
        "memory.bias": layer.T * layer.outputs * access(layer.output_channels, WORD_BITS) if layer.bias else 0.0,
        "memory.potentials": 2 * updates * access(layer.outputs, WORD_BITS),
        "memory.events": (layer.spikes_in + layer.spikes_out) * access(0, WORD_BITS),  # a queue that is mostly empty
    }


def dense_layer_pj(layer: Layer, memory: str = "linear") -> dict[str, float]:
    """Energy of the same layer in a formal net, run once, in pJ.

    Raises `ArgumentError` for an unknown memory law.
    """
    access = _law(memory)
    addresses = layer.inputs + layer.outputs
    reads = layer.inputs
    if layer.kernel:
        addresses += layer.taps
        reads = layer.macs
    return {
        "operations": layer.macs * MAC_PJ + layer.outputs * ADD_PJ,
        "addressing": addresses * ADD_PJ,
        "memory.input": reads * access(layer.inputs, WORD_BITS),
        "memory.weights": layer.macs * access(layer.weights, WORD_BITS),
        "memory.bias": layer.outputs * access(layer.output_channels, WORD_BITS) if layer.bias else 0.0,
        "memory.output": layer.outputs * access(layer.outputs, WORD_BITS),
    }


def lemaire2022(report: Report, *, memory: str = "linear", stem_once: bool = False) -> LemaireEnergy:
    """Energy of one inference by the model of Lemaire et al. (2022), in pJ.

    A layer that spikes or counts enter is event-driven, a count of n being n spikes; a layer with real input is a
    formal one that runs in each of the T steps. Neurons leak unless all of the net are IF.

    Args:
        report: of `ranvier.measure.count`.
        memory: "linear" (`1.09e-5 · n · b + 13.2` pJ an access) or "piecewise" (through 8 KB, 32 KB and 1 MB of SRAM).
        stem_once: charge a formal layer whose input does not change over time for one step.
    """
    _law(memory)
    leaky = any(row.priced_as != "IF" for row in report.neurons)
    layers = tuple(_layer(row, report.T, leaky, memory, stem_once) for row in report.rows)
    products = any(row.other is not None for row in report.rows)
    counts = any(row.other is None and row.input_class == "integer" for row in report.rows)
    notes = {
        "counts are unrolled into spikes": counts,
        "layers with real input are formal and run in every step": not stem_once,
        "layers with real and constant input run once": stem_once,
        "products of activations, which the publication does not have, are event-driven layers whose weights are the "
        "other factor": products,
        "batch norms, poolings and shortcuts are free": True,
    }
    return LemaireEnergy(
        layers=layers,
        constants={
            "source": "Lemaire et al. 2022, 45 nm", "add_pj": ADD_PJ, "mul_pj": MUL_PJ, "word_bits": WORD_BITS,
            "memory": memory,
        },
        assumptions=tuple(note for note, holds in notes.items() if holds),
    )  # fmt: skip


def _layer(row: Row, T: int, leaky: bool, memory: str, stem_once: bool) -> LayerEnergy:
    outputs = row.outputs / T
    if row.other is not None:
        return _product(row, T, memory)
    neurons = row.spikes_out is not None
    layer = Layer(
        inputs=row.input.elements / T,
        outputs=outputs,
        output_channels=row.channels or outputs,
        weights=row.weights,
        macs=row.macs_padded / T,
        kernel=row.kernel,
        stride=row.stride,
        fan_channels=row.fan_channels,
        spikes_in=row.input.count,
        spikes_out=row.outputs if row.spikes_out is None else row.spikes_out,  # without neurons every output is read
        T=T,
        bias=row.bias,
        leaky=leaky and neurons,
    )
    if row.input_class == "real":
        runs = 1 if stem_once and row.static else T
        parts = {kind: runs * pj for kind, pj in dense_layer_pj(layer, memory).items()}
        return LayerEnergy(row.name, "MAC", runs * layer.macs, parts)
    return LayerEnergy(row.name, "AC", layer.spikes_in * layer.reach, spiking_layer_pj(layer, memory))


def _product(row: Row, T: int, memory: str) -> LayerEnergy:
    """A product of two activations: its events meet the other factor as they would meet weights."""
    assert row.other is not None
    access = _law(memory)
    outputs, held = row.outputs / T, row.other.elements / T
    op_class: OpClass = "AC" if row.additions_only else "MAC"
    ops = row.synops if row.unrolled is None or op_class == "MAC" else row.unrolled
    reads = row.synops if op_class == "AC" else row.macs_dense
    cost = ADD_PJ if op_class == "AC" else MAC_PJ
    potentials = 2 * (reads + row.outputs) if op_class == "AC" else 0.0  # a formal product adds up in a register
    return LayerEnergy(row.name, op_class, ops if op_class == "AC" else row.macs_dense, {
        "operations": (ops if op_class == "AC" else row.macs_dense) * cost + row.outputs * ADD_PJ,
        "addressing": (reads if op_class == "AC" else row.input.elements + row.outputs) * ADD_PJ,
        "memory.weights": reads * access(held, WORD_BITS),
        "memory.potentials": potentials * access(outputs, WORD_BITS),
        "memory.events": (row.input.nonzero + (row.spikes_out or row.outputs)) * access(0, WORD_BITS),
    })  # fmt: skip


def _law(memory: str) -> Callable[[float, int], float]:
    if memory not in MEMORY_LAWS:
        raise ArgumentError(
            f"memory must be one of {', '.join(MEMORY_LAWS)}, got {memory!r}{nearest(memory, MEMORY_LAWS)}"
        )
    return MEMORY_LAWS[memory]
