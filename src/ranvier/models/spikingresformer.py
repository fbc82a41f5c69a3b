"""SpikingResformer: the stages of a ResNet, with dual spike self-attention in each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import DSSA, GWFFN, Embed, TransformerBlock
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import check_transformer, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec

LIF_ATAN: dict[str, Any] = {"type": "lif", "surrogate": "atan"}


class SpikingResformer(SpikingClassifier):
    """Prologue, stages of DSSA and GWFFN with membrane shortcuts, spatial mean, linear head (Shi et al., CVPR 2024).

    `x ← x + DSSA(x)`, `x ← x + GWFFN(x)`; between stages neuron → conv 3×3 s2 → BN. No layer has a bias.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        widths: channels of each stage.
        depths: pairs of DSSA and GWFFN of each stage.
        num_heads: heads of each stage.
        patch_sizes: side of the patches of each stage's attention.
        prologue: "strided" for conv 7×7 s2 → BN → max-pool s2, "plain" for conv 3×3 → BN.
        group_size: channels of a group in the GWFFN.
        rate_scale: False leaves the attention products unscaled, for an ablation.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "membrane"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 1, 1),
        num_heads: Sequence[int] = (1, 2, 4),
        patch_sizes: Sequence[int] = (4, 2, 1),
        prologue: Literal["strided", "plain"] = "plain",
        group_size: int = 64,
        rate_scale: bool = True,
        neuron: NeuronSpec = LIF_ATAN,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if prologue not in ("strided", "plain"):
            raise ArgumentError(f"prologue must be 'strided' or 'plain', got {prologue!r}")
        lists = {"widths": widths, "depths": depths, "num_heads": num_heads, "patch_sizes": patch_sizes}
        for name, given in lists.items():
            if isinstance(given, int) or len(given) != len(widths) or not given:
                raise ArgumentError(f"{name} must have one number for each of {len(widths)} stages, got {given!r}")
        for sizes in zip(widths, depths, num_heads, strict=True):
            check_transformer(*sizes)
        _check_grids(self.img_size, patch_sizes, prologue)
        make = NeuronFactory(neuron)
        if prologue == "strided":
            self.prologue = Embed(in_channels, widths[0], None, kernel=7, stride=2, pool="max")
        else:
            self.prologue = Embed(in_channels, widths[0], None)
        self.transitions = nn.ModuleList(Embed(i, o, make, stride=2) for i, o in itertools.pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    TransformerBlock(
                        DSSA(width, heads, make, patch_size=patch, rate_scale=rate_scale),
                        GWFFN(width, make, group_size=group_size),
                    )
                    for _ in range(depth)
                )
            )
            for width, depth, heads, patch in zip(widths, depths, num_heads, patch_sizes, strict=True)
        )
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        truncated_normal(self, 0.02)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind every stage of a sequence, each half as large as the one before."""
        found = [self.stages[0](self.prologue(x))]
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            found.append(stage(transition(found[-1])))
        return tuple(found)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1].mean((3, 4)))

    def official_names(self) -> OfficialNames:
        """Names in the repository xyshi2000/SpikingResformer, with LIF or PLIF neurons."""
        rules = [
            (r"prologue\.0\.weight", r"prologue.block.conv.weight"),
            (r"prologue\.1\.bn\.(\w+)", r"prologue.block.bn.\1"),
            (r"classifier\.weight", r"head.weight"),
        ]
        for i, stage in enumerate(self.stages):
            if i:
                rules += _layer(rf"layers\.{i}\.0\.", f"transitions.{i - 1}", "conv", "norm", "activation")
            for b in range(len(stage)):  # pyright: ignore[reportArgumentType]
                place = 2 * b + (i > 0)
                at, ours = rf"layers\.{i}\.{place}\.", f"stages.{i}.{b}.attention."
                rules += _layer(at, ours + "embed", "W", "norm")
                rules += _layer(at, ours + "proj", "Wproj", "norm_proj")
                rules += [
                    (at + r"firing_rate_x", ours + "input_rate"),
                    (at + r"firing_rate_attn", ours + "map_rate"),
                    (at + r"activation_in\.w", ours + "before.w"),
                    (at + r"activation_attn\.w", ours + "map_neuron.w"),
                    (at + r"activation_out\.w", ours + "product_neuron.w"),
                ]
                at, ours = rf"layers\.{i}\.{place + 1}\.", f"stages.{i}.{b}.mlp."
                for part in ("up", "down"):
                    rules += _layer(at + part + r"\.", ours + part, "1", "2", "0")
                rules += [
                    (at + r"conv\.(\d+)\.0\.w", ours + r"convs.\1.0.w"),
                    (at + r"conv\.(\d+)\.1\.weight", ours + r"convs.\1.1.conv.weight"),
                    (at + r"conv\.(\d+)\.2\.bn\.(\w+)", ours + r"convs.\1.1.bn.\2"),
                ]
        return OfficialNames(tuple(rules))


def _layer(at: str, ours: str, conv: str, norm: str, neuron: str | None = None) -> list[tuple[str, str]]:
    """Rules for a convolution, its batch norm and the neuron before them."""
    embed = ours if neuron is None else f"{ours}.block"
    rules = [(at + conv + r"\.weight", f"{embed}.conv.weight"), (at + norm + r"\.bn\.(\w+)", embed + r".bn.\1")]
    return rules if neuron is None else [*rules, (at + neuron + r"\.w", f"{ours}.neuron.w")]


def _check_grids(size: tuple[int, int], patch_sizes: Sequence[int], prologue: str) -> None:
    """Raise `ArgumentError` where a stage's map is smaller than its patches."""
    for _ in range(2 if prologue == "strided" else 0):
        size = (size[0] + 1) // 2, (size[1] + 1) // 2
    for stage, patch in enumerate(patch_sizes):
        if not isinstance(patch, int) or patch < 1 or min(size) < patch:
            raise ArgumentError(
                f"patch_sizes: stage {stage} has a map of {size[0]}x{size[1]}, so its patches must be between 1 and "
                f"{min(size)} wide, got {patch!r}"
            )
        size = (size[0] + 1) // 2, (size[1] + 1) // 2


_PAPER = Paper(
    "SpikingResformer: Bridging ResNet and Vision Transformer in Spiking Neural Networks", "CVPR 2024",
    "arXiv:2403.14302",
)  # fmt: skip
_SOURCE = "Shi et al., CVPR 2024"
_ZERO = (
    "a firing rate that no training step has measured counts as one, where the release divides by zero; processes that "
    "train together average their rates"
)
_COLUMNS = (
    "the scale of the second product counts the columns that there are; the release takes the image size given to it, "
    "halved and rounded down, which only differs for odd sizes"
)


_register = ImageFamily(
    "spikingresformer",
    SpikingResformer,
    _PAPER,
    "https://github.com/xyshi2000/SpikingResformer",
    deviations=(_ZERO, _COLUMNS),
    violations=("spatial means of the membrane enter the head",),
).register


_register("spikingresformer", 908_064, "three stages up to width 128; small images of any size", (3, 32, 32), ())

_DEPTHS = (1, 2, 3)
for _size, _params, _widths, _heads, _top1 in (
    ("ti", 11_180_992, (64, 192, 384), (1, 3, 6), 74.34),
    ("s", 17_813_824, (64, 256, 512), (1, 4, 8), 75.95),
    ("m", 35_601_472, (64, 384, 768), (1, 6, 12), 77.24),
    ("l", 60_375_680, (128, 512, 1024), (2, 8, 16), 78.77),
):
    _register(
        f"spikingresformer_{_size}", _params, f"three stages up to width {_widths[2]} on ImageNet", (3, 224, 224),
        (
            Reported("imagenet", _top1, _SOURCE, T=4),
            *((Reported("imagenet", 79.40, f"{_SOURCE} (at 288x288)", T=4),) if _size == "l" else ()),
        ),
        num_classes=1000, widths=_widths, depths=_DEPTHS, num_heads=_heads, prologue="strided",
    )  # fmt: skip

_register(
    "spikingresformer_cifar", 10_793_152, "three stages up to width 384 on CIFAR", (3, 32, 32),
    (Reported("cifar10", 96.24, _SOURCE, T=4), Reported("cifar100", 79.28, _SOURCE, T=4)),
    widths=(64, 192, 384), depths=_DEPTHS, num_heads=(1, 3, 6),
)  # fmt: skip
_register(
    "spikingresformer_dvs_gesture", 2_709_830,
    "three stages up to width 192 on 64x64 gestures in three channels, learned time constants", (3, 64, 64),
    (), num_classes=11, T=16, widths=(32, 96, 192), depths=_DEPTHS, num_heads=(1, 3, 6), group_size=32,
    neuron={"type": "plif", "surrogate": "atan"},
)  # fmt: skip
