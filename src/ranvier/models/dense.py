"""What nets for segmentation and detection promise, and the feature maps that they take from a classifier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import Embed
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import MODELS, create_model
from ranvier.neurons import NeuronFactory

_DEFAULTS: dict[str, dict[str, Any]] = {"spiking_conv_net": {"channels": (16, 32, 64), "hidden": 0}}


@dataclass(frozen=True)
class Detection:
    """Objects of one sample, best first: boxes `[n, D]`, scores `[n]`, classes `[n]`.

    D = 4 in images (x1, y1, x2, y2 in pixels), 7 in clouds (centre, sizes, heading).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@runtime_checkable
class SegmentationNet(Protocol):
    """Maps a batch to per-step logits with the classes last: `[T, B, h, w, K]` of images, `[T, B, N, K]` of clouds.

    h and w may be smaller than the image; logits are then brought to its size (bilinear).
    """

    segments: bool
    num_classes: int


@runtime_checkable
class DetectionNet(Protocol):
    """`detect(x)` gives a `Detection` a sample, `loss(x, boxes, labels)` the terms of the loss.

    `forward(x)` is `detect`; `forward(x, boxes, labels)` is the sum of the terms, so that wrappers of modules see it.
    """

    num_classes: int

    def detect(self, clouds: Any) -> list[Detection]:
        """The objects of every sample."""
        ...

    def loss(self, clouds: Any, boxes: Sequence[Tensor], labels: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """The terms to add up and minimise."""
        ...


class Backbone(nn.Module):
    """The feature maps of a registered classifier: its `features`, without its head.

    Args:
        name: a registered model that has `features` (`feature_kind` is not "none").
        arguments: of it, on top of the shapes given here; None for its own (of the conv net: three convolutions).
        levels: how many of its maps are used, the coarsest ones of different sizes; None for all.

    `channels` and `strides` tell the maps, finest first; `membrane` whether they are potentials rather than spikes.
    """

    def __init__(
        self, name: str, arguments: Mapping[str, Any] | None, levels: int | None, **shapes: Any
    ) -> None:  # fmt: skip
        super().__init__()
        net = create_model(
            name, num_classes=1, **shapes, **(_DEFAULTS.get(name, {}) if arguments is None else dict(arguments))
        )
        if not isinstance(net, SpikingClassifier) or net.feature_kind == "none":
            able = sorted(n for n, e in MODELS.items() if getattr(e.builder, "feature_kind", "none") != "none")
            raise ArgumentError(f"backbone: {name!r} gives no feature maps; those that do: {', '.join(able)}")
        self.membrane = net.feature_kind == "membrane"
        sizes = _probe(net)
        for unused in [child for child in net._modules if child not in sizes[1]]:
            net._modules[unused] = nn.Identity()  # the head, which would otherwise be parameters without a gradient
        self.net = net
        height = net.img_size[0]
        chosen: dict[int, int] = {}  # of maps of one size, the last
        for number, (_, h) in enumerate(sizes[0]):
            chosen[-(-height // h)] = number
        picked = sorted(chosen.items())
        if levels is not None and not 1 <= levels <= len(picked):
            raise ArgumentError(f"levels must be from 1 to {len(picked)} for the backbone {name!r}, got {levels!r}")
        picked = picked[-levels:] if levels else picked
        self.strides = tuple(stride for stride, _ in picked)
        self.indices = tuple(number for _, number in picked)
        self.channels = tuple(sizes[0][number][0] for number in self.indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps `[T, B, C, H / stride, W / stride]`, finest first, of images or a sequence."""
        found = self.net.features(self.net.sequence(x))
        return [found[number] for number in self.indices]


class Pyramid(nn.Module):
    """A spiking feature pyramid (Lin et al., 2017, with membrane shortcuts): potentials `[T, B, width, ...]` a level.

    Every lateral and smoothing convolution gets spikes; a coarser level is added to a finer one as a potential.

    Args:
        channels: of the maps, finest first.
        width: of all levels.
        membrane: the maps are potentials, and get a neuron; spikes are convolved as they are.
    """

    def __init__(self, channels: Sequence[int], width: int, neuron: NeuronFactory, membrane: bool) -> None:
        super().__init__()
        front = neuron if membrane else None
        self.laterals = nn.ModuleList(Embed(c, width, front, kernel=1) for c in channels)
        self.smooth = nn.ModuleList(Embed(width, width, neuron) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = levels[i] + upsampled(levels[i + 1], levels[i].shape[-2:])
        return [smooth(x) for smooth, x in zip(self.smooth, levels, strict=True)]


def upsampled(x: Tensor, size: Sequence[int], mode: str = "nearest") -> Tensor:
    """`x` `[T, B, C, h, w]` at another height and width."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    flat = nn.functional.interpolate(
        x.flatten(0, 1), tuple(size), mode=mode, align_corners=False if mode == "bilinear" else None
    )
    return flat.unflatten(0, x.shape[:2])


def _probe(net: SpikingClassifier) -> tuple[list[tuple[int, int]], set[str]]:
    """Channels and height of every map, and the children that made them; nothing is computed."""
    probe = copy.deepcopy(net).to("meta").eval()
    used: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: used.add(name.split(".")[0]))
        for name, module in probe.named_modules()
        if name
    ]
    with torch.no_grad():
        maps = probe.features(torch.zeros(1, 1, *probe.input_shape, device="meta"))
    for handle in handles:
        handle.remove()
    return [(m.shape[2], m.shape[3]) for m in maps], used | {"encoder"}
