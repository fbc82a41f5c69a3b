"""How far apart two domains are inside a net: alignment layer by layer, and histograms of the membranes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer.cka import alignment, centred_gram
from ranvier.train.transfer.tap import Tap, has_membrane, neuron_layers, tapped

BINS = 41


@dataclass(frozen=True)
class MembraneHistogram:
    """Shares of the membrane values of a layer in equally wide bins between `low` and `high`, in both domains.

    Values outside count in the outermost bins.
    """

    low: float
    high: float
    static: tuple[float, ...]
    event: tuple[float, ...]

    @property
    def distance(self) -> float:
        """Total variation between the two: 0 for equal histograms, 1 for disjoint ones."""
        return sum(abs(a - b) for a, b in zip(self.static, self.event, strict=True)) / 2


@dataclass(frozen=True)
class DomainDiagnosis:
    """Neuron layers of the static net and the event net, the debiased and the plain alignment of each pair of layers
    (`[static layer][event layer]`), and for each layer that both have the histograms of its membrane."""

    samples: int
    static_layers: tuple[str, ...]
    event_layers: tuple[str, ...]
    debiased: tuple[tuple[float, ...], ...]
    biased: tuple[tuple[float, ...], ...]
    histograms: dict[str, MembraneHistogram]

    @property
    def diagonal(self) -> dict[str, float]:
        """The debiased alignment of each layer with itself, of layers that both nets have."""
        return {
            name: self.debiased[row][self.event_layers.index(name)]
            for row, name in enumerate(self.static_layers)
            if name in self.event_layers
        }

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON-ready values."""
        return {**asdict(self), "diagonal": self.diagonal}


@torch.no_grad()
def diagnose_domains(
    net: nn.Module, static: Tensor, event: Tensor, static_net: nn.Module | None = None
) -> DomainDiagnosis:
    """Compare what `net` makes of events with what it (or `static_net`) makes of static samples of the same classes.

    Args:
        net: a net with neurons; it is looked at in eval mode.
        static, event: samples `[T, B, ...]`, paired by class, at least four of them.
        static_net: another net for the static samples, one that was trained on images, say.

    Features of a layer are its membrane after reset (its output where it has none), averaged over the steps. Alignment
    between unrelated features is 0 by the debiased estimate and may be close to 1 by the plain one.
    """
    if static.shape[1] != event.shape[1]:
        raise ShapeError(
            f"static and event must hold the same samples, got batches of {static.shape[1]} and {event.shape[1]}"
        )
    if event.shape[1] < 4:
        raise ShapeError(f"a diagnosis needs at least four samples, got {event.shape[1]}")
    first = _states(net if static_net is None else static_net, static)
    second = _states(net, event)
    tables: list[tuple[tuple[float, ...], ...]] = []
    for debiased in (True, False):
        grams = [
            [centred_gram(v.mean(0).flatten(1).double()[None], debiased=debiased) for v in states.values()]
            for states in (first, second)
        ]
        tables.append(tuple(tuple(float(alignment(k, other, 0.0)) for other in grams[1]) for k in grams[0]))
    shared = [name for name in first if name in second]
    return DomainDiagnosis(
        event.shape[1], tuple(first), tuple(second), tables[0], tables[1],
        {name: _histogram(first[name], second[name]) for name in shared},
    )  # fmt: skip


def _states(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Membranes (or outputs) `[T, B, ...]` of every neuron layer that is called, by name."""
    layers = neuron_layers(net)
    if not layers:
        raise ArgumentError(f"{type(net).__name__} has no neurons to look at")
    taps = [Tap(name, "membrane" if has_membrane(neuron) else "output") for name, neuron in layers.items()]
    training = net.training
    net.eval()
    try:
        with tapped(net, taps) as found:
            net(x)
    finally:
        net.train(training)
    return dict(zip(layers, found, strict=True))


def _histogram(static: Tensor, event: Tensor) -> MembraneHistogram:
    both = [values.detach().flatten().float() for values in (static, event)]
    edges = [float(v) for values in both for v in (values.kthvalue(max(1, len(values) // 500)).values, values.max())]
    low, high = min(edges), max(edges)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    shares = [torch.histc(values.clamp(low, high), BINS, low, high) / len(values) for values in both]
    return MembraneHistogram(low, high, tuple(shares[0].tolist()), tuple(shares[1].tolist()))
