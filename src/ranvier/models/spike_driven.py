"""Spike-driven Transformer (V1): attention from masks and additions, membrane shortcuts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.layers import build_stem, pools_for
from ranvier.layers.stems import Position
from ranvier.layers.value_only import Freeze
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import MLP, check_transformer, hidden_width, mixing_block, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec


class SpikeDrivenTransformer(SpikingClassifier):
    """MS-SPS stem, blocks of SDSA-1 and MLP with membrane residuals, a neuron, a linear head (Yao et al., 2023).

    `x ← x + SDSA(x)`, `x ← x + BN(W₂ LIF(BN(W₁ LIF(x))))`; every layer but the first convolution receives spikes.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim, depth, num_heads, mlp_ratio: width D ≥ 8, blocks, heads, hidden width of the MLP over D. A ratio of
            1 gives the MLP a second shortcut, as in the release.
        pools: one flag a stage of the stem, "1" halves the image; None pools down to 8×8 tokens at most.
        erode: 3×3 max-pools inside the attention, as released for CIFAR10-DVS.
        attn_threshold: threshold of the neuron after the column sum, None for the neuron's own.
        attention: "sdsa1", any other of `ranvier.layers.ATTENTIONS`, or "none" for blocks without attention.
        attention_options: arguments of that attention.
        freeze_qk, mlp, stem, position: ablations, as in `Spikformer`.
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
        erode: bool = False,
        attn_threshold: float | None = 0.5,
        attention: str = "sdsa1",
        attention_options: Mapping[str, Any] | None = None,
        freeze_qk: Freeze | None = None,
        mlp: MLP = "mlp",
        stem: str = "sps",
        position: Position | None = None,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        check_transformer(embed_dim, depth, num_heads)
        make = NeuronFactory(neuron)
        hidden = hidden_width(embed_dim, mlp_ratio)
        pools = pools_for(self.img_size) if pools is None else pools
        self.stem = build_stem(stem, in_channels, embed_dim, make, pools, "membrane", position, self.img_size)
        defaults = {"attn_threshold": attn_threshold, "erode": erode}
        self.blocks = nn.Sequential(
            *(
                mixing_block(
                    embed_dim, num_heads, hidden, make, "membrane", attention, defaults, attention_options, mlp,
                    freeze_qk,
                )
                for _ in range(depth)
            )
        )  # fmt: skip
        truncated_normal(self, 0.02)
        self.head_neuron = make(channels=embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind the last block of a sequence."""
        return (self.blocks(self.stem(x)),)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.head_neuron(self.features(x)[-1].mean((3, 4))))

    def official_names(self) -> OfficialNames:
        """Names in BICLab/Spike-Driven-Transformer, with LIF or PLIF (`spike_mode`) neurons, and in STAtten."""
        return OfficialNames(
            rules=(
                (r"patch_embed\.proj_(conv|bn)\.(\w+)", r"stem.stages.0.block.\1.\2"),
                (r"patch_embed\.proj_(conv|bn)([12])\.(\w+)", r"stem.stages.\2.block.\1.\3"),
                (r"patch_embed\.proj_(conv|bn)3\.(\w+)", r"stem.last.\1.\2"),
                (r"patch_embed\.rpe_(conv|bn)\.(\w+)", r"stem.position.\1.\2"),
                (r"patch_embed\.proj_lif\.w", r"stem.stages.0.neuron.w"),
                (r"patch_embed\.proj_lif([12])\.w", r"stem.stages.\1.neuron.w"),
                (r"patch_embed\.proj_lif3\.w", r"stem.last_neuron.w"),
                (r"block\.(\d+)\.attn\.([qkv])_(conv|bn)\.(\w+)", r"blocks.\1.attention.\2.block.\3.\4"),
                (r"block\.(\d+)\.attn\.proj_(conv|bn)\.(\w+)", r"blocks.\1.attention.proj.\2.\3"),
                (r"block\.(\d+)\.attn\.([qkv])_lif\.w", r"blocks.\1.attention.\2.neuron.w"),
                (r"block\.(\d+)\.attn\.shortcut_lif\.w", r"blocks.\1.attention.before.w"),
                (r"block\.(\d+)\.attn\.talking_heads_lif\.w", r"blocks.\1.attention.product_neuron.w"),
                (r"block\.(\d+)\.mlp\.(fc[12])_(conv|bn)\.(\w+)", r"blocks.\1.mlp.\2.\3.\4"),
                (r"block\.(\d+)\.mlp\.fc([12])_lif\.w", r"blocks.\1.mlp.neuron\2.w"),
                (r"head_lif\.w", r"head_neuron.w"),
                (r"head\.(weight|bias)", r"head.\1"),
            ),
            # A convolution and neurons that no forward pass touches.
            ignored=(
                r"block\.\d+\.attn\.talking_heads\.weight",
                r"block\.\d+\.attn\.attn_lif\.w",
                r"patch_embed\.rpe_lif\.w",
            ),
        )


_PAPER = Paper("Spike-driven Transformer", "NeurIPS 2023", "arXiv:2307.01694")
_SOURCE = "Yao et al., NeurIPS 2023"
_DEAD = "the released talking-heads convolution, which no forward pass uses, is left out (and not counted)"
_ERODE = (
    "two of the released max-pools run over (token index, channel of the head), not over the image; kept as released"
)


_register = ImageFamily(
    "sdt",
    SpikeDrivenTransformer,
    _PAPER,
    "https://github.com/BICLab/Spike-Driven-Transformer",
    deviations=(_DEAD,),
    counting="trainable parameters that the forward pass uses (dead talking-heads convolution excluded)",
).register


_register("sdt", 646_042, "two blocks of width 128; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _depth, _top1, _note in (
    ("sdt_8_384", 16_816_024, 384, 8, 72.28, ""),
    ("sdt_6_512", 23_373_352, 512, 6, 74.11, ""),
    ("sdt_8_512", 29_689_384, 512, 8, 74.57, ""),
    ("sdt_10_512", 36_005_416, 512, 10, 74.66, ""),
    ("sdt_8_768", 66_338_632, 768, 8, 77.07, " (at 288x288)"),
):
    _register(
        _name, _params, f"{_depth} blocks of width {_dim} on ImageNet", (3, 224, 224),
        (Reported("imagenet", _top1, _SOURCE + _note, T=4),), num_classes=1000,
        embed_dim=_dim, depth=_depth, num_heads=8, pools="1111",
    )  # fmt: skip

_register(
    "sdt_cifar_2_512", 10_233_418, "two blocks of width 512 on CIFAR", (3, 32, 32),
    (Reported("cifar10", 95.60, _SOURCE, T=4), Reported("cifar100", 78.40, _SOURCE, T=4)),
    embed_dim=512, depth=2, num_heads=8, pools="0011",
)  # fmt: skip
_register(
    "sdt_cifar_2_256", 2_566_954, "two blocks of width 256 on CIFAR", (3, 32, 32), (),
    embed_dim=256, depth=2, num_heads=8, pools="0011",
)  # fmt: skip
_register(
    "sdt_dvs_2_256", 2_566_666, "two blocks of width 256 on 64x64 events", (2, 64, 64),
    (Reported("cifar10dvs", 80.0, _SOURCE, T=16),), T=16, deviations=(_DEAD, _ERODE),
    embed_dim=256, depth=2, num_heads=8, pools="0011", erode=True,
)  # fmt: skip
_register(
    "sdt_gesture_2_256", 2_566_923, "two blocks of width 256 on 128x128 gestures", (2, 128, 128),
    (Reported("dvs_gesture", 99.3, _SOURCE, T=16),), num_classes=11, T=16,
    embed_dim=256, depth=2, num_heads=8, pools="0111",
)  # fmt: skip
