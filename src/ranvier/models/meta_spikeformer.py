"""Meta-SpikeFormer (Spike-driven Transformer V2) and QSD-Transformer, its quantised form with integer neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import (
    ChannelConv,
    ChannelMLP,
    MSDownsampling,
    MSResidual,
    SepConv,
    TransformerBlock,
    build_attention,
)
from ranvier.layers.quant import prepare_qat, quantized_layers
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.official import OfficialNames
from ranvier.models.registry import register_model
from ranvier.models.transformer import check_transformer, hidden_width, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec


class MetaSpikeFormer(SpikingClassifier):
    """Convolution stages, then attention stages, membrane shortcuts throughout (Yao et al., ICLR 2024).

    Down-sampling 7×7 s2 → ConvBlock → 3×3 s2 → ConvBlock → 3×3 s2 → 2 ConvBlocks → 3×3 s2 → ⌊¾ L⌋ transformer blocks →
    3×3 s1 → ⌊¼ L⌋ transformer blocks → spatial mean → neuron → linear head. With `bits` and an integer neuron it is
    QSD-Transformer (Qiu et al., ICLR 2025); with `neuron="relu"` and `attention="softmax"` its float teacher.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed: widths C₁ to C₄ (C₁ even); the first stage has C₁/2.
        depth: L, transformer blocks in all.
        num_heads: heads; must divide C₃ and C₄.
        mlp_ratio: hidden width of the MLPs and of the 3×3 convolution branch over the width.
        attention: "sdsa3", or any other of `ranvier.layers.ATTENTIONS`.
        scale: of the attention product, 0.125 in V2, 0.25 in QSD-Transformer; None for kinds without one.
        attn_threshold: of the neuron behind it, None for the neuron's own (IE-LIF: its gain is one over this).
        layer_scale: start of the per-channel scale of every branch of the transformer blocks, None for none.
        bits: bits of the weights (learned step sizes), None for float weights.
        skip_first_last: with `bits`: leave the first and last layer in float.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "membrane"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 224,
        num_classes: int = 1000,
        T: int = 4,
        embed: Sequence[int] = (64, 128, 256, 360),
        depth: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        attention: str = "sdsa3",
        scale: float | None = 0.125,
        attn_threshold: float | None = 0.5,
        layer_scale: float | None = None,
        bits: int | None = None,
        skip_first_last: bool = False,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if len(embed) != 4 or any(not isinstance(w, int) or w < 2 for w in embed) or embed[0] % 2:
            raise ArgumentError(f"embed must be four widths, the first of them even, got {embed!r}")
        if depth < 4:
            raise ArgumentError(f"depth must be at least 4, so that both attention stages have a block, got {depth!r}")
        for width in embed[2:]:
            check_transformer(width, depth, num_heads)
        make = NeuronFactory(neuron)
        c1, c2, c3, c4 = embed

        def conv_block(dim: int) -> nn.Module:
            return nn.Sequential(MSResidual(SepConv(dim, make)), MSResidual(ChannelConv(dim, make, mlp_ratio)))

        def attention_block(dim: int) -> nn.Module:
            options: dict[str, Any] = {"residual": "membrane", "attn_threshold": attn_threshold}
            if attention == "softmax":
                options = {"residual": "membrane", "attn_threshold": None}
            elif scale is not None:
                options["scale"] = scale
            branch = build_attention(attention, dim, num_heads, make, **options)
            mlp = ChannelMLP(dim, hidden_width(dim, mlp_ratio), make, residual="membrane")
            return TransformerBlock(branch, mlp, layer_scale, dim)

        self.down = nn.ModuleList(
            (
                MSDownsampling(in_channels, c1 // 2, None, kernel=7),
                MSDownsampling(c1 // 2, c1, make),
                MSDownsampling(c1, c2, make),
                MSDownsampling(c2, c3, make),
                MSDownsampling(c3, c4, make, stride=1),
            )
        )
        self.blocks = nn.ModuleList(
            (
                nn.Sequential(conv_block(c1 // 2)),
                nn.Sequential(conv_block(c1)),
                nn.Sequential(conv_block(c2), conv_block(c2)),
                nn.Sequential(*(attention_block(c3) for _ in range(int(depth * 0.75)))),
                nn.Sequential(*(attention_block(c4) for _ in range(int(depth * 0.25)))),
            )
        )
        self.head_neuron = make(channels=c4)
        self.head = nn.Linear(c4, num_classes)
        truncated_normal(self.head, 0.02)
        if bits is not None:
            prepare_qat(self, bits, skip_first_last=skip_first_last)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind the five stages of a sequence; strides 2, 4, 8, 16 and 16.

        For dense prediction: the last four of them for detection, the first, second, third and last for segmentation.
        """
        found: list[Tensor] = []
        for down, blocks in zip(self.down, self.blocks, strict=True):
            x = blocks(down(x))
            found.append(x)
        return tuple(found)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.head_neuron(self.features(x)[-1].mean((3, 4))))

    def official_names(self) -> OfficialNames:
        """Names in the repositories BICLab/Spike-Driven-Transformer-V2 and bollossom/QSD-Transformer."""
        part = r"\.(?P<part>weight|bias|running_mean|running_var|num_batches_tracked)"
        rules: list[tuple[str, str]] = []
        for theirs, ours in _official_layers().items():
            rules += [(theirs + part, ours + r".\g<part>"), (theirs + r"\.alpha", ours + r".quantizer.alpha")]
        rules += [
            (rf"block{n}\.(\d+)\.layer_scale{i}", rf"blocks.{n}.\1.scale{i}.gamma") for n in (3, 4) for i in (1, 2)
        ]
        # The activation quantisers of the release pass everything through.
        return OfficialNames(tuple(rules), ignored=(r".*\.act\.\w+", r".*\.init_state", r"head_kd\.\w+"))

    def prepare_official(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A release with a second head for distillation answers with the mean of both; so does the mean head."""
        given = dict(given)
        for part in ("weight", "bias"):
            if f"head_kd.{part}" in given:
                given[f"head.{part}"] = torch.stack([given[f"head.{part}"], given[f"head_kd.{part}"]]).mean(0)
        return given

    def follow_release(self) -> str:
        """Take released quantiser steps as they are, also where training drove one below zero."""
        steps = [q.quantizer for q in quantized_layers(self).values()]
        if all(q.alpha is None or bool((q.alpha > 0).all()) for q in steps):
            return ""
        for quantizer in steps:
            quantizer.safe = False
        return "some released quantiser steps are negative; they are used as they are (LSQ with safe=False)"


def _official_layers() -> dict[str, str]:
    """Regular expressions of the release's layers, and where they are here."""
    layers: dict[str, str] = {"head": "head"}
    for place, name in enumerate(("1_1", "1_2", "2", "3", "4")):
        layers[rf"downsample{name}\.encode_(conv|bn)"] = rf"down.{place}.block.\1"
    for name, place in (("1_1", "0.0"), ("1_2", "1.0"), ("2_1", "2.0"), ("2_2", "2.1")):
        at, ours = rf"ConvBlock{name}\.0\.", f"blocks.{place}."
        layers |= {
            at + r"Conv\.pwconv1": ours + "0.fn.expand.conv", at + r"Conv\.bn1": ours + "0.fn.expand.bn",
            at + r"Conv\.dwconv": ours + "0.fn.contract.depthwise",
            at + r"Conv\.pwconv2": ours + "0.fn.contract.pointwise", at + r"Conv\.bn2": ours + "0.fn.contract.bn",
            at + r"(conv|bn)([12])": ours + r"1.fn.conv\2.\1",
        }  # fmt: skip
    inside = {"body.0": "conv1", "body.1.bn": "bn1", "body.2.0": "depthwise", "body.2.1": "conv2", "body.2.2": "bn2"}
    for n in (3, 4):
        at, ours = rf"block{n}\.(\d+)\.", rf"blocks.{n}.\1."
        for theirs, name in (("attn.([qkv])_conv", r"attention.\2.block"), ("attn.proj_conv", "attention.proj")):
            for part, place in inside.items():
                layers[at + f"{theirs}.0.{part}".replace(".", r"\.")] = f"{ours}{name}.rep.{place}"
            layers[at + f"{theirs}.1".replace(".", r"\.")] = f"{ours}{name}.bn"
        layers[at + r"mlp\.(fc[12])_(conv|bn)"] = ours + r"mlp.\2.\3"
    return layers


_V2 = Paper(
    "Spike-driven Transformer V2: Meta Spiking Neural Network Architecture Inspiring the Design of Next-generation "
    "Neuromorphic Chips", "ICLR 2024", "arXiv:2404.03663",
)  # fmt: skip
_QSD = Paper("Quantized Spike-driven Transformer", "ICLR 2025", "arXiv:2501.13492")
_INNER = "real values enter the inner convolutions of RepConv and SepConv, until `ranvier convert` merges them"

_SIZES: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "8m": ((48, 96, 192, 256), 8), "15m": ((64, 128, 256, 360), 8), "31m": ((96, 192, 384, 480), 8),
    "55m": ((128, 256, 512, 640), 8), "75m": ((128, 256, 512, 640), 12), "124m": ((192, 384, 768, 960), 8),
}  # fmt: skip


def _register(
    kind: Literal["meta_spikeformer", "qsd_transformer"],
    size: str,
    params: int,
    reported: tuple[Reported, ...] = (),
) -> None:
    embed, depth = _SIZES[size]
    widths = "/".join(map(str, embed))
    quantised = kind == "qsd_transformer"
    form = "4-bit weights, integer neurons of 4 levels, " if quantised else ""
    card = ModelCard(
        name=f"{kind}_{size}",
        family=kind.split("_")[0] if quantised else "metaspikeformer",
        params=params,
        summary=f"{form}widths {widths}, {depth} attention blocks, on ImageNet",
        input_shape=(3, 224, 224),
        num_classes=1000,
        T=1 if quantised else 4,
        counting="trainable parameters, without quantiser steps" if quantised else "all trainable parameters",
        spike_type="integer" if quantised else "binary",
        spike_driven=False,
        violations=(_INNER, "counts enter all layers, until they are expanded") if quantised else (_INNER,),
        paper=_QSD if quantised else _V2,
        code="https://github.com/bollossom/QSD-Transformer"
        if quantised
        else "https://github.com/BICLab/Spike-Driven-Transformer-V2",
        reported=reported,
        deviations=(
            "the dead activation quantisers of the release are left out (and not counted)",
            "steps are kept positive; the release lets them cross zero",
        )
        if quantised
        else (),
    )
    preset: dict[str, Any] = {
        "in_channels": 3, "img_size": 224, "num_classes": 1000, "T": card.T, "embed": embed, "depth": depth,
    }  # fmt: skip
    if quantised:
        neuron = {"type": "ie_lif", "levels": 4}
        preset |= {"scale": 0.25, "layer_scale": 1e-6, "bits": 4, "neuron": neuron}
    register_model(card, MetaSpikeFormer, **preset)


def _imagenet(value: float, source: str, T: int) -> Reported:
    return Reported("imagenet", value, source, T=T)


_register("meta_spikeformer", "15m", 15_112_208)
_register("meta_spikeformer", "31m", 31_333_864, (_imagenet(77.2, "Yao et al., ICLR 2024", 4),))
_register("meta_spikeformer", "55m", 55_350_248, (_imagenet(79.7, "Yao et al., ICLR 2024", 4),))
_register("meta_spikeformer", "124m", 123_741_160)
_register("qsd_transformer", "8m", 8_336_504)
_register("qsd_transformer", "15m", 15_116_720)
_register("qsd_transformer", "31m", 31_340_392)
_register("qsd_transformer", "55m", 55_358_952, (_imagenet(80.3, "Qiu et al., ICLR 2025 (T = 1, 4 levels)", 1),))
_register("qsd_transformer", "75m", 74_663_016)
_register("qsd_transformer", "124m", 123_754_216)
