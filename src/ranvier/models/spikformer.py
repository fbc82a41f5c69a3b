"""Spikformer: softmax-free spiking self-attention behind a convolutional stem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.layers import Order, TemporalAttention, build_stem, pools_for
from ranvier.layers.stems import Position
from ranvier.layers.value_only import Freeze
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import MLP, check_transformer, hidden_width, mixing_block, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec


class Spikformer(SpikingClassifier):
    """SPS stem, blocks of SSA and MLP with post-activation residuals, token mean, linear head (Zhou et al., ICLR 2023).

    `x ← x + SSA(x)`, `x ← x + LIF(BN(W₂ LIF(BN(W₁ x))))`; the head is applied at every step, so that the mean of the
    output over T is the original's logit.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim, depth, num_heads, mlp_ratio: width D ≥ 8, blocks, heads, hidden width of the MLP over D.
        pools: one flag a stage of the stem, "1" halves the image; None pools down to 8×8 tokens at most.
        qkv_bias: biases of the q, k, v projections.
        token_std: standard deviation of the truncated normal that initialises the token layers, None for PyTorch's
            initialisation of convolutions (the release for CIFAR: biases and 0.02; the others: neither).
        scale: scale of the attention product.
        order: order of the attention product.
        attn_threshold: threshold of the neuron after it, None for the neuron's own.
        attention: "ssa", any other of `ranvier.layers.ATTENTIONS` (which takes of the three above what it knows), or
            "none" for blocks without attention.
        attention_options: arguments of that attention, on top.
        freeze_qk: "weights" leaves the weights of queries and keys at their random start (STEP's random attention),
            "norm" the scale and shift of their batch norms as well, None trains them.
        mlp: "mlp", or "emsp" for the experts' MLP of SEMM.
        stem: "sps", or another of `ranvier.layers.STEMS` for ablations.
        position: position code of those: "conv", "table" or "none"; None for the published one.
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
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        pools: str | None = None,
        qkv_bias: bool = True,
        token_std: float | None = 0.02,
        scale: float = 0.125,
        order: Order = "auto",
        attn_threshold: float | None = 0.5,
        attention: str = "ssa",
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
        flags = pools_for(self.img_size) if pools is None else pools
        self.stem = build_stem(stem, in_channels, embed_dim, make, flags, "post", position, self.img_size)
        defaults = {"qkv_bias": qkv_bias, "attn_threshold": attn_threshold, "scale": scale, "order": order}
        self.blocks = nn.Sequential(
            *(
                mixing_block(
                    embed_dim, num_heads, hidden, make, "post", attention, defaults, attention_options, mlp, freeze_qk
                )
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(embed_dim, num_classes)
        truncated_normal(self.head, 0.02)
        if token_std is not None:
            truncated_normal(self.blocks, token_std)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Sums of spikes `[T, B, C, H, W]` behind the last block of a sequence."""
        return (self.blocks(self.stem(x)),)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1].mean((3, 4)))

    def official_names(self) -> OfficialNames:
        """Names in ZK-Zhou/spikformer (CIFAR, ImageNet, CIFAR10-DVS), in Brain-Cog's TIM and in STEP's SEMM."""
        return OfficialNames(
            rules=(
                (r"patch_embed\.proj_(conv|bn)\.(\w+)", r"stem.stages.0.block.\1.\2"),
                (r"patch_embed\.proj_(conv|bn)([12])\.(\w+)", r"stem.stages.\2.block.\1.\3"),
                (r"patch_embed\.proj_(conv|bn)3\.(\w+)", r"stem.last.\1.\2"),
                (r"patch_embed\.rpe_(conv|bn)\.(\w+)", r"stem.position.\1.\2"),
                (r"block\.(\d+)\.attn\.([qkv])_(?:conv|linear)\.(\w+)", r"blocks.\1.attention.\2.block.conv.\3"),
                (r"block\.(\d+)\.attn\.([qkv])_bn\.(\w+)", r"blocks.\1.attention.\2.block.bn.\3"),
                (r"block\.(\d+)\.attn\.proj_(?:conv|linear)\.(\w+)", r"blocks.\1.attention.proj.conv.\2"),
                (r"block\.(\d+)\.attn\.proj_bn\.(\w+)", r"blocks.\1.attention.proj.bn.\2"),
                (r"block\.(\d+)\.mlp\.(fc[12])_(?:conv|linear)\.(\w+)", r"blocks.\1.mlp.\2.conv.\3"),
                (r"block\.(\d+)\.mlp\.(fc[12])_bn\.(\w+)", r"blocks.\1.mlp.\2.bn.\3"),
                (r"block\.(\d+)\.attn\.TIM\.interactor\.(\w+)", r"blocks.\1.attention.interaction.conv.\2"),
                (r"block\.(\d+)\.attn\.router1\.(\w+)", r"blocks.\1.attention.router.block.conv.\2"),
                (r"block\.(\d+)\.attn\.router2\.(\w+)", r"blocks.\1.attention.router.block.bn.\2"),
                (r"block\.(\d+)\.mlp\.dw_(conv|bn)\.(\w+)", r"blocks.\1.mlp.gate.\2.\3"),
                (r"head\.(weight|bias)", r"head.\1"),
            ),
            # Layer norms, and in the event version a position embedding, that no forward pass touches.
            ignored=(r"block\.\d+\.norm[12]\.\w+", r"norm\.\w+", r"pos_embed"),
        )

    def prepare_official(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """SEMM has a layer for the queries of every expert; here they are one layer with the experts side by side."""
        merged = dict(given)
        found: dict[str, list[tuple[int, str]]] = {}
        for name in given:
            match = re.fullmatch(r"(block\.\d+\.attn\.)ff_list\.(\d+)\.unit_(linear|conv|bn)\.(\w+)", name)
            if match:
                at, expert, layer, part = match.groups()
                found.setdefault(f"{at}q_{layer}.{part}", []).append((int(expert), name))
        for target, parts in found.items():
            tensors = [merged.pop(name) for _, name in sorted(parts)]
            merged[target] = tensors[0] if tensors[0].dim() == 0 else torch.cat(tensors)
        return merged

    def follow_release(self, on: bool = True) -> str:
        """Switch the released TIM's way of splitting the heads on or off; says what was done."""
        found = [module for module in self.modules() if isinstance(module, TemporalAttention)]
        for module in found:
            module.follow_release(on)
        if not found:
            return ""
        return (
            "as in the release of TIM, heads are split without transposing channels and tokens, and thresholds are 1, "
            "so that its queries are silent after the first step; model.follow_release(False) computes what it means"
        )


_PAPER = Paper("Spikformer: When Spiking Neural Network Meets Transformer", "ICLR 2023", "arXiv:2209.15425")
_SOURCE = "Zhou et al., ICLR 2023"
_INTEGERS = "integers enter convolutions: residual sums of spikes (stem output and both branches of every block)"
_DEAD = "the layer norms of the released blocks, which no forward pass uses, are left out (and not counted)"


_register = ImageFamily(
    "spikformer",
    Spikformer,
    _PAPER,
    "https://github.com/ZK-Zhou/spikformer",
    deviations=(_DEAD,),
    violations=(_INTEGERS, "token means enter the head"),
    counting="trainable parameters that the forward pass uses (dead layer norms excluded)",
).register


_register("spikformer", 646_810, "two blocks of width 128; small images of any size", (3, 32, 32), ())

for _name, _params, _dim, _depth, _heads, _top1 in (
    ("spikformer_8_384", 16_816_024, 384, 8, 6, 70.24),
    ("spikformer_6_512", 23_373_352, 512, 6, 8, 72.46),
    ("spikformer_8_512", 29_689_384, 512, 8, 8, 73.38),
    ("spikformer_10_512", 36_005_416, 512, 10, 8, 73.68),
    ("spikformer_8_768", 66_338_632, 768, 8, 12, 74.81),
):
    _register(
        _name, _params, f"{_depth} blocks of width {_dim} on ImageNet", (3, 224, 224),
        (Reported("imagenet", _top1, _SOURCE, T=4),), num_classes=1000,
        embed_dim=_dim, depth=_depth, num_heads=_heads, pools="1111", qkv_bias=False, token_std=None,
    )  # fmt: skip

for _name, _params, _dim, _depth, _heads, _c10, _c100 in (
    ("spikformer_cifar_4_256", 4_155_178, 256, 4, 8, 93.94, 75.96),
    ("spikformer_cifar_2_384", 5_765_050, 384, 2, 12, 94.80, 76.95),
    ("spikformer_cifar_4_384", 9_324_730, 384, 4, 12, 95.19, 77.86),
):
    _register(
        _name, _params, f"{_depth} blocks of width {_dim} on CIFAR", (3, 32, 32),
        (Reported("cifar10", _c10, _SOURCE, T=4), Reported("cifar100", _c100, _SOURCE, T=4)),
        embed_dim=_dim, depth=_depth, num_heads=_heads, pools="0011",
    )  # fmt: skip

_register(
    "spikformer_dvs_2_256", 2_566_666, "two blocks of width 256 on 128x128 events", (2, 128, 128),
    (Reported("cifar10dvs", 80.9, _SOURCE, T=16), Reported("dvs_gesture", 98.3, _SOURCE, T=16)), T=16,
    deviations=(_DEAD, "the released position embedding and last layer norm, also unused, are left out"),
    embed_dim=256, depth=2, num_heads=16, pools="1111", qkv_bias=False, token_std=None, scale=0.25,
)  # fmt: skip
