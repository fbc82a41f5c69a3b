"""The SpikePoint classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier import encode
from ranvier.encode.event_cloud import Anchor, EventCloudGrouper, Scope, Sign
from ranvier.errors import ArgumentError
from ranvier.models.cloud import CloudNet
from ranvier.models.spikepoint.blocks import PLIF, CodeLookup, LinearNorm, Order, pack_bits
from ranvier.models.spikepoint.extractors import GlobalExtractor, LocalExtractor, Pool
from ranvier.neurons import NeuronFactory, NeuronSpec

Extractors = Literal["both", "local", "global"]


class SpikePoint(CloudNet):
    """Groups of neighbours, rate-coded coordinates, two extractors, a voting head (Ren et al., ICLR 2024).

    A cloud `[B, N, 3]` of (x, y, time), each in [0, 1], is coded into T steps; a sequence `[T, B, N, 3]` has one
    each step. Output `[T, B, num_classes]`: the share of the class's `votes` neurons that fire.

    Args:
        in_channels, num_points, num_classes, T: as in `CloudNet`; three channels.
        widths: C1 .. C4.
        num_groups, k, sd_scope, sign, anchor: of `EventCloudGrouper`; `num_groups` None makes every point a centroid.
        votes: output neurons of a class.
        neuron: name or mapping.
        encoder: of the coordinates ("rate": fresh noise in every pass, as published; "deterministic_rate"; "direct").
        order: residual behind the neuron ("post"), before it ("pre"), or "none".
        fusion: local features and centroid branch "add" or "concat".
        extractors: "both", or one alone.
        pool: over all groups, see `GlobalExtractor`.
        pool_bias: initial bias of the norm before it; "auto" lets about a third of the pooled neurons fire at a step,
            None leaves 0, with which the pool of a large cloud is all ones and tells nothing apart.
        head_norm: batch norm in the head: "plain" (without parameters), "affine", or None.
        eval_samples: encodings averaged in evaluation.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_points: int = 1024,
        num_classes: int = 12,
        T: int = 16,
        widths: Sequence[int] = (32, 64, 128, 256),
        num_groups: int | None = None,
        k: int = 24,
        sd_scope: Scope = "cloud",
        sign: Sign = "abs",
        anchor: Anchor = "min",
        votes: int = 10,
        neuron: NeuronSpec = PLIF,
        encoder: str | Mapping[str, Any] | encode.Encoder = "rate",
        order: Order = "post",
        fusion: Literal["add", "concat"] = "add",
        extractors: Extractors = "both",
        pool: Pool = "max",
        pool_bias: float | Literal["auto"] | None = "auto",
        head_norm: Literal["plain", "affine"] | None = "plain",
        eval_samples: int = 1,
    ) -> None:
        super().__init__(in_channels, num_points, num_classes, T)
        if in_channels != 3:
            raise ArgumentError(f"in_channels must be 3 (x, y, time), got {in_channels!r}")
        if len(widths) != 4 or any(not isinstance(w, int) or w < 2 for w in widths):
            raise ArgumentError(f"widths must be four integers of at least 2, got {list(widths)!r}")
        for name, value, known in (
            ("order", order, ("post", "pre", "none")), ("fusion", fusion, ("add", "concat")),
            ("extractors", extractors, ("both", "local", "global")),
            ("pool", pool, ("max", "max_rate", "max_membrane")),
            ("head_norm", head_norm, ("plain", "affine", None)),
        ):  # fmt: skip
            if value not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        for name, value in (("votes", votes), ("eval_samples", eval_samples)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        groups = num_points if num_groups is None else num_groups
        make = NeuronFactory(neuron)
        c1 = widths[0]
        self.votes, self.fusion, self.eval_samples = votes, fusion, eval_samples
        self.encoder = encode.build(encoder)
        self.grouper = EventCloudGrouper(groups, k, sd_scope, sign, anchor)
        self.local = LocalExtractor(6, c1, make, order) if extractors != "global" else None
        self.centroid = CodeLookup(3, c1)
        self.centroid_neuron = make(channel_axis=-1)
        self.overall = None
        features = c1 * (2 if fusion == "concat" and extractors != "global" else 1)
        if extractors != "local":
            self.overall = GlobalExtractor(features, tuple(widths[1:]), make, order, pool)
            features = widths[3]
            if pool_bias is not None:
                bias = rate_bias(groups) if pool_bias == "auto" else pool_bias
                nn.init.constant_(self.overall.last.norm.bias, bias)
        hidden = widths[3]
        self.head = nn.ModuleList([_head(features, hidden, head_norm), _head(hidden, votes * num_classes, head_norm)])
        self.head_neurons = nn.ModuleList([make(channel_axis=-1), make(channel_axis=-1)])

    def encode(self, values: Tensor, steps: int) -> Tensor:
        """Coordinates as T steps: codes of spikes for encoders that spike, else values.

        `values` `[B, ...]` are coded into `steps` steps; with `steps` 0 they are a sequence `[T, B, ...]` of one step
        each.
        """
        clipped = values.clamp(0, 1) if self.encoder.sparse else values
        coded = self.encoder(clipped, steps) if steps else self.encoder(clipped.flatten(0, 1), 1)[0].view(values.shape)
        return pack_bits(coded) if self.encoder.sparse else coded

    def logits(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Coded members and centroids to votes `[T, B, num_classes]`."""
        s = self.centroid_neuron(self.centroid(x2))
        if self.local is not None:
            local = self.local(x1)
            s = torch.cat([local, s], -1) if self.fusion == "concat" else local + s
        s = s.max(2).values if self.overall is None else self.overall(s)
        for layer, neuron in zip(self.head, self.head_neurons, strict=True):
            s = neuron(layer(s))
        return s.unflatten(-1, (self.num_classes, self.votes)).mean(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Votes `[T, B, num_classes]` of clouds `[B, N, 3]` or a sequence of them."""
        self.check_clouds(x)
        sequence = x.dim() == 4
        x1, x2 = self.grouper(x.flatten(0, 1) if sequence else x)
        assert x2 is not None
        if sequence:
            x1, x2 = (v.unflatten(0, x.shape[:2]) for v in (x1, x2))
        steps = 0 if sequence else self.T
        passes = 1 if self.training else self.eval_samples
        total = [self.logits(self.encode(x1, steps), self.encode(x2, steps)) for _ in range(passes)]
        return total[0] if passes == 1 else torch.stack(total).mean(0)


def _head(in_features: int, out_features: int, norm: Literal["plain", "affine"] | None) -> nn.Module:
    if norm is None:
        return nn.Linear(in_features, out_features)
    return LinearNorm(in_features, out_features, affine=norm == "affine")


def rate_bias(groups: int, pooled: float = 0.3) -> float:
    """The bias of a normalised current with which the maximum over `groups` neurons fires with probability `pooled`.

    A current N(b, 1) in every step leaves a leaky membrane (decay ½) at N(2b, 4/3); the groups count as independent.
    """
    rate = 1 - (1 - pooled) ** (1 / groups)
    return (1 - math.sqrt(4 / 3) * NormalDist().inv_cdf(1 - rate)) / 2
