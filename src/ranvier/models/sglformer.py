"""SGLFormer: convolutions, attention among every second token and global attention in one block."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal, cast

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import (
    ChannelMLP,
    ConvBNNeuron,
    FullReadout,
    LocalBlock,
    LocalSSA,
    Order,
    SEWResidual,
    SpikingSelfAttention,
    TransformerBlock,
    UnbiasedSSA,
    halving_pool,
    pools_for,
)
from ranvier.layers.patch_stem import check_flags
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import check_transformer, hidden_width, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec

Layout = Literal["fused", "staged"]
Readout = Literal["full", "mean"]


class SGLFormer(SpikingClassifier):
    """Five convolutions, blocks that fuse local and global attention, post-activation sums (Zhang et al., 2024).

    `layout="fused"` (CIFAR, events): `depth` blocks of [Loc, LSSA, MLP, GSSA, MLP, GSSA, MLP], without biases, first
    width D/6. `layout="staged"` (ImageNet): one [Loc, LSSA, MLP], then depth − 2 blocks of Spikformer, first width D/8.
    Every part is added, `x ← x + part(x)`; Loc contains x once more, so that x counts twice there.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim, depth, num_heads, mlp_ratio: width D ≥ 8, blocks as above, heads, hidden width of the MLPs over D.
        pools: one flag for each of the five convolutions, "1" halves the membrane in front of its neuron; None pools
            down to 8×8 tokens at most.
        layout: see above.
        readout: "full" weighs every token of every step (`FullReadout`; ties the model to `img_size` and the meaning of
            its weights to T), "mean" averages them. None for "full" where the layout is fused.
        scale, order, attn_threshold: of the attention products, as in `Spikformer`.
        batch_leak: reproduce the release for ImageNet, where one neuron of every global attention carries its membrane
            from a sample into the next one of the batch, and so does the first neuron of all where the first
            convolution works at full resolution.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "spikes"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        embed_dim: int = 96,
        depth: int = 1,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        pools: str | None = None,
        layout: Layout = "fused",
        readout: Readout | None = None,
        scale: float = 0.125,
        order: Order = "auto",
        attn_threshold: float | None = 0.5,
        batch_leak: bool = False,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        check_transformer(embed_dim, depth, num_heads)
        pools = "0" + pools_for(self.img_size) if pools is None else pools
        check_flags("pools", pools, 5)
        if layout not in ("fused", "staged"):
            raise ArgumentError(f"layout must be 'fused' or 'staged', got {layout!r}")
        if readout not in (None, "full", "mean"):
            raise ArgumentError(f"readout must be 'full', 'mean' or None, got {readout!r}")
        if embed_dim < 8:
            raise ArgumentError(f"embed_dim must be at least 8, got {embed_dim!r}")
        if layout == "staged" and depth < 3:
            raise ArgumentError(f"depth must be at least 3 in the staged layout, got {depth!r}")
        make = NeuronFactory(neuron)
        hidden = hidden_width(embed_dim, mlp_ratio)
        product: dict[str, Any] = {"attn_threshold": attn_threshold, "scale": scale, "order": order}
        self.layout: Layout = layout
        self.batch_leak = batch_leak
        self.leaky_stem = layout == "staged" and pools[0] == "0"

        widths = (in_channels, embed_dim // (6 if layout == "fused" else 8), embed_dim // 4, embed_dim // 2)
        self.stem = nn.Sequential(
            *(
                ConvBNNeuron(i, o, make, pool=halving_pool() if flag == "1" else None, pool_membrane=True)
                for (i, o), flag in zip(itertools.pairwise((*widths, embed_dim, embed_dim)), pools, strict=True)
            )
        )

        def mlp() -> nn.Module:
            return ChannelMLP(embed_dim, hidden, make, bias=False)

        def fused(global_pairs: int) -> nn.Module:
            parts: list[nn.Module] = [LocalBlock(embed_dim, make), LocalSSA(embed_dim, num_heads, make, **product)]
            parts.append(mlp())
            for _ in range(global_pairs):
                parts += [UnbiasedSSA(embed_dim, num_heads, make, **product), mlp()]
            return nn.Sequential(*(SEWResidual(part) for part in parts))

        if layout == "fused":
            self.blocks = nn.Sequential(*(fused(2) for _ in range(depth)))
        else:
            self.blocks = nn.Sequential(
                fused(0),
                *(
                    TransformerBlock(
                        SpikingSelfAttention(embed_dim, num_heads, make, batch_leak=batch_leak, **product),
                        ChannelMLP(embed_dim, hidden, make),
                    )
                    for _ in range(depth - 2)
                ),
            )
        self.readout = None
        if readout == "full" or (readout is None and layout == "fused"):
            height, width = self.img_size
            for _ in range(pools.count("1")):
                height, width = (height + 1) // 2, (width + 1) // 2
            self.readout = FullReadout(embed_dim, height * width, T)
        self.head = nn.Linear(embed_dim, num_classes)
        truncated_normal(self.head, 0.02)

    def _tokens(self, x: Tensor) -> Tensor:
        if not (self.batch_leak and self.leaky_stem):
            return self.stem(x)
        first = cast(ConvBNNeuron, self.stem[0])
        membrane = first.block(x)
        return self.stem[1:](first.neuron(membrane.flatten(0, 1).unsqueeze(1)).view_as(membrane))

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Sums of spikes `[T, B, C, H, W]` behind the last block of a sequence."""
        return (self.blocks(self._tokens(x)),)

    def classify(self, x: Tensor) -> Tensor:
        x = self.features(x)[-1]
        return self.head(x.mean((3, 4)) if self.readout is None else self.readout(x))

    def follow_release(self, on: bool = True) -> str:
        """Switch the release's leak between samples (`batch_leak`) on or off; says what was done."""
        if self.layout == "fused":
            return ""
        self.batch_leak = on
        leaks = [m for m in self.modules() if isinstance(m, SpikingSelfAttention) and not isinstance(m, UnbiasedSSA)]
        for module in leaks:
            module.batch_leak = on
        return _LEAK_NOTE

    def official_names(self) -> OfficialNames:
        """Names in the repository ZhangHanN1/SGLFormer (the CIFAR, event and ImageNet versions)."""
        rules: list[tuple[str, str]] = [(r"head\.(weight|bias)", r"head.\1")]
        rules += [(rf"patch_embed\.proj{n or ''}_(conv|bn)\.(\w+)", rf"stem.{n}.block.\1.\2") for n in range(5)]
        for n in range(5):
            place = "stem.conv" if n == 0 else f"tokenizer.conv{n}"
            rules += _unit(place.replace(".", r"\."), f"stem.{n}.block")
        local = {
            "conv": "depthwise", "conv1x1_1": "expand", "dwconv3x3": "inner", "conv1x1_2": "contract",
        }  # fmt: skip
        fused, staged = r"blocks\.(\d+)\.", r"localblock\.(\d+)\."
        for theirs, ours in local.items():
            rules += _unit(fused + rf"loc\.{theirs}", rf"blocks.\1.0.fn.{ours}.block", 1)
            rules += _unit(staged + rf"local1\.{theirs}", rf"blocks.\1.0.fn.{ours}.block", 1)
        attentions = {fused + "ssa1": 1, fused + "ssa2": 3, fused + "ssa3": 5, staged + "local2_SSA": 1}
        for theirs, part in attentions.items():
            rules += _unit(theirs + r"\.([qkv])_conv", rf"blocks.\1.{part}.fn.\2.block", 2)
            rules += _unit(theirs + r"\.proj_conv", rf"blocks.\1.{part}.fn.proj", 1)
        mlps = {fused + "mlp1": 2, fused + "mlp2": 4, fused + "mlp3": 6, staged + "local2_MLP": 2}
        for theirs, part in mlps.items():
            rules += _unit(theirs + r"\.mlp([12])", rf"blocks.\1.{part}.fn.fc\2", 2)
        for n in range(len(self.blocks) - 1):  # Spikformer's come after the local block
            at, ours = rf"blocks\.{n}\.", f"blocks.{n + 1}."
            rules += [
                (at + r"attn\.([qkv])_(conv|bn)\.(\w+)", ours + r"attention.\1.block.\2.\3"),
                (at + r"attn\.proj_(conv|bn)\.(\w+)", ours + r"attention.proj.\1.\2"),
                (at + r"mlp\.(fc[12])_(conv|bn)\.(\w+)", ours + r"mlp.\1.\2.\3"),
            ]
        rules += [
            (r"full_size_conv\.(weight|bias)", r"readout.\1"),
            (r"bn\.(\w+)", r"readout.bn.\1"),
        ]
        # Layer norms that no forward pass touches.
        return OfficialNames(tuple(rules), ignored=(r"blocks\.\d+\.norm[12]\.\w+",))


def _unit(theirs: str, ours: str, groups: int = 0) -> list[tuple[str, str]]:
    """Rules for one convolution with its batch norm; `groups` are the groups that `theirs` has."""
    return [
        (theirs + r"\.conv[13]x[13]\.(\w+)", rf"{ours}.conv.\{groups + 1}"),
        (theirs + r"\.bn\.(\w+)", rf"{ours}.bn.\{groups + 1}"),
    ]


_PAPER = Paper(
    "SGLFormer: Spiking Global-Local-Fusion Transformer with high performance", "Frontiers in Neuroscience 2024",
    "doi:10.3389/fnins.2024.1371290",
)  # fmt: skip
_SOURCE = "Zhang et al., Front. Neurosci. 2024"
_LEAK_NOTE = (
    "as in the release, one neuron of every global attention (and of the stem, where it begins at full resolution) "
    "carries its membrane from sample to sample, so that results depend on the batch; model.follow_release(False) "
    "keeps samples apart"
)
_INTEGERS = "integers enter convolutions: residual sums of spikes (every part of every block)"
_DEAD = "the layer norms of the released blocks, which no forward pass uses, are left out (the publication counts them)"
_LEAK = (
    "samples do not see each other; in the release the neuron after a global attention's projection (and the first "
    "one of the stem at full resolution) reads the flattened time and batch as its time (batch_leak=True reproduces it)"
)
_STEPS = (
    "the readout over all tokens and steps is returned as T contributions whose mean is the original's logit; a longer "
    "sequence uses its weights again"
)
_SIZE = "the released blocks have this size; the publication's table says {}"


_register = ImageFamily(
    "sglformer",
    SGLFormer,
    _PAPER,
    "https://github.com/ZhangHanN1/SGLFormer",
    deviations=(_STEPS,),
    violations=(_INTEGERS, "token sums enter the head"),
    counting="trainable parameters that the forward pass uses (dead layer norms excluded)",
).register


_register("sglformer", 581_994, "one fused block of width 96; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _heads, _pools, _top1 in (
    ("sglformer_8_384", 16_239_640, 384, 6, "11110", 79.44),
    ("sglformer_8_512", 28_658_728, 512, 8, "11110", 82.28),
    ("sglformer_8_768", 64_006_216, 768, 12, "01111", 83.73),
):
    _register(
        _name, _params,
        f"a local block and six global ones of width {_dim} on ImageNet"
        + (", first convolution at full resolution" if _pools[0] == "0" else ""),
        (3, 224, 224), (Reported("imagenet", _top1, _SOURCE, T=4),), num_classes=1000, deviations=(_DEAD, _LEAK),
        embed_dim=_dim, depth=8, num_heads=_heads, pools=_pools, layout="staged",
    )  # fmt: skip

_register(
    "sglformer_cifar_1_384", 8_852_874, "one fused block of width 384 on CIFAR", (3, 32, 32),
    (Reported("cifar10", 96.76, _SOURCE, T=4), Reported("cifar100", 82.26, _SOURCE, T=4)),
    embed_dim=384, depth=1, num_heads=16, pools="00011",
)  # fmt: skip
_register(
    "sglformer_dvs_1_256", 4_164_434, "one fused block of width 256 on 128x128 events", (2, 128, 128),
    (Reported("cifar10dvs", 82.9, _SOURCE, T=10), Reported("cifar10dvs", 82.6, _SOURCE, T=16)), T=16,
    deviations=(_STEPS, _SIZE.format("2.58 M (2.48 M with ten steps)")),
    embed_dim=256, depth=1, num_heads=16, pools="01111",
)  # fmt: skip
_register(
    "sglformer_gesture_1_256", 4_164_691, "one fused block of width 256 on 128x128 gestures", (2, 128, 128),
    (Reported("dvs_gesture", 97.2, _SOURCE, T=10), Reported("dvs_gesture", 98.6, _SOURCE, T=16)),
    num_classes=11, T=16, deviations=(_STEPS, _SIZE.format("2.17 M (2.08 M with ten steps)")),
    embed_dim=256, depth=1, num_heads=16, pools="01111",
)  # fmt: skip
