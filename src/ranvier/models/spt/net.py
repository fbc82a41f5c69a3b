"""The Spiking Point Transformer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import ConvBN
from ranvier.models.cloud import CloudNet
from ranvier.models.official import OfficialNames
from ranvier.models.spt.blocks import PointTransition, VectorAttention
from ranvier.models.spt.sampling import queue_rows
from ranvier.models.transformer import truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.points import group

Sampling = Literal["queue", "repeat"]
LIF_HALF: dict[str, Any] = {"type": "lif", "threshold": 0.5}


class SpikingPointTransformer(CloudNet):
    """Another subset of the cloud at every step, vector attention among neighbours (SPT; Wu et al., AAAI 2025).

    Points → two convolutions to 32 channels → stages of one attention block, each with a quarter of the points and
    twice the channels of the one before → mean over the points → head of three layers. A cloud `[B, N, C]` is shared
    out over T steps; a sequence `[T, B, N, C]` has one a step. Output `[T, B, num_classes]`.

    Args:
        in_channels, num_points, num_classes, T: as in `CloudNet`; three coordinates, and normals if C is 6.
        width: d, channels inside of the attention.
        channels: of the first stage; stage i has 2^i as many.
        stages: with transitions between them.
        neighbours: k of attention and transitions.
        sampling: "queue" (Q-SDE), or "repeat" for the whole cloud at every step.
        samples: least points a step of the queue.
        first: the neuron at the start of every block; the paper's HD-IF sees all T steps at once and needs exactly T of
            them. `None` takes `neuron` (as STEP does; the net then streams).
        neuron: name or mapping of the others.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_points: int = 1024,
        num_classes: int = 40,
        T: int = 4,
        width: int = 512,
        channels: int = 32,
        stages: int = 5,
        neighbours: int = 16,
        sampling: Sampling = "queue",
        samples: int = 512,
        first: NeuronSpec | None = "hd_lif",
        neuron: NeuronSpec = LIF_HALF,
    ) -> None:
        super().__init__(in_channels, num_points, num_classes, T)
        if in_channels < 3:
            raise ArgumentError(f"in_channels must be at least 3 (the position), got {in_channels!r}")
        for name, value in (("width", width), ("channels", channels), ("stages", stages), ("neighbours", neighbours)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if sampling not in ("queue", "repeat"):
            raise ArgumentError(f"sampling must be 'queue' or 'repeat', got {sampling!r}")
        make = NeuronFactory(neuron)
        start = make if first is None else NeuronFactory(_per_step(first, T))
        self.sampling: Sampling = sampling
        self.samples = samples
        self.released = False
        self.lift1 = ConvBN(in_channels, channels, 1, bias=True, dims=1)
        self.lift_neuron = make(channels=channels)
        self.lift2 = ConvBN(channels, channels, 1, bias=True, dims=1)
        widths = [channels * 2**i for i in range(stages)]
        self.blocks = nn.ModuleList(VectorAttention(c, width, neighbours, make, start) for c in widths)
        self.transitions = nn.ModuleList(
            PointTransition(before, after, max(1, num_points // 4 ** (i + 1)), neighbours, make)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        )
        sizes = (widths[-1], max(1, widths[-1] // 2), max(1, widths[-1] // 8))
        self.head_neurons = nn.ModuleList(make(channels=c) for c in sizes)
        self.head_layers = nn.ModuleList(ConvBN(a, b, 1, bias=True, dims=1) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(sizes[-1], num_classes)
        truncated_normal(self.head, 0.02)

    def steps(self, x: Tensor) -> Tensor:
        """A cloud `[B, N, C]` as the sequence `[T, B, n, C]` that the net sees."""
        if self.sampling == "repeat":
            return x.expand(self.T, *x.shape)
        rows = queue_rows(x[..., :3], self.T, self.samples, self.released)
        return group(x.expand(self.T, *x.shape).flatten(0, 1), rows.flatten(0, 1).unsqueeze(-1)).view(*rows.shape, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[T, B, num_classes]` of clouds `[B, N, C]` or a sequence `[T, B, N, C]` of them."""
        self.check_clouds(x)
        x = x if x.dim() == 4 else self.steps(x)
        xyz, y = x[..., :3], x.mT
        y = self.lift2(self.lift_neuron(self.lift1(y)))
        y = self.blocks[0](xyz, y)
        for transition, block in zip(self.transitions, self.blocks[1:], strict=True):
            xyz, y = transition(xyz, y)
            y = block(xyz, y)
        y = y.mean(-1, keepdim=True)
        for neuron, layer in zip(self.head_neurons[:-1], self.head_layers, strict=True):
            y = layer(neuron(y))
        return self.head(self.head_neurons[-1](y).squeeze(-1))

    def official_names(self) -> OfficialNames:
        """Names in the repository PeppaWu/SPT, whose layers are numbered sequences."""
        part = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
        layers: dict[str, str] = {
            r"backbone\.fc1\.0": "lift1.conv", r"backbone\.fc1\.1": "lift1.bn",
            r"backbone\.fc1\.3": "lift2.conv", r"backbone\.fc1\.4": "lift2.bn",
            r"fc2\.1": "head_layers.0.conv", r"fc2\.2": "head_layers.0.bn", r"fc2\.4": "head_layers.1.conv",
            r"fc2\.5": "head_layers.1.bn", r"fc2\.7": "head",
        }  # fmt: skip
        inside = {
            r"fc1\.1": "widen.block.conv", r"fc1\.2": "widen.block.bn", r"fc2\.1": "narrow.conv",
            r"fc2\.2": "narrow.bn", r"fc_delta\.1": "place1.conv", r"fc_delta\.2": "place1.bn",
            r"fc_delta\.4": "place2.conv", r"fc_delta\.5": "place2.bn", r"fc_gamma\.1": "weigh1.conv",
            r"fc_gamma\.2": "weigh1.bn", r"fc_gamma\.4": "weigh2.conv", r"fc_gamma\.5": "weigh2.bn",
            r"w_qs\.0": "q.block.conv", r"w_qs\.1": "q.block.bn", r"w_ks\.0": "k.block.conv",
            r"w_ks\.1": "k.block.bn", r"w_vs\.0": "v.block.conv", r"w_vs\.1": "v.block.bn",
        }  # fmt: skip
        rules: list[tuple[str, str]] = []
        for stage in range(len(self.blocks)):
            at = r"backbone\.transformer1\.0\." if stage == 0 else rf"backbone\.transformers\.{stage - 1}\."
            layers |= {at + theirs: f"blocks.{stage}.{ours}" for theirs, ours in inside.items()}
            rules += [
                (at + r"fc1\.0\.gate\.(weight|bias)", rf"blocks.{stage}.before.\1"),
                (at + r"fc1\.0\.experts\.(\d)\.w", rf"blocks.{stage}.before.experts.\1.w"),
            ]
            for i in (0, 1):
                down = rf"backbone\.transition_downs\.{stage}\.sa\.mlp_"
                layers |= {
                    rf"{down}convs\.{i}": f"transitions.{stage}.conv{i + 1}.conv",
                    rf"{down}bns\.{i}": f"transitions.{stage}.conv{i + 1}.bn",
                }
        rules += [(theirs + part, ours + r".\1") for theirs, ours in layers.items()]
        return OfficialNames(tuple(rules))

    def prepare_official(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The experts of the release are LIF, EIF, PLIF, IF in this order, here IF, LIF, PLIF, EIF; so the gates."""
        order = [3, 0, 2, 1]
        prepared: dict[str, Tensor] = {}
        for name, value in given.items():
            if ".gate." in name:
                value = value[order]
                if name.endswith("weight"):
                    value = value.squeeze(-1).unflatten(1, (self.T, -1))
            prepared[name] = value
        return prepared

    def follow_release(self, on: bool = True) -> str:
        """Switch the release's way of sampling on or off; says what was done."""
        self.released = on
        for transition in self.transitions:
            if isinstance(transition, PointTransition):
                transition.released = on
        return (
            "as in the release, sampling starts at the first point and the queue takes rows of the unseen points for "
            "rows of the cloud; model.follow_release(False) samples as the paper says"
        )


def _per_step(spec: NeuronSpec, steps: int) -> NeuronSpec:
    """HD-IF with the gate that T and the channels ask for; any other neuron as it is."""
    if spec == "hd_lif" or (isinstance(spec, Mapping) and spec.get("type") == "hd_lif"):
        given: Mapping[str, Any] = {"type": spec} if isinstance(spec, str) else spec
        return {"per_channel": True, **given, "steps": steps}
    return spec
