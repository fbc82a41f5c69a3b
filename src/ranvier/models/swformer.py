"""Spiking Wavelet Transformer (SWformer): frequencies instead of attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import FATM, ChannelMLP, PatchStem, TransformerBlock, pools_for
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import check_transformer, hidden_width, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec


class SWformer(SpikingClassifier):
    """MS-SPS stem, blocks of FATM and MLP with membrane shortcuts, linear head (Fang et al., ECCV 2024).

    `x ← x + FATM(x)`, `x ← x + BN(W₂ LIF(BN(W₁ LIF(x))))`. Neurons inside the Haar transforms fire 1, 0 and −1.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim, depth, mlp_ratio: width D ≥ 8, blocks, hidden width of the MLP over D.
        num_blocks: G, blocks of channels that the mixer keeps apart; must divide D.
        pools: one flag a stage of the stem, "1" halves the image; None pools down to 8×8 tokens at most.
        haar_threshold: threshold of positive spikes in the transforms; the code of the publication leaves that of
            negative ones at ½.
        ternary: name or mapping of the neurons there instead.
        head_neuron: a neuron between the token mean and the head (released for ImageNet). With it a hidden width of D
            gives the MLP a second shortcut, as released.
        chained: the mixer of the event version, see `FATM`.
        synapse_std: standard deviation of the truncated normal that initialises convolutions (released for ImageNet),
            None for PyTorch's initialisation of them and 0.02 for the head.
        neuron: name or mapping of all other neurons.
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
        mlp_ratio: float = 4.0,
        num_blocks: int = 4,
        pools: str | None = None,
        haar_threshold: float = 1.0,
        ternary: NeuronSpec | None = None,
        head_neuron: bool = False,
        chained: bool = False,
        synapse_std: float | None = None,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        check_transformer(embed_dim, depth, 1)
        if not haar_threshold > 0:
            raise ArgumentError(f"haar_threshold must be positive, got {haar_threshold!r}")
        make = NeuronFactory(neuron)
        signed = {"type": "neg_if", "threshold": float(haar_threshold), "neg_threshold": 0.5}
        hidden = hidden_width(embed_dim, mlp_ratio)
        pools = pools_for(self.img_size) if pools is None else pools
        self.stem = PatchStem(in_channels, embed_dim, make, pools, residual="membrane")
        height, width = self.img_size
        for _ in range(pools.count("1")):
            height, width = (height + 1) // 2, (width + 1) // 2
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(
                    FATM(embed_dim, num_blocks, make, ternary or signed, (height, width), chained),
                    ChannelMLP(embed_dim, hidden, make, "membrane", head_neuron and hidden == embed_dim),
                )
                for _ in range(depth)
            )
        )
        self.head_neuron = make(channels=embed_dim) if head_neuron else None
        self.head = nn.Linear(embed_dim, num_classes)
        if synapse_std is None:
            truncated_normal(self.head, 0.02)
        else:
            truncated_normal(self.stem, synapse_std)
            truncated_normal(self.blocks, synapse_std)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind the last block of a sequence."""
        return (self.blocks(self.stem(x)),)

    def classify(self, x: Tensor) -> Tensor:
        x = self.features(x)[-1].mean((3, 4))
        return self.head(x if self.head_neuron is None else self.head_neuron(x))

    def official_names(self) -> OfficialNames:
        """Names in the repository bic-L/Spiking-Wavelet-Transformer (the CIFAR, event and ImageNet versions)."""
        mixer, ours = r"block\.(\d+)\.(?:mixer|attn)\.", r"blocks.\1.attention."
        norms = {"haar_forward": "transform", "haar(?:_multiply)?": "weight", "haar_inverse": "inverse"}
        norms |= {"conv1": "conv1", "conv2": "conv3"}
        return OfficialNames(
            rules=(
                (r"patch_embed\.proj_(conv|bn)\.(\w+)", r"stem.stages.0.block.\1.\2"),
                (r"patch_embed\.proj_(conv|bn)([12])\.(\w+)", r"stem.stages.\2.block.\1.\3"),
                (r"patch_embed\.proj_(conv|bn)3\.(\w+)", r"stem.last.\1.\2"),
                (r"patch_embed\.rpe_(conv|bn)\.(\w+)", r"stem.position.\1.\2"),
                (mixer + "haar_weight", ours + "weight"),
                (mixer + r"conv1\.(\w+)", ours + r"conv1.\2"),
                (mixer + r"conv2\.(\w+)", ours + r"conv3.\2"),
                *((mixer + theirs + r"_bn\.(\w+)", ours + name + r"_bn.\2") for theirs, name in norms.items()),
                (r"block\.(\d+)\.mlp\.(fc[12])_(conv|bn)\.(\w+)", r"blocks.\1.mlp.\2.\3.\4"),
                (r"head\.(weight|bias)", r"head.\1"),
            )
        )


_PAPER = Paper("Spiking Wavelet Transformer", "ECCV 2024", "arXiv:2403.11138")
_SOURCE = "Fang et al., ECCV 2024"
_HALF = (
    "neurons of the transforms fire negative spikes at −½, as released; the publication says at minus the threshold "
    "(ternary={'type': 'neg_if'})"
)
_PADDED = "maps whose sides are no powers of two are padded for the transform; the release refuses them"
_REAL_HEAD = "token means of the membrane enter the head"


_register = ImageFamily(
    "swformer",
    SWformer,
    _PAPER,
    "https://github.com/bic-L/Spiking-Wavelet-Transformer",
    deviations=(_HALF, _PADDED),
    violations=(_REAL_HEAD,),
    spike_type="ternary",
).register


_register("swformer", 544_026, "two blocks of width 128; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _depth, _reported in (
    ("swformer_6_512", 21_806_632, 512, 6, (74.98, 74.95)),
    ("swformer_8_512", 27_600_424, 512, 8, (75.19, 75.43)),
    ("swformer_8_384", 15_642_520, 384, 8, ()),
):
    _register(
        _name, _params, f"{_depth} blocks of width {_dim} on ImageNet at 256x256", (3, 256, 256),
        tuple(
            Reported("imagenet", top1, f"{_SOURCE} (thresholds of {theta} in the transforms)", T=4)
            for top1, theta in zip(_reported, (0.5, 1), strict=False)
        ),
        num_classes=1000, violations=(),
        embed_dim=_dim, depth=_depth, num_blocks=2, pools="1111", head_neuron=True, synapse_std=0.02,
    )  # fmt: skip

_register(
    "swformer_cifar_4_384", 7_022_458, "4 blocks of width 384 on CIFAR", (3, 32, 32),
    (Reported("cifar10", 96.1, _SOURCE, T=4), Reported("cifar100", 79.3, _SOURCE, T=4)),
    embed_dim=384, depth=4, num_blocks=16, pools="0011",
)  # fmt: skip
_register(
    "swformer_dvs_2_256", 2_157_834, "two blocks of width 256 on 128x128 events", (2, 128, 128),
    (Reported("cifar10dvs", 83.9, _SOURCE, T=16),), T=16,
    violations=("real values enter the convolutions of the mixer", _REAL_HEAD),
    embed_dim=256, depth=2, num_blocks=4, pools="1111", chained=True,
)  # fmt: skip
