"""A NIR graph as a net."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ranvier.data.hdf5 import check_heaps, mapped, tree
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require
from ranvier.infer.exchange.nir_layers import layer_of
from ranvier.infer.exchange.nir_net import Edge, FeedbackLoop, NirNet
from ranvier.infer.exchange.nir_order import components, feedback_edges
from ranvier.infer.exchange.pieces import node_name
from ranvier.layers.delays import DelayLinear, DenseDelayLinear
from ranvier.surrogates import Surrogate

_SIGMA = 0.23  # of delays that go on learning: the end of the published annealing
_MOST_SYNAPSES = 4  # delayed synapses a pair of neurons from which on a weight at every delay takes no more room


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    dtype: torch.dtype | None = None,
) -> NirNet:
    """A net in eval mode from a graph of NIR or a file of one: sequences `[T, B, ...]` in, outputs of every step out.

    Neurons, readouts and delayed synapses come back as those of the library where the node is one, so that the net
    trains, streams and is measured like any other; v̇ is integrated by Euler's rule. An edge that closes a cycle
    carries the value of the step before; a delay in the cycle counts that step.

    Args:
        graph: a `nir.NIRGraph` with one input and one output, or the path of a file.
        dt: seconds a step; by default what the graph notes, else 1e-4.
        surrogate: of the neurons, for training.
        dtype: of the net; by default float64 if any weight is, else float32.

    Raises `DataError` for a file that is not a graph, `ArgumentError` that names a node which does not fit.
    """
    nir: Any = require("nir", extra="export")
    where = "the graph"
    if isinstance(graph, str | os.PathLike):
        where = str(graph)
        graph = _read(Path(graph), nir)
    if not isinstance(graph, nir.NIRGraph):
        raise ArgumentError(f"graph must be a nir.NIRGraph or the path of a file, got {type(graph).__name__}")
    noted = graph.metadata.get("dt") if isinstance(graph.metadata, dict) else None
    step = float(dt if dt is not None else (noted if noted is not None else 1e-4))
    if not 0 < step < float("inf"):
        raise ArgumentError(f"dt must be a positive number of seconds, got {step!r}")
    flat = _Flat.of(graph, nir, where)
    return _build(flat, step, surrogate, _precision(flat) if dtype is None else dtype)


def _read(path: Path, nir: Any) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    check_heaps(path, str(path))
    h5py: Any = require("h5py", extra="export")
    try:
        with mapped(path, str(path)) as data, h5py.File(path, "r") as file:
            found = tree(file, "node", data, str(path))
        return nir.dict2NIRNode(found)
    except DataError:
        raise
    except Exception as error:  # the reader has no error type of its own
        raise DataError(f"{path}: is not a graph of NIR: {' '.join(str(error).split())[:300]}") from error


@dataclass
class _Flat:
    """A graph without subgraphs; "input" is its input, `output` what its output sums."""

    nodes: dict[str, Any]
    edges: list[Edge]
    shape: tuple[int, ...]
    output: list[str]

    @classmethod
    def of(cls, graph: Any, nir: Any, where: str) -> _Flat:
        nodes: dict[str, Any] = {}
        edges: list[Edge] = []
        _flatten("", graph, nir, nodes, edges)
        inputs = [n for n, node in nodes.items() if isinstance(node, nir.Input)]
        outputs = [n for n, node in nodes.items() if isinstance(node, nir.Output)]
        if len(inputs) != 1 or len(outputs) != 1:
            raise ArgumentError(f"{where} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is read")
        missing = {end for edge in edges for end in edge} - set(nodes)
        if missing:
            raise DataError(f"{where} has edges of nodes that are not there: {', '.join(sorted(missing)[:4])}")
        names = {name: node_name(name) for name in nodes}
        names |= {inputs[0]: "input", outputs[0]: "output"}
        if len(set(names.values())) < len(names):
            raise ArgumentError(f"{where} has nodes whose names differ in punctuation only")
        edges = list(dict.fromkeys((names[a], names[b]) for a, b in edges))
        shape = tuple(int(n) for n in np.atleast_1d(nodes[inputs[0]].input_type["input"]))
        output = [a for a, b in edges if b == "output"]
        kept = {names[n]: node for n, node in nodes.items() if n not in (inputs[0], outputs[0])}
        unfed = sorted(set(kept) - {b for _, b in edges})
        if unfed or not output:
            raise DataError(f"{where}: nothing arrives at {', '.join(unfed[:4]) if unfed else 'its output'}")
        return cls(kept, [e for e in edges if e[1] != "output"], shape, output)

    def sources(self, name: str) -> list[str]:
        """The nodes whose outputs arrive at `name`."""
        return [a for a, b in self.edges if b == name]

    def readers(self, name: str) -> list[str]:
        """The nodes that its output goes to."""
        return [b for a, b in self.edges if a == name] + ["output"] * self.output.count(name)


def _flatten(prefix: str, graph: Any, nir: Any, nodes: dict[str, Any], edges: list[Edge]) -> None:
    """Put the nodes and edges of `graph` into `nodes` and `edges`; a subgraph's ends disappear."""
    inner = {n: node for n, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)}
    ends: dict[str, tuple[list[str], list[str]]] = {}
    for name, node in inner.items():
        part: dict[str, Any] = {}
        part_edges: list[Edge] = []
        _flatten(f"{prefix}{name}.", node, nir, part, part_edges)
        into = {n for n, p in part.items() if isinstance(p, nir.Input)}
        outof = {n for n, p in part.items() if isinstance(p, nir.Output)}
        ends[name] = [b for a, b in part_edges if a in into], [a for a, b in part_edges if b in outof]
        nodes |= {n: p for n, p in part.items() if n not in into | outof}
        edges += [(a, b) for a, b in part_edges if a not in into and b not in outof]
    nodes |= {prefix + n: node for n, node in graph.nodes.items() if n not in inner}
    for a, b in graph.edges:
        starts = ends[a][1] if a in inner else [prefix + a]
        goals = ends[b][0] if b in inner else [prefix + b]
        edges += [(s, g) for s in starts for g in goals]


def _precision(flat: _Flat) -> torch.dtype:
    weights = [node.weight for node in flat.nodes.values() if hasattr(node, "weight")]
    return torch.float64 if any(np.asarray(w).dtype == np.float64 for w in weights) else torch.float32


def _build(flat: _Flat, dt: float, surrogate: Any, dtype: torch.dtype) -> NirNet:
    merged = _merge_delays(flat, dt, dtype)
    order = components(list(flat.nodes), flat.edges)
    layers: dict[str, nn.Module] = {}
    loops: dict[str, FeedbackLoop] = {}
    plan: list[str] = []
    sources = {name: flat.sources(name) for name in flat.nodes}
    for group in order:
        if len(group) == 1 and (group[0], group[0]) not in flat.edges:
            name = group[0]
            node = flat.nodes[name]
            layers[name] = merged[name] if name in merged else layer_of(name, node, dt, dtype, surrogate)
            plan.append(name)
            continue
        waiting = {n for n in group if type(flat.nodes[n]).__name__ == "Delay" and _whole(flat.nodes[n], dt)}
        running, feedback = feedback_edges(group, flat.edges, waiting)
        made = {n: layer_of(n, flat.nodes[n], dt, dtype, surrogate, lag=int(n in waiting)) for n in running}
        loop = f"loop_{len(loops)}"
        loops[loop] = FeedbackLoop(made, {n: sources[n] for n in running}, feedback)
        plan.append(loop)
    return NirNet(layers, plan, {n: sources[n] for n in layers}, flat.output, flat.shape, dt, loops).eval()


def _whole(node: Any, dt: float) -> bool:
    """Whether every line of a delay waits for a step at least, so that a cycle through it needs no other pause."""
    return bool((np.asarray(node.delay) > 0.5 * dt).all())


def _merge_delays(flat: _Flat, dt: float, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Delayed synapses: `Delay → weights`, and `copies → Delay → weights`, become one layer under the weights' name."""
    found: dict[str, nn.Module] = {}
    for name, node in list(flat.nodes.items()):
        if type(node).__name__ != "Delay" or np.ndim(node.delay) != 1:
            continue
        readers, before = flat.readers(name), flat.sources(name)
        if len(readers) != 1 or len(before) != 1 or readers[0] == "output" or readers[0] == name:
            continue
        weights = flat.nodes[readers[0]]
        if type(weights).__name__ not in ("Affine", "Linear") or len(flat.sources(readers[0])) != 1:
            continue
        if np.ndim(weights.weight) != 2 or readers[0] in before or _in_cycle(flat, name):
            continue
        steps = np.asarray(node.delay, np.float64) / dt
        delay = np.rint(steps).astype(np.int64)
        if (np.abs(steps - delay) > 1e-3).any() or (delay < 0).any():
            continue  # the node by itself says what is wrong with it
        drop, source = [name], np.arange(len(delay))
        start, width = before[0], len(delay)
        lines = flat.nodes.get(before[0])
        if lines is not None and type(lines).__name__ == "Linear" and flat.readers(before[0]) == [name]:
            fan = np.asarray(lines.weight)
            if fan.ndim == 2 and ((fan == 0) | (fan == 1)).all() and (fan.sum(1) == 1).all():
                source, width = fan.argmax(1), fan.shape[1]
                drop.append(before[0])
        if len(drop) == 2:
            incoming = flat.sources(before[0])
            if len(incoming) != 1:
                continue
            start = incoming[0]
        found[readers[0]] = _delay_layer(weights, source, delay, width).to(dtype)
        flat.edges = [e for e in flat.edges if e[0] not in drop and e[1] not in drop] + [(start, readers[0])]
        for dropped in drop:
            del flat.nodes[dropped]
    return found


def _in_cycle(flat: _Flat, name: str) -> bool:
    group = next(g for g in components(list(flat.nodes), flat.edges) if name in g)
    return len(group) > 1


def _delay_layer(weights: Any, source: Any, delay: Any, width: int) -> nn.Module:
    """`DelayLinear`, or with many synapses a pair of neurons a layer with a weight at every delay."""
    matrix = torch.from_numpy(np.array(weights.weight))
    bias = getattr(weights, "bias", None)
    biased = bias is not None and bool(np.any(bias))
    reach = int(delay.max()) if len(delay) else 0
    places, inputs = torch.from_numpy(delay), torch.from_numpy(np.array(source))
    kernel = matrix.new_zeros(matrix.shape[0], width, reach + 1)  # tap d is delay d
    kernel.permute(1, 2, 0).index_put_((inputs, places), matrix.T, accumulate=True)
    count = int((kernel != 0).sum(2).max()) if kernel.numel() else 0
    layer: DelayLinear | DenseDelayLinear
    if count > min(_MOST_SYNAPSES, max(1, reach)):
        layer = DenseDelayLinear(width, matrix.shape[0], reach, bias=biased)
        layer.weight = nn.Parameter(kernel.flip(2).contiguous())
    else:
        layer = DelayLinear(width, matrix.shape[0], reach, kernel_count=max(1, count), bias=biased)
        picked = kernel.abs().ne(0).int().topk(max(1, count), dim=2, sorted=True).indices
        layer.weight = nn.Parameter(kernel.gather(2, picked))
        layer.delay = nn.Parameter(picked.to(matrix.dtype))
        layer.sigma.fill_(_SIGMA)
    if biased:
        layer.bias = nn.Parameter(torch.from_numpy(np.array(bias)))
    return layer
