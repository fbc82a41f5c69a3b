"""Vector attention among neighbours, and the transition to fewer points."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ranvier.layers import ConvBN
from ranvier.neurons import NeuronFactory
from ranvier.ops.points import farthest_point_sample, group, knn


def points_first(x: Tensor) -> Tensor:
    """`[T, B, C, N]` as one batch of clouds of features, `[T·B, N, C]`."""
    return x.flatten(0, 1).mT


def neighbours(features: Tensor, rows: Tensor) -> Tensor:
    """Features `[T, B, C, N]` of the neighbours `rows` `[T·B, M, k]`: `[T, B, C, M, k]`."""
    found = group(points_first(features), rows)  # [T·B, M, k, C]
    return found.movedim(-1, 1).unflatten(0, features.shape[:2])


class PointProjection(nn.Module):
    """Convolution with bias → BN → neuron on the points `[T, B, C, N]`."""

    def __init__(self, in_channels: int, out_channels: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.block = ConvBN(in_channels, out_channels, 1, bias=True, dims=1)
        self.neuron = neuron(channels=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.block(x))


class VectorAttention(nn.Module):
    """The block of the Spiking Point Transformer (Wu et al., AAAI 2025), with a membrane shortcut:

        s = LIF(BN(W LIF*(x))),  q, k, v = LIF(BN(W s)),  δ = position code of the differences to the neighbours,
        a = softmax over the neighbours of γ(q − k_j + δ_j)/√d,  x ← x + BN(W LIF(Σ_j a_j ⊙ (v_j + δ_j))).

    A weight for every channel and neighbour. The softmax and its weights are real: this is not spike-driven.

    Args:
        dim: channels of the points.
        width: d, channels inside.
        neighbours: of every point, itself included.
        neuron, first: factories of the neurons and of the first one, LIF* (HD-IF in the paper).
    """

    def __init__(self, dim: int, width: int, neighbours: int, neuron: NeuronFactory, first: NeuronFactory) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.before = first(channels=dim)
        self.widen = PointProjection(dim, width, neuron)
        self.q = PointProjection(width, width, neuron)
        self.k = PointProjection(width, width, neuron)
        self.v = PointProjection(width, width, neuron)
        self.place_neuron = neuron(channels=3)
        self.place1 = ConvBN(3, width, 1, bias=True)
        self.place1_neuron = neuron(channels=width)
        self.place2 = ConvBN(width, width, 1, bias=True)
        self.place2_neuron = neuron(channels=width)
        self.weigh_neuron = neuron(channels=width)
        self.weigh1 = ConvBN(width, width, 1, bias=True)
        self.weigh1_neuron = neuron(channels=width)
        self.weigh2 = ConvBN(width, width, 1, bias=True)
        self.narrow_neuron = neuron(channels=width)
        self.narrow = ConvBN(width, dim, 1, bias=True, dims=1)

    def forward(self, xyz: Tensor, x: Tensor) -> Tensor:
        """Positions `[T, B, N, 3]` and membranes `[T, B, C, N]` to membranes."""
        clouds = xyz.flatten(0, 1)
        rows = knn(clouds, clouds, min(self.neighbours, clouds.shape[1]))
        s = self.widen(self.before(x))
        q, k, v = self.q(s), neighbours(self.k(s), rows), neighbours(self.v(s), rows)
        offsets = clouds.unsqueeze(2) - group(clouds, rows)  # [T·B, N, k, 3]
        offsets = offsets.movedim(-1, 1).unflatten(0, xyz.shape[:2])
        place = self.place2_neuron(self.place2(self.place1_neuron(self.place1(self.place_neuron(offsets)))))
        score = self.weigh2(self.weigh1_neuron(self.weigh1(self.weigh_neuron(q.unsqueeze(-1) - k + place))))
        weights = torch.softmax(score / math.sqrt(score.shape[2]), -1)
        y = (weights * (v + place)).sum(-1)
        return x + self.narrow(self.narrow_neuron(y))


class PointTransition(nn.Module):
    """To fewer points: farthest-point samples, for each the maximum over its neighbours of two LIF → conv → BN.

    The first sees the differences in position to the neighbours beside their membranes.
    """

    def __init__(self, dim: int, out: int, points: int, neighbours: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.points, self.neighbours = points, neighbours
        self.neuron1 = neuron(channels=dim + 3)
        self.conv1 = ConvBN(dim + 3, out, 1, bias=True)
        self.neuron2 = neuron(channels=out)
        self.conv2 = ConvBN(out, out, 1, bias=True)
        self.released = False  # the release starts its sampling at the first point

    def forward(self, xyz: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Positions `[T, B, N, 3]`, membranes `[T, B, C, N]`: those of the kept points."""
        clouds = xyz.flatten(0, 1)
        n = clouds.shape[1]
        start = torch.zeros(len(clouds), dtype=torch.int64, device=x.device) if self.released else None
        kept = farthest_point_sample(clouds, min(self.points, n), start=start)
        centres = group(clouds, kept.unsqueeze(-1)).squeeze(2)
        rows = knn(centres, clouds, min(self.neighbours, n))
        offsets = group(clouds, rows) - centres.unsqueeze(2)
        offsets = offsets.movedim(-1, 1).unflatten(0, xyz.shape[:2])
        y = torch.cat([offsets, neighbours(x, rows)], 2)
        y = self.conv2(self.neuron2(self.conv1(self.neuron1(y))))
        return centres.unflatten(0, xyz.shape[:2]), y.amax(-1)
