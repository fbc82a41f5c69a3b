"""Spikingformer: Spikformer with the neurons in front, so that every synaptic layer receives spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.layers import Order, SpikingTokenizer, pools_for
from ranvier.layers.value_only import Freeze
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import MLP, check_transformer, hidden_width, mixing_block, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec


class Spikingformer(SpikingClassifier):
    """Spiking tokenizer, blocks of SSA and MLP with membrane shortcuts, token mean, linear head (Zhou et al., 2023).

    `x ← x + BN(W mix(LIF(x)))`, `x ← x + BN(W₂ LIF(BN(W₁ LIF(x))))`; the head reads the mean membrane, at every step.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim, depth, num_heads, mlp_ratio: width D ≥ 8, blocks, heads, hidden width of the MLP over D.
        pools: one flag for each of the last four convolutions of the stem, "1" halves the image in front of it; None
            pools down to 8×8 tokens at most.
        scale: scale of the attention product.
        order: order of the attention product.
        attn_threshold: threshold of the neuron after it, None for the neuron's own.
        attention: "ssa", any other of `ranvier.layers.ATTENTIONS` (which takes of the three above what it knows), or
            "none" for blocks without attention.
        attention_options, freeze_qk, mlp: as in `Spikformer`.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "membrane"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        embed_dim: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        pools: str | None = None,
        scale: float = 0.125,
        order: Order = "auto",
        attn_threshold: float | None = 0.5,
        attention: str = "ssa",
        attention_options: Mapping[str, Any] | None = None,
        freeze_qk: Freeze | None = None,
        mlp: MLP = "mlp",
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        check_transformer(embed_dim, depth, num_heads)
        make = NeuronFactory(neuron)
        hidden = hidden_width(embed_dim, mlp_ratio)
        self.stem = SpikingTokenizer(in_channels, embed_dim, make, pools_for(self.img_size) if pools is None else pools)
        defaults = {"attn_threshold": attn_threshold, "scale": scale, "order": order}
        self.blocks = nn.Sequential(
            *(
                mixing_block(
                    embed_dim, num_heads, hidden, make, "membrane", attention, defaults, attention_options, mlp,
                    freeze_qk, inner_shortcut=False,
                )
                for _ in range(depth)
            )
        )  # fmt: skip
        self.head = nn.Linear(embed_dim, num_classes)
        truncated_normal(self.head, 0.02)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind the last block of a sequence."""
        return (self.blocks(self.stem(x)),)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1].mean((3, 4)))

    def official_names(self) -> OfficialNames:
        """Names in the repository zhouchenlin2096/Spikingformer (the ImageNet, CIFAR and event versions)."""
        return OfficialNames(
            rules=(
                (r"patch_embed\.(?:proj|block0)_(conv|bn)\.(\w+)", r"stem.first.\1.\2"),
                *(
                    (rf"patch_embed\.(?:proj|block){n}_(conv|bn)\.(\w+)", rf"stem.stages.{n - 1}.block.\1.\2")
                    for n in range(1, 5)
                ),
                (r"block\.(\d+)\.attn\.([qkv])_(conv|bn)\.(\w+)", r"blocks.\1.attention.\2.block.\3.\4"),
                (r"block\.(\d+)\.attn\.proj_(conv|bn)\.(\w+)", r"blocks.\1.attention.proj.\2.\3"),
                (r"block\.(\d+)\.mlp\.mlp([12])_(conv|bn)\.(\w+)", r"blocks.\1.mlp.fc\2.\3.\4"),
                (r"head\.(weight|bias)", r"head.\1"),
            ),
            ignored=(r"block\.\d+\.norm[12]\.\w+",),  # layer norms that no forward pass touches
        )


_PAPER = Paper(
    "Spikingformer: Spike-driven Residual Learning for Transformer-based Spiking Neural Network", "AAAI 2026",
    "arXiv:2304.11954",
)  # fmt: skip
_SOURCE = "Zhou et al., 2023"
_DEAD = "the layer norms of the released blocks, which no forward pass uses, are left out (and not counted)"
_REAL = "token means of the membrane enter the head"


_register = ImageFamily(
    "spikingformer",
    Spikingformer,
    _PAPER,
    "https://github.com/zhouchenlin2096/Spikingformer",
    deviations=(_DEAD,),
    violations=(_REAL,),
    counting="trainable parameters that the forward pass uses (dead layer norms excluded)",
).register


_register("spikingformer", 646_042, "two blocks of width 128; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _heads, _top1 in (
    ("spikingformer_8_384", 16_816_024, 384, 6, 72.45),
    ("spikingformer_8_512", 29_689_384, 512, 8, 74.79),
    ("spikingformer_8_768", 66_338_632, 768, 12, 75.85),
):
    _register(
        _name, _params, f"8 blocks of width {_dim} on ImageNet", (3, 224, 224),
        (Reported("imagenet", _top1, _SOURCE, T=4),), num_classes=1000,
        embed_dim=_dim, depth=8, num_heads=_heads, pools="1111",
    )  # fmt: skip

for _name, _params, _dim, _depth, _heads, _c10, _c100 in (
    ("spikingformer_cifar_4_256", 4_152_106, 256, 4, 8, 94.77, 77.43),
    ("spikingformer_cifar_2_384", 5_762_746, 384, 2, 12, 95.22, 78.34),
    ("spikingformer_cifar_4_384", 9_320_122, 384, 4, 12, 95.61, 79.09),
):
    _register(
        _name, _params, f"{_depth} blocks of width {_dim} on CIFAR", (3, 32, 32),
        (Reported("cifar10", _c10, _SOURCE, T=4), Reported("cifar100", _c100, _SOURCE, T=4)),
        embed_dim=_dim, depth=_depth, num_heads=_heads, pools="0011",
    )  # fmt: skip

for _name, _params, _classes, _what, _reported in (
    (
        "spikingformer_dvs_2_256", 2_566_666, 10, "events",
        (Reported("cifar10dvs", 79.9, _SOURCE, T=10), Reported("cifar10dvs", 81.3, _SOURCE, T=16)),
    ),
    (
        "spikingformer_gesture_2_256", 2_566_923, 11, "gestures",
        (Reported("dvs_gesture", 96.2, _SOURCE, T=10), Reported("dvs_gesture", 98.3, _SOURCE, T=16)),
    ),
):  # fmt: skip
    _register(
        _name, _params, f"two blocks of width 256 on 128x128 {_what}, time constant 1.5 as released", (2, 128, 128),
        _reported, num_classes=_classes, T=16,
        embed_dim=256, depth=2, num_heads=16, pools="1111", neuron={"type": "lif", "tau": 1.5},
    )  # fmt: skip
