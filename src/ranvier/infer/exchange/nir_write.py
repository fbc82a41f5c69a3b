"""A net as a NIR graph."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.files import replacing
from ranvier.infer.exchange.capture import Capture, Step, capture
from ranvier.infer.exchange.nir_neurons import Wishes, folded_gain, neuron_piece
from ranvier.infer.exchange.nir_synapses import (
    WEIGHTED,
    Scaling,
    averaging,
    norm_piece,
    norm_scaling,
    out_channels,
    pool_piece,
    synapse_piece,
    ungrouped,
)
from ranvier.infer.exchange.pieces import Piece, filled, node_name
from ranvier.infer.exchange.targets import Target, find_target
from ranvier.infer.writing import writing
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.neurons import Neuron

SoftReset = Literal["error", "subgraph", "metadata"]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def to_nir(
    model: nn.Module,
    path: str | os.PathLike[str] | None = None,
    *,
    example: Tensor | None = None,
    dt: float | None = None,
    target: str = "nir",
    soft_reset: SoftReset = "error",
) -> Any:
    """A net as a graph of NIR (Pedersen et al., Nature Communications 2024), in eval mode, from sequence to output.

    Batch norms go into the weights before them; a delayed layer becomes lines, `Delay` and weights; a maximum over
    spikes a sum and a threshold. A static image's encoder is not part of the graph: its input is one step of the
    sequence.

    Args:
        model: a net of linear layers, convolutions, delays, batch norms, pooling, sums and the neurons IF, LIF, PLIF,
            CubaLIF and LeakyReadout.
        path: where to write the graph (HDF5), if anywhere.
        example: a sequence `[T, B, ...]` that the net takes; by default zeros of the model's `input_shape`.
        dt: seconds a step; 1e-4 by default (1e-3 for Norse), which the readers assume.
        target: "nir", the definition, where a neuron fires at v > θ and v̇ is integrated by Euler's rule; or the reader
            whose ways the graph follows: "spikingjelly", "snntorch", "norse" or "sinabs".
        soft_reset: "error"; "subgraph", which says v ← v − θ exactly with an integrator and a feedback edge; or
            "metadata", which writes the neuron with a hard reset and a note.

    Returns the `nir.NIRGraph`. Raises `ArgumentError` that names the layer which the format cannot express.
    """
    nir: Any = require("nir", extra="export")
    wished = find_target(target)
    step = wished.dt if dt is None else dt
    if not isinstance(step, int | float) or not 0 < step < float("inf"):
        raise ArgumentError(f"dt must be a positive number of seconds, got {dt!r}")
    if soft_reset not in ("error", "subgraph", "metadata"):
        raise ArgumentError(f"soft_reset must be 'error', 'subgraph' or 'metadata', got {soft_reset!r}")
    found = capture(model, example)
    graph = _Writer(found, Wishes(wished, float(step), soft_reset), _dtype(model), nir).graph()
    if path is not None:
        write_nir(graph, path)
    return graph


def write_nir(graph: Any, path: str | os.PathLike[str]) -> Path:
    """Write a `nir.NIRGraph` to a file (HDF5), whole or not at all."""
    nir: Any = require("nir", extra="export")
    out = Path(path)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            nir.write(temporary, graph)
    return out


def _dtype(model: nn.Module) -> torch.dtype:
    found = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.float64 if found == torch.float64 else torch.float32


@dataclass
class _Writer:
    found: Capture
    wishes: Wishes
    dtype: torch.dtype
    nir: Any
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    exits: dict[int, list[str]] = field(default_factory=dict)
    readers: dict[int, list[Step]] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return self.wishes.target

    def graph(self) -> Any:
        """The graph of the captured net."""
        for step in self.found.steps:
            for source in step.sources:
                self.readers.setdefault(id(source), []).append(step)
        assert self.found.output is not None
        merged: set[int] = set()
        for step in self.found.steps:
            if id(step) in merged:
                continue
            if step.kind == "sum":
                self.exits[id(step)] = [name for source in step.sources for name in self.exits[id(source)]]
                continue
            last, piece = self._piece(step, merged)
            self._place(piece, step)
            self.exits[id(last)] = self.exits[id(step)] = [piece.exit]
        output = self.nir.Output(output_type={"output": np.array(self.found.output.shape)})
        self._join(self.exits[id(self.found.output)], "output", self.found.output.shape)
        self.nodes["output"] = output
        import ranvier

        facts = {"dt": self.wishes.dt, "writer": f"ranvier {ranvier.__version__}", "target": self.target.name}
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=facts)

    def _place(self, piece: Piece, step: Step) -> None:
        for name, node in piece.nodes.items():
            kind = type(node).__name__
            if self.target.nodes is not None and kind not in self.target.nodes:
                raise ArgumentError(
                    f"layer {step.name!r} needs a node {kind}, which the target {self.target.name!r} does not read; "
                    "target 'nir' writes it"
                )
            if kind.startswith("Conv") and not self.target.groups:
                node = ungrouped(node)
            self.nodes[name] = node
        self.edges += piece.edges
        if step.sources:
            self._join(self.exits[id(step.sources[0])], piece.entry, step.before)

    def _join(self, names: list[str], entry: str, shape: tuple[int, ...]) -> None:
        for name in names:
            edge = (name, entry)
            if edge in self.edges:  # x + x: edges are a set
                again = self._free(f"{name}_again")
                self.nodes[again] = self.nir.Scale(scale=filled(1.0, shape).astype(np.float32))
                self.edges += [(name, again), (again, entry)]
            else:
                self.edges.append(edge)

    def _free(self, name: str) -> str:
        taken, n, plain = {*self.nodes, "output"}, 1, name
        while name in taken:
            n += 1
            name = f"{plain}_{n}"
        return name

    def _piece(self, step: Step, merged: set[int]) -> tuple[Step, Piece]:
        """The nodes of a step, and the last step that is merged into them."""
        name = self._free(node_name(step.name))
        if step.kind == "input":
            node = self.nir.Input(input_type={"input": np.array(step.shape)})
            return step, Piece.chain({"input": node})
        if step.kind == "layer":
            return self._layer(name, step, merged)
        others: dict[str, Callable[[str, Step], Piece]] = {
            "flatten": self._flatten, "scale": self._scale, "mean": self._mean,
        }  # fmt: skip
        if step.kind == "tokens":
            readers = self.readers.get(id(step), [])
            if not readers or any(reader.kind != "mean" for reader in readers):
                raise ArgumentError(
                    f"the model rearranges features from {step.before} to {step.shape}, which NIR cannot say"
                )
            return step, self._mean(name, step)
        if step.kind == "mean" and step.sources[0].kind == "tokens":
            return step, self._flatten(name, step, (step.shape[0], 1, 1))
        return step, others[step.kind](name, step)

    def _layer(self, name: str, step: Step, merged: set[int]) -> tuple[Step, Piece]:
        module = step.module
        assert module is not None
        if isinstance(module, WEIGHTED):
            scaling, last = Scaling.none(out_channels(module)), step
            norm = self._only_reader(step)
            if norm is not None and isinstance(norm.module, _NORMS):
                scaling, last = scaling.then(*norm_scaling(norm.module, norm.name)), norm
                merged.add(id(norm))
            neuron = self._only_reader(last)
            if neuron is not None and neuron.module is not None:
                gain = folded_gain(neuron.module, self.target)
                if not isinstance(gain, float):
                    scaling = scaling.then(gain)
            return last, synapse_piece(name, step.name, module, step.before, scaling, self.wishes.dt)
        if isinstance(module, _NORMS):
            gain, offset = norm_scaling(module, step.name)
            return step, norm_piece(name, step.before, gain, offset, self.dtype)
        if isinstance(module, Neuron | LeakyReadout):
            piece = neuron_piece(name, step.name, module, step.shape, self.wishes)
            gain = folded_gain(module, self.target)
            if not isinstance(gain, float) and not self._folds_into(step):
                scale = self.nir.Scale(scale=filled(gain, step.shape).astype(np.float32))
                piece = Piece(
                    {f"{name}_gain": scale, **piece.nodes}, f"{name}_gain", piece.exit,
                    [*piece.edges, (f"{name}_gain", piece.entry)],
                )  # fmt: skip
            return step, piece
        lacks = self.target.nodes is not None and "AvgPool2d" not in self.target.nodes
        return step, pool_piece(name, step.name, module, step.before, step.shape, self._binary(step.sources[0]), lacks)

    def _only_reader(self, step: Step) -> Step | None:
        readers = self.readers.get(id(step), [])
        return readers[0] if len(readers) == 1 and step is not self.found.output else None

    def _folds_into(self, neuron: Step) -> bool:
        """Whether the resistance of `neuron` has gone into the weights before it."""
        source = neuron.sources[0]
        if isinstance(source.module, _NORMS) and isinstance(source.sources[0].module, WEIGHTED):
            if self._only_reader(source.sources[0]) is not source:
                return False
        elif not isinstance(source.module, WEIGHTED):
            return False
        return self._only_reader(source) is neuron

    def _binary(self, step: Step) -> bool:
        if isinstance(step.module, Neuron):
            return True  # only binary neurons are written at all
        return isinstance(step.module, nn.MaxPool2d) and self._binary(step.sources[0])

    def _flatten(self, name: str, step: Step, shape: tuple[int, ...] | None = None) -> Piece:
        before = step.before if shape is None else shape
        node = self.nir.Flatten(input_type={"input": np.array(before)}, start_dim=0, end_dim=-1)
        return Piece.chain({name: node})

    def _scale(self, name: str, step: Step) -> Piece:
        return Piece.chain({name: self.nir.Scale(scale=filled(step.value, step.shape).astype(np.float32))})

    def _mean(self, name: str, step: Step) -> Piece:
        window = (step.before[1], step.before[2])
        if self.target.nodes is not None and "AvgPool2d" not in self.target.nodes:
            pool = averaging(step.before, window, window, (0, 0), self.nir)
        else:
            pool = self.nir.AvgPool2d(np.array(window), np.array(window), np.array((0, 0)))
        if step.kind == "tokens":
            return Piece.chain({name: pool})
        flat = self.nir.Flatten(input_type={"input": np.array((step.before[0], 1, 1))}, start_dim=0, end_dim=-1)
        return Piece.chain({f"{name}_pool": pool, name: flat})
