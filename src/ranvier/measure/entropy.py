"""How much a neuron's output can tell: the entropy of its levels, of its spike trains, of queries, keys and values.

Closed form for a current from N(0, 1), or measured in a net. Qiu et al., Quantized Spike-driven Transformer, ICLR 2025,
argue from it that binary queries, keys and values carry too little once weights are quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import SpikingAttention
from ranvier.measure.batches import each
from ranvier.measure.count import undisturbed
from ranvier.neurons import IntegerLIF, Neuron

_MOST_WORDS = 2**52  # float64 and int64 keep every word apart up to here


def spike_entropy(spikes: Tensor, scale: float = 1.0, words: bool = True) -> float:
    """Entropy in bits of what a neuron emits, over all neurons and samples of `spikes` `[T, B, ...]`.

    Args:
        spikes: 0/1, or counts times `scale`.
        scale: value of one count.
        words: take the T steps of a neuron as one word, the entropy of its spike train; False takes every step alone.

    The plug-in estimate: with few samples it is too low by about (distinct words − 1)/(2 N ln 2) bits. Raises
    `ArgumentError` for values that are not counts.
    """
    if spikes.dim() < 1 or spikes.numel() == 0:
        raise ShapeError(f"spikes must be [T, B, ...] and not empty, got shape {tuple(spikes.shape)}")
    counts = spikes.detach().double() / scale
    if not bool((counts - counts.round()).abs().amax() < 1e-4) or bool((counts < -0.5).any()):
        raise ArgumentError(f"spikes must be counts 0, 1, … times scale={scale:g}; real values have no such entropy")
    symbols = counts.round().long()
    if words:
        base = int(symbols.max()) + 1
        if base ** len(symbols) > _MOST_WORDS:
            raise ArgumentError(f"words of {len(symbols)} steps with {base} levels are too many; use words=False")
        powers = torch.tensor([base**t for t in range(len(symbols))], device=symbols.device)
        symbols = (symbols.flatten(1) * powers[:, None]).sum(0)
    _, found = torch.unique(symbols, return_counts=True)
    return _entropy(found.double() / found.sum())


@dataclass(frozen=True)
class InputEntropy:
    """Entropy of a spike train in bits, and the spikes that it takes on average, for a current from N(0, 1)."""

    bits: float
    mean_spikes: float


@torch.no_grad()
def input_entropy(neuron: Neuron, T: int = 1, cells: int = 400_000, reach: float = 8.0) -> InputEntropy:
    """The entropy of `neuron`'s response to a current that is drawn from N(0, 1) once and held for T steps.

    By integration over `cells` cells of the current between −`reach` and `reach`; exact to about 1e-4 bits.
    """
    if T < 1 or cells < 1000:
        raise ArgumentError(f"T must be positive and cells at least 1000, got {T} and {cells}")
    edges = torch.linspace(-reach, reach, cells + 1, dtype=torch.float64)
    mass = torch.special.ndtr(edges).diff()
    centre = (edges[1:] + edges[:-1]) / 2
    out = neuron(centre.expand(T, cells).unsqueeze(-1))[..., 0]
    counts = (out / _scale(neuron)).round().long()
    base = int(counts.max()) + 1
    words = (counts * torch.tensor([base**t for t in range(T)])[:, None]).sum(0)
    _, place = torch.unique(words, return_inverse=True)
    mass_of = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add_(0, place, mass)
    return InputEntropy(_entropy(mass_of), float((counts.sum(0) * mass).sum()))


@torch.no_grad()
def attention_entropy(model: nn.Module, x: Any, words: bool = True) -> dict[str, float]:
    """Entropy in bits of the spikes of queries, keys and values of every attention of `model`, by the layer's name.

    Args:
        model: a net with `ranvier.layers.SpikingAttention`s; run in eval mode and left as it was.
        x: a batch, or batches.
        words: as in `spike_entropy`.
    """
    seen: dict[str, list[Tensor]] = {}
    scales: dict[str, float] = {}
    handles: list[Any] = []
    for name, attention in model.named_modules():
        if isinstance(attention, SpikingAttention):
            for part in attention.names:
                projection = attention.get_submodule(part)
                label = f"{name}.{part}"
                neuron = projection.neuron
                if not isinstance(neuron, Neuron):
                    continue
                scales[label] = _scale(neuron)
                handles.append(projection.register_forward_hook(_keeper(seen, label)))
    if not handles:
        raise ArgumentError("model: it has no spiking attention whose entropy could be measured")
    try:
        with undisturbed(model):
            for batch in each(x):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {label: spike_entropy(torch.cat(parts, 1), scales[label], words) for label, parts in seen.items()}


def _keeper(seen: dict[str, list[Tensor]], label: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(module: nn.Module, given: Any, out: Tensor) -> None:
        seen.setdefault(label, []).append(out.flatten(1))

    return keep


def _scale(neuron: Neuron) -> float:
    return neuron.output_scale if isinstance(neuron, IntegerLIF) else 1.0


def _entropy(p: Tensor) -> float:
    p = p[p > 0]
    return float(-(p * p.log2()).sum())
