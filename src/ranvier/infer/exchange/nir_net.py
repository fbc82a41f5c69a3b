"""A net that runs a graph of layers, cycles included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.exchange.nir_modules import DelayLine
from ranvier.state import Memory, Stateful, carry

Edge = tuple[str, str]


class FeedbackLoop(Stateful):
    """Layers that feed back into each other, run step by step; a feedback edge carries the value of the step before.

    Args:
        layers: by name, in the order in which they run.
        sources: for each layer the names whose results it sums: layers, or names outside of the loop.
        feedback: the edges that carry the past.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], sources: Mapping[str, Sequence[str]], feedback: Sequence[Edge]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.sources = {name: list(found) for name, found in sources.items()}
        self.feedback = frozenset(feedback)
        self.carrying = sorted({source for source, _ in feedback})
        self.outside = sorted({s for found in self.sources.values() for s in found if s not in layers})
        self._layout: list[tuple[tuple[str, int], int]] = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sequences `[T, B, ...]` of the names outside to those of every layer."""
        steps = next(iter(inputs.values())).shape[0]
        memory, past = Memory(), dict[str, Tensor]()
        state = self.recall()
        if state is not None:
            past = dict(zip(self.carrying, state, strict=False))
            rest = list(state[len(self.carrying) :])
            for key, count in self._layout:
                memory.states[key] = tuple(rest[:count])
                rest = rest[count:]
        out: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        outer = [(m, m._carried) for m in self.layers.modules() if isinstance(m, Stateful)]
        try:
            with carry(self.layers, memory):
                for t in range(steps):
                    now = {name: inputs[name][t : t + 1] for name in self.outside}
                    for name, layer in self.layers.items():
                        now[name] = layer(self._sum(name, layer, now, past))
                        out[name].append(now[name])
                    past = {name: now[name] for name in self.carrying}
        finally:
            for module, carried in outer:
                module._carried = carried
        self._layout = [(key, len(s)) for key, s in memory.states.items()]
        self.remember((*(past[n] for n in self.carrying), *(t for s in memory.states.values() for t in s)))
        return {name: torch.cat(parts) for name, parts in out.items()}

    def _sum(
        self, name: str, layer: nn.Module, now: Mapping[str, Tensor], past: Mapping[str, Tensor]
    ) -> Tensor:  # fmt: skip
        parts = [past.get(source) if (source, name) in self.feedback else now[source] for source in self.sources[name]]
        found = [part for part in parts if part is not None]
        if not found and isinstance(layer, DelayLine):  # nothing has come round yet
            like = next(iter(now.values()))
            return like.new_zeros(*like.shape[:2], *layer.delay.shape)
        if not found:
            raise ArgumentError(f"node {name!r} is fed by nothing but its own loop in the first step")
        total = found[0]
        for part in found[1:]:
            total = total + part
        return total


class NirNet(nn.Module):
    """A graph of layers: sequences `[T, B, ...]` to `[T, B, ...]`, made by `from_nir`.

    Attributes:
        layers: by the names of the nodes (delays that were merged into weights are under the weights' name).
        dt: seconds a step.
        input_shape: of one sample at one step.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], plan: Sequence[str],
        sources: Mapping[str, Sequence[str]], output: Sequence[str], input_shape: tuple[int, ...], dt: float,
        loops: Mapping[str, FeedbackLoop],
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.loops = nn.ModuleDict(loops)
        self.plan = list(plan)  # names of layers, and of loops
        self.sources = {name: list(found) for name, found in sources.items()}
        self.output, self.input_shape, self.dt = list(output), input_shape, dt

    @property
    def nodes(self) -> dict[str, nn.Module]:
        """Every layer by name, those inside loops included."""
        inside = {n: m for loop in self.loops.values() for n, m in loop.layers.items()}  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues, reportAttributeAccessIssue]
        return {**dict(self.layers.items()), **inside}

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != len(self.input_shape) + 2 or tuple(x.shape[2:]) != self.input_shape or 0 in x.shape[:2]:
            raise ShapeError(f"this graph takes [T, B, {', '.join(map(str, self.input_shape))}], got {tuple(x.shape)}")
        values: dict[str, Tensor] = {"input": x}
        for name in self.plan:
            if name in self.loops:
                loop: Any = self.loops[name]
                values |= loop.run({source: values[source] for source in loop.outside})
            else:
                values[name] = self.layers[name](_total(values, self.sources[name]))  # pyright: ignore[reportArgumentType, reportCallIssue]
        return _total(values, self.output)


def _total(values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    total = values[names[0]]
    for name in names[1:]:
        total = total + values[name]
    return total
