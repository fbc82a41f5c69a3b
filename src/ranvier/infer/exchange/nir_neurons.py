"""Neurons of the library as nodes of NIR."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.infer.exchange.pieces import Array, Piece, array, below, filled
from ranvier.infer.exchange.targets import Target
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.neurons import IF, LIF, PLIF, CubaLIF, LeakyNeuron

WRITTEN = (IF, LIF, PLIF, CubaLIF, LeakyReadout)


@dataclass(frozen=True)
class Wishes:
    """How a graph is to be written: for whom, at which step, and what becomes of soft resets."""

    target: Target
    dt: float
    soft_reset: str


def neuron_piece(name: str, layer: str, neuron: nn.Module, shape: tuple[int, ...], wishes: Wishes) -> Piece:
    """The nodes of `neuron` over features of `shape`. Raises `ArgumentError` that names what cannot be said."""
    nir: Any = require("nir", extra="export")
    if isinstance(neuron, LeakyReadout):
        return _integrator(name, neuron, shape, wishes, nir)
    if type(neuron) not in WRITTEN:
        known = ", ".join(t.__name__ for t in WRITTEN)
        raise ArgumentError(
            f"layer {layer!r}: {type(neuron).__name__} has no counterpart in NIR, whose neurons are binary and linear "
            f"below the threshold; {known} have"
        )
    assert isinstance(neuron, LeakyNeuron | CubaLIF)
    if len(shape) > 1 and not wishes.target.images:
        raise ArgumentError(
            f"layer {layer!r} has neurons of shape {shape}, and {wishes.target.name} reads graphs of vectors only"
        )
    axis = neuron.channel_axis - 2 if neuron.channel_axis >= 0 else neuron.channel_axis + len(shape)
    if neuron.reset == "soft" and wishes.target.resets != "soft":
        if wishes.soft_reset == "subgraph":
            return _soft_reset(name, neuron, shape, axis, wishes, nir)
        if wishes.soft_reset == "error":
            raise ArgumentError(
                f"layer {layer!r} resets softly (v ← v − θ), which no neuron of NIR does; soft_reset='subgraph' writes "
                "it exactly, as an integrator, a threshold and a feedback edge; soft_reset='metadata' writes a node "
                "that resets to v_reset and a note that only readers of the note follow"
            )
    if neuron.reset == "hard" and wishes.target.resets == "soft":
        raise ArgumentError(
            f"layer {layer!r} resets to v_reset, and {wishes.target.name} subtracts the threshold; train it with "
            "reset='soft' for that target"
        )
    node = _leaky(neuron, shape, axis, wishes, nir) if isinstance(neuron, LeakyNeuron) else _current(
        neuron, shape, axis, wishes, nir
    )  # fmt: skip
    if neuron.reset == "soft":
        node.metadata = {"reset": "subtract"}
    return Piece.chain({name: node})


def input_gain(neuron: nn.Module) -> Tensor | float:
    """R of a neuron whose input counts R times over τ steps: 1 where the input is divided by τ, else τ."""
    if isinstance(neuron, LeakyNeuron) and not isinstance(neuron, IF) and not neuron.dynamics.decay_input:
        return 1 / neuron.decay().detach().double()
    return 1.0


def folded_gain(neuron: nn.Module, target: Target) -> Tensor | float:
    """What the weights before `neuron` are multiplied with for a reader that has no resistance."""
    if target.resistance != "folded" or not isinstance(neuron, LeakyNeuron) or isinstance(neuron, IF):
        return 1.0
    if target.exponential:  # v ← exp(−1/τ) v + x
        return neuron.decay().detach().double() if neuron.dynamics.decay_input else 1.0
    return input_gain(neuron)


def _threshold(neuron: LeakyNeuron | CubaLIF, shape: tuple[int, ...], axis: int, target: Target) -> Array:
    theta = neuron.threshold
    given = array(theta) if isinstance(theta, Tensor) else np.float32(theta)
    if given.ndim == 1:
        given = given.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    full = np.array(np.broadcast_to(given, shape))
    return below(full) if target.strict else full


def _leaky(neuron: LeakyNeuron, shape: tuple[int, ...], axis: int, wishes: Wishes, nir: Any) -> Any:
    target, dt = wishes.target, wishes.dt
    rest = filled(neuron.dynamics.v_reset, shape)
    threshold = _threshold(neuron, shape, axis, target)
    if isinstance(neuron, IF):
        r = filled(1.0 if target.if_resistance == "one" else 1 / dt, shape)
        return nir.IF(r=r, v_threshold=threshold, v_reset=rest)
    decay = filled(neuron.decay(), shape, axis)
    if target.exponential:
        if (decay >= 1).any():
            raise ArgumentError(f"{target.name} has no neuron without memory (tau = 1)")
        return nir.LIF(
            tau=-1 / np.log1p(-decay), r=filled(1.0, shape), v_leak=rest, v_threshold=threshold, v_reset=rest
        )
    r = filled(1.0 if target.resistance == "folded" else input_gain(neuron), shape, axis)
    return nir.LIF(tau=dt / decay, r=r, v_leak=rest, v_threshold=threshold, v_reset=rest)


def _kept(neuron: CubaLIF, shape: tuple[int, ...], axis: int) -> tuple[Array, Array]:
    a, b = (filled(p, shape, axis) for p in neuron.decays())
    return a, b


def _current(neuron: CubaLIF, shape: tuple[int, ...], axis: int, wishes: Wishes, nir: Any) -> Any:
    dt, rest = wishes.dt, filled(neuron.v_reset, shape)
    a, b = _kept(neuron, shape, axis)
    return nir.CubaLIF(
        tau_syn=dt / (1 - a), tau_mem=dt / (1 - b), r=1 / (1 - b), v_leak=rest, w_in=1 / (1 - a),
        v_threshold=_threshold(neuron, shape, axis, wishes.target), v_reset=rest,
    )  # fmt: skip


def _integrator(name: str, readout: LeakyReadout, shape: tuple[int, ...], wishes: Wishes, nir: Any) -> Piece:
    tau = filled(readout.tau, shape)
    return Piece.chain({name: nir.LI(tau=tau * wishes.dt, r=tau, v_leak=filled(0.0, shape))})


def _soft_reset(
    name: str, neuron: LeakyNeuron | CubaLIF, shape: tuple[int, ...], axis: int, wishes: Wishes, nir: Any
) -> Piece:
    """v ← h − θ s as a feedback of −θ s through one step: the integrator must receive f with k R f = −(1 − k) θ s."""
    dt = wishes.dt
    theta = filled(neuron.threshold, shape, axis)
    nodes: dict[str, Any] = {}
    membrane = f"{name}_membrane"
    if isinstance(neuron, CubaLIF):
        a, b = _kept(neuron, shape, axis)
        nodes[f"{name}_synapse"] = nir.LI(tau=dt / (1 - a), r=1 / (1 - a), v_leak=filled(0.0, shape))
        nodes[membrane] = nir.LI(tau=dt / (1 - b), r=1 / (1 - b), v_leak=filled(neuron.v_reset, shape))
        feedback = -theta * b
    elif isinstance(neuron, IF):
        nodes[membrane] = nir.I(r=filled(1 / dt, shape))
        feedback = -theta
    else:
        k, r = filled(neuron.decay(), shape, axis), filled(input_gain(neuron), shape, axis)
        nodes[membrane] = nir.LI(tau=dt / k, r=r, v_leak=filled(neuron.dynamics.v_reset, shape))
        feedback = -theta * (1 - k) / (k * r)
    nodes[name] = nir.Threshold(threshold=_threshold(neuron, shape, axis, wishes.target))
    nodes[f"{name}_delay"] = nir.Delay(delay=filled(dt, shape))
    nodes[f"{name}_reset"] = nir.Scale(scale=feedback)
    order = list(nodes)
    loop = order[order.index(membrane) :]
    edges = [*itertools.pairwise(order), (loop[-1], membrane)]
    return Piece(nodes, order[0], name, edges)
