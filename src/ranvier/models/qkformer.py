"""QKFormer: a hierarchy of Q-K attention stages and one of spiking self-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import (
    ChannelMLP,
    DeformedShortcut,
    Order,
    QKChannelAttention,
    QKTokenAttention,
    SpikingAttention,
    SpikingSelfAttention,
    TransformerBlock,
)
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import check_transformer, hidden_width, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec

# Convolutions of the first embedding: their widths as fractions of the first stage's, and the tap of its shortcut.
_FIRST_EMBEDDING = {2: ((2, 1), 1), 3: ((2, 1, 1), 1), 4: ((8, 4, 2, 1), 2)}


class QKFormer(SpikingClassifier):
    """SPEDS embeddings and stages of doubling width, post-activation residuals, a linear head (Zhou et al., 2024).

    All stages but the last use Q-K attention, the last spiking self-attention. The head is applied at every step.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim: width D of the last stage; with S stages it must be a multiple of 2^(S−1).
        depth: blocks in all; the last stage gets what `qk_depths` leaves.
        qk_depths: blocks of each Q-K stage.
        num_heads: heads of every stage, or one number a stage.
        mlp_ratio: hidden width of the MLP over the width of its stage.
        pools: one string a stage with one flag a convolution of its embedding, "1" halves the image there. The first
            embedding has 2, 3 or 4 convolutions (CIFAR, ImageNet, events), the others 2.
        qk_attention: "token" (QKTA) or "channel" (QKCA).
        scale, order: scale and order of the self-attention product.
        attn_threshold: threshold of the neurons after products and sums, None for the neuron's own.
        batch_leak: reproduce the release, where one neuron of every self-attention carries its membrane from a sample
            into the next one of the batch. Off, every sample gets what the release computes in a batch of one.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "spikes"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        embed_dim: int = 128,
        depth: int = 3,
        qk_depths: Sequence[int] = (1, 1),
        num_heads: int | Sequence[int] = 4,
        mlp_ratio: float = 4.0,
        pools: Sequence[str] = ("00", "01", "01"),
        qk_attention: Literal["token", "channel"] = "token",
        scale: float = 0.125,
        order: Order = "auto",
        attn_threshold: float | None = 0.5,
        batch_leak: bool = False,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        widths, heads, depths = _stages(embed_dim, num_heads, depth, tuple(qk_depths), tuple(pools))
        if qk_attention not in ("token", "channel"):
            raise ArgumentError(f"qk_attention must be 'token' or 'channel', got {qk_attention!r}")
        make = NeuronFactory(neuron)

        def attention(stage: int) -> SpikingAttention:
            size = (widths[stage], heads[stage], make)
            if stage == len(widths) - 1:
                return SpikingSelfAttention(
                    *size, attn_threshold=attn_threshold, scale=scale, order=order, batch_leak=batch_leak
                )
            gated = QKTokenAttention if qk_attention == "token" else QKChannelAttention
            return gated(*size, attn_threshold=attn_threshold)

        def block(stage: int) -> TransformerBlock:
            hidden = hidden_width(widths[stage], mlp_ratio)
            return TransformerBlock(attention(stage), ChannelMLP(widths[stage], hidden, make))

        fractions, tap = _FIRST_EMBEDDING[len(pools[0])]
        first = DeformedShortcut((in_channels, *(widths[0] // f for f in fractions)), make, pools[0], tap)
        rest = (
            DeformedShortcut((before, after, after), make, flags)
            for before, after, flags in zip(widths[:-1], widths[1:], pools[1:], strict=True)
        )
        self.embeds = nn.ModuleList((first, *rest))
        self.stages = nn.ModuleList(
            nn.Sequential(*(block(stage) for _ in range(count))) for stage, count in enumerate(depths)
        )
        self.head = nn.Linear(embed_dim, num_classes)
        truncated_normal(self.head, 0.02)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Sums of spikes `[T, B, C, H, W]` behind every stage of a sequence."""
        found: list[Tensor] = []
        for embed, stage in zip(self.embeds, self.stages, strict=True):
            x = stage(embed(x))
            found.append(x)
        return tuple(found)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1].mean((3, 4)))

    def follow_release(self, on: bool = True) -> str:
        """Switch the release's leak between samples (`batch_leak`) on or off; says what was done."""
        for module in self.modules():
            if isinstance(module, SpikingSelfAttention):
                module.batch_leak = on
        return (
            "as in the release, one neuron of every self-attention carries its membrane from sample to sample, so that "
            "results depend on the batch; model.follow_release(False) keeps samples apart"
        )

    def official_names(self) -> OfficialNames:
        """Names in the repository zhouchenlin2096/QKFormer (the CIFAR, ImageNet, CIFAR10-DVS and Gesture versions)."""
        rules = [
            (r"patch_embed1\.proj_(conv|bn)\.(\w+)", r"embeds.0.convs.0.block.\1.\2"),
            (r"patch_embed1\.proj([1-3])_(conv|bn)\.(\w+)", r"embeds.0.convs.\1.block.\2.\3"),
            (r"head\.(weight|bias)", r"head.\1"),
        ]
        for n in range(len(self.stages)):
            embed, stage = rf"patch_embed{n + 1}\.", rf"stage{n + 1}\.(\d+)\."
            rules += [
                (embed + r"proj3?_(conv|bn)\.(\w+)", rf"embeds.{n}.convs.0.block.\1.\2"),
                (embed + r"proj4_(conv|bn)\.(\w+)", rf"embeds.{n}.convs.1.block.\1.\2"),
                (embed + r"proj_res_(conv|bn)\.(\w+)", rf"embeds.{n}.shortcut.block.\1.\2"),
                (stage + r"(?:t?ssa|attn)\.([qkv])_(conv|bn)\.(\w+)", rf"stages.{n}.\1.attention.\2.block.\3.\4"),
                (stage + r"(?:t?ssa|attn)\.proj_(conv|bn)\.(\w+)", rf"stages.{n}.\1.attention.proj.\2.\3"),
                (stage + r"mlp\.(?:mlp|fc)([12])_(conv|bn)\.(\w+)", rf"stages.{n}.\1.mlp.fc\2.\3.\4"),
            ]
        return OfficialNames(tuple(rules))


def _stages(
    embed_dim: int, num_heads: int | Sequence[int], depth: int, qk_depths: tuple[int, ...], pools: tuple[str, ...]
) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
    """Width, heads and depth of every stage."""
    count = len(pools)
    if not count or len(qk_depths) != count - 1 or any(not isinstance(d, int) or d < 1 for d in qk_depths):
        raise ArgumentError(
            f"qk_depths must have a positive number for every stage but the last ({count - 1} with pools={pools!r}), "
            f"got {qk_depths!r}"
        )
    if len(pools[0]) not in _FIRST_EMBEDDING:
        raise ArgumentError(f"pools must begin with a string of 2, 3 or 4 flags, got {pools!r}")
    heads = (num_heads,) * count if isinstance(num_heads, int) else tuple(num_heads)
    if len(heads) != count:
        raise ArgumentError(f"num_heads must be one number or {count}, got {num_heads!r}")
    check_transformer(embed_dim, depth, heads[-1])
    narrowest = 2 ** (count - 1)
    if embed_dim % narrowest or embed_dim // narrowest < _FIRST_EMBEDDING[len(pools[0])][0][0]:
        raise ArgumentError(f"embed_dim must be a multiple of {narrowest} for {count} stages, got {embed_dim}")
    if depth < sum(qk_depths):
        raise ArgumentError(
            f"depth counts all blocks, so it must be at least sum(qk_depths) = {sum(qk_depths)}, got {depth}"
        )
    widths = [embed_dim // 2 ** (count - 1 - stage) for stage in range(count)]
    return widths, heads, (*qk_depths, depth - sum(qk_depths))


_PAPER = Paper("QKFormer: Hierarchical Spiking Transformer using Q-K Attention", "NeurIPS 2024", "arXiv:2403.16552")
_SOURCE = "Zhou et al., NeurIPS 2024"
_INTEGERS = "integers enter convolutions: residual sums of spikes (embeddings and both branches of every block)"
_LEAK = (
    "samples do not see each other; in the release the neuron after the self-attention's projection reads the "
    "flattened time and batch as its time, so results depend on the batch (batch_leak=True reproduces that)"
)
_SQUARE = (
    "token maps keep their height and width; the released self-attention swaps them, which only shows when they differ"
)


_register = ImageFamily(
    "qkformer",
    QKFormer,
    _PAPER,
    "https://github.com/zhouchenlin2096/QKFormer",
    deviations=(_LEAK, _SQUARE),
    violations=(_INTEGERS, "token means enter the head"),
).register


_register("qkformer", 552_986, "three stages up to width 128; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _heads, _top1, _fine in (
    ("qkformer_10_384", 16_473_688, 384, 6, 78.80, ()),
    ("qkformer_10_512", 29_079_336, 512, 8, 82.04, ()),
    ("qkformer_10_768", 64_962_760, 768, 12, 84.22, ((85.25, "288x288"), (85.65, "384x384"))),
):
    _register(
        _name, _params, f"10 blocks, last stage of width {_dim}, on ImageNet", (3, 224, 224),
        (
            Reported("imagenet", _top1, _SOURCE, T=4),
            *(Reported("imagenet", value, f"{_SOURCE} (at {size})", T=4) for value, size in _fine),
        ),
        num_classes=1000, embed_dim=_dim, depth=10, qk_depths=(1, 2), num_heads=_heads, pools=("110", "10", "10"),
    )  # fmt: skip

_register(
    "qkformer_cifar_4_384", 6_706_234, "4 blocks, last stage of width 384, on CIFAR", (3, 32, 32),
    (Reported("cifar10", 96.18, _SOURCE, T=4), Reported("cifar100", 81.15, _SOURCE, T=4)),
    embed_dim=384, depth=4, qk_depths=(1, 1), num_heads=8, pools=("00", "01", "01"),
)  # fmt: skip
_register(
    "qkformer_cifar10dvs", 1_504_138, "two stages up to width 256 on 128x128 events, as released with MLP ratio 1",
    (2, 128, 128), (Reported("cifar10dvs", 84.0, _SOURCE, T=16),), T=16,
    embed_dim=256, depth=2, qk_depths=(1,), num_heads=16, mlp_ratio=1, pools=("0111", "01"),
)  # fmt: skip
_register(
    "qkformer_dvs_gesture", 1_999_371, "two stages up to width 256 on 128x128 gestures",
    (2, 128, 128), (Reported("dvs_gesture", 98.6, _SOURCE, T=16),), num_classes=11, T=16,
    embed_dim=256, depth=2, qk_depths=(1,), num_heads=16, pools=("0111", "01"),
)  # fmt: skip
