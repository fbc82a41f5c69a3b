"""Neurons, delays and readouts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ranvier.infer.engine.lower import Lowering, leaf_rule
from ranvier.infer.engine.program import BLOCK, Counts, Op
from ranvier.infer.engine.trace import Node, NotCompilableError
from ranvier.layers import DelayLinear, LeakyReadout
from ranvier.layers.delays import DenseDelayLinear
from ranvier.neurons.conversion import QCFSIF
from ranvier.neurons.leaky import LeakyNeuron
from ranvier.ops.delay import rounded


@leaf_rule(LeakyNeuron)
def _neuron(low: Lowering, node: Node) -> None:
    module, ref = node.module, node.args[0]
    assert isinstance(module, LeakyNeuron)
    d, program = module.dynamics, low.program
    decay, threshold = module._step_parameters(
        ref.shape[1:], torch.float64 if program.dtype == np.float64 else torch.float32
    )
    base, order, source = low.flat(ref, node.where)
    n = order.size
    k, first = low.channels(decay, order, ref.shape)
    th, second = low.channels(threshold, order, ref.shape)
    uniform = bool((k == k[0]).all() and (th == th[0]).all())
    both = math.lcm(first, second)
    C = min(n, BLOCK) if uniform else both if n % both == 0 else n
    levels = d.levels
    converted = isinstance(module, QCFSIF)
    scaled = converted and module.scale_output
    one_scale = bool((th == th[0]).all())
    unit = d.output_scale if levels else float(th[0]) if scaled and one_scale else 1.0
    made = program.buffer(n, Counts(unit, max(1, levels)))
    v = program.F.reserve(n)
    program.state.append((v, np.resize(th, n) * module.start if converted else np.full(n, d.v_reset)))
    program.zeroed.append((made.at, n))
    row: dict[str, Any] = {
        "code": "int_lif" if levels else "lif", "x": base, "v": v, "y": made.at, "n": n, "C": C,
        "k": program.F.put(np.resize(k, C)), "th": program.F.put(np.resize(th, C)), "uniform": int(uniform),
        "decay_input": int(d.decay_input), "soft": int(d.soft_reset), "half_even": int(d.half_even),
        "reals": (d.v_reset, levels, d.input_scale, d.output_scale) if levels else (d.v_reset, unit),
    }  # fmt: skip
    program.add(Op(node.where, {"only": row}, "only", source, made))
    if scaled and not one_scale:  # every channel has a size of spikes of its own
        spikes, made = made, program.buffer(n)
        sizes: dict[str, Any] = {
            "code": "affine", "x": spikes.at, "y": made.at, "n": n, "C": C, "a": program.F.put(np.resize(th, C)),
            "b": program.F.put(np.zeros(C)),
        }  # fmt: skip
        program.add(Op(node.where, {"only": sizes}, "only", spikes, made))
    low.place(node.out, made, order)


@leaf_rule(DelayLinear)
def _delays(low: Lowering, node: Node) -> None:
    module = node.module
    assert isinstance(module, DelayLinear)
    weight = module._weight().detach().cpu().numpy()
    delay = rounded(module._own_delay().detach(), module.max_delay).cpu().numpy().astype(np.int64)
    outputs, per_group, count = weight.shape
    width = outputs // module.groups
    o = np.arange(outputs)[:, None, None]
    i = np.arange(per_group)[None, :, None] + o // width * per_group
    pre = np.broadcast_to(i, weight.shape).ravel()
    target = (delay * outputs + o).ravel()
    flat = weight.ravel()
    kept = np.flatnonzero(flat)
    kept = kept[np.lexsort((target[kept], pre[kept]))]
    del count
    ptr = np.concatenate([[0], np.cumsum(np.bincount(pre[kept], minlength=module.in_features))])
    synapses = (ptr, target[kept], flat[kept])
    _delayed(low, node, module.in_features, outputs, module.max_delay + 1, synapses, module.bias, False)


@leaf_rule(DenseDelayLinear)
def _dense_delays(low: Lowering, node: Node) -> None:
    module = node.module
    assert isinstance(module, DenseDelayLinear)
    K = module.max_delay + 1
    weight = module.weight.detach().cpu().numpy()[:, :, ::-1].transpose(1, 2, 0)  # [I, delay, O]
    nothing = np.zeros(1, np.int64)
    synapses = (nothing, nothing, weight)
    _delayed(low, node, module.in_features, module.out_features, K, synapses, module.bias, True)


def _delayed(
    low: Lowering, node: Node, inputs: int, outputs: int, K: int, synapses: tuple[Any, Any, Any], bias: Any,
    contiguous: bool,
) -> None:  # fmt: skip
    from ranvier.infer.engine.lower_synapse import Weights, absorb

    ref, program = node.args[0], low.program
    if math.prod(ref.shape[:-1]) != 1:
        raise NotCompilableError("delays of more than one sample")
    ptr, target, weight = synapses
    # Norms behind the delays scale the outputs that all delays lead to.
    ones = torch.ones(outputs, 1, 1, 1, dtype=torch.float64)
    start = None if bias is None else bias.detach().double()
    weights, last = absorb(low, node, np.arange(outputs), Weights(ones, start))
    factor = weights.weight.flatten().numpy()
    weight = weight * factor if contiguous else weight * factor[target % outputs]
    source = low.whole(ref, low.positions(ref).ravel(), node.where)
    made = program.buffer(outputs)
    pending = program.F.reserve(2 * K * outputs)
    program.zeroed.append((pending, 2 * K * outputs))
    pos = program.I.reserve(1)
    program.positions.append(pos)
    shift = np.zeros(outputs) if weights.bias is None else weights.bias.numpy()
    row: dict[str, Any] = {
        "code": "delay", "x": source.at, "L": program.events_of(source, node.where), "w": program.F.put(weight),
        "y": made.at, "b": program.F.put(shift), "O": outputs, "K": K, "ptr": program.I.put(ptr),
        "off": program.I.put(target), "pending": pending, "pos": pos,
        "binary": int(source.counts is not None and source.counts.binary), "contiguous": int(contiguous),
    }  # fmt: skip
    op = program.add(Op(node.where, {"only": row}, "only", source, made, note="delays"))
    op.work = K * outputs if contiguous else target.size / inputs
    low.reads(op, source)
    low.place(last.out, made, np.arange(outputs))


@leaf_rule(LeakyReadout)
def _readout(low: Lowering, node: Node) -> None:
    module = node.module
    assert isinstance(module, LeakyReadout)
    base, order, source = low.flat(node.args[0], node.where)
    n = order.size
    made = low.program.buffer(n)
    v = low.program.F.reserve(n)
    low.program.zeroed.append((v, n))
    row = {"code": "leaky", "x": base, "v": v, "y": made.at, "n": n, "reals": (1 - 1 / module.tau,)}
    low.program.add(Op(node.where, {"only": row}, "only", source, made))
    low.place(node.out, made, order)
