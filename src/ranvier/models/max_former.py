"""Max-Former and its family: hierarchies of embeddings and token mixers given by name, with membrane shortcuts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import ATTENTIONS, ChannelMLP, MixerBlock, build_embed, build_mixer
from ranvier.models.card import Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.family import ImageFamily
from ranvier.models.official import OfficialNames
from ranvier.models.transformer import check_transformer, hidden_width, truncated_normal
from ranvier.neurons import NeuronFactory, NeuronSpec

Names = str | Sequence[str]


class SpikingHierarchy(nn.Module):
    """Stages of [embedding, blocks of mixer and MLP], each twice as wide as the one before: membrane in, membrane out.

    Maps `[T, B, C, H, W]`, or `[T, B, C, N]` with `dims=1`, to the last stage's membrane.

    Args:
        in_channels: channels of the input.
        embed_dim: width of the last stage; a multiple of 2^(S−1) for S stages.
        embeds, mixers: one name a stage (`build_embed`, `build_mixer`).
        depths: blocks of each stage.
        num_heads: heads of the attentions, one number or one a stage.
        mlp_ratio: hidden width of the MLP over that of its stage; 1 gives the MLP a second shortcut inside.
        neuron: factory of the neurons.
        scale, attn_threshold: of the attention products.
        dims: 2 for images, 1 for sequences.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        embeds: Sequence[str],
        mixers: Sequence[str],
        depths: Sequence[int],
        num_heads: int | Sequence[int],
        mlp_ratio: float,
        neuron: NeuronFactory,
        scale: float = 0.125,
        attn_threshold: float | None = 0.5,
        dims: int = 2,
    ) -> None:
        super().__init__()
        count = len(embeds)
        heads = (num_heads,) * count if isinstance(num_heads, int) else tuple(num_heads)
        if not count or {len(mixers), len(depths), len(heads)} != {count}:
            raise ArgumentError(
                f"embeds, mixers, depths and num_heads must have one entry a stage, got {len(embeds)}, {len(mixers)}, "
                f"{len(depths)} and {len(heads)}"
            )
        check_transformer(embed_dim, 1, heads[-1])
        if embed_dim % 2 ** (count - 1):
            raise ArgumentError(
                f"embed_dim must be a multiple of {2 ** (count - 1)} for {count} stages, got {embed_dim}"
            )
        if any(not isinstance(d, int) or d < 1 for d in depths):
            raise ArgumentError(f"depths must be positive integers, got {list(depths)!r}")
        widths = [embed_dim >> (count - 1 - stage) for stage in range(count)]
        self.embeds = nn.ModuleList(
            build_embed(name, before, after, neuron, first=stage == 0, dims=dims)
            for stage, (name, before, after) in enumerate(zip(embeds, (in_channels, *widths), widths, strict=False))
        )

        def block(stage: int) -> MixerBlock:
            width, name = widths[stage], mixers[stage]
            options: dict[str, object] = {}
            if name in ATTENTIONS:
                taken = inspect.signature(ATTENTIONS[name]).parameters
                options = {"attn_threshold": attn_threshold, **({"scale": scale} if "scale" in taken else {})}
            hidden = hidden_width(width, mlp_ratio)
            mixer = build_mixer(name, width, heads[stage], neuron, dims, **options)
            return MixerBlock(mixer, ChannelMLP(width, hidden, neuron, "membrane", inner_shortcut=hidden == width))

        self.stages = nn.ModuleList(
            nn.Sequential(*(block(stage) for _ in range(depth))) for stage, depth in enumerate(depths)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """The membrane behind every stage."""
        found: list[Tensor] = []
        for embed, stage in zip(self.embeds, self.stages, strict=True):
            x = stage(embed(x))
            found.append(x)
        return tuple(found)


class MaxFormer(SpikingClassifier):
    """Max-Former (Fang et al., NeurIPS 2025): max-pools in the embeddings, depth-wise convolutions early, SSA last.

    With other names of embeddings and mixers it is every row of the paper's ablations, and MS-QKFormer. The head is
    spatial mean → neuron → linear layer, applied at every step.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        embed_dim: width of the last stage.
        embeds, mixers, depths: one entry a stage, see `SpikingHierarchy`; names may be one string, "orig,max,max".
        stages: the same three as tuples `(embed, mixer, depth)`; replaces them.
        num_heads, mlp_ratio, scale, attn_threshold: as in `SpikingHierarchy`.
        conv_std: standard deviation of the truncated normal that initialises all convolutions but those of the
            attentions (the release for ImageNet: 0.02); None for PyTorch's initialisation.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "membrane"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        embed_dim: int = 384,
        embeds: Names = ("orig", "max", "max"),
        mixers: Names = ("id", "dwc3", "ssa"),
        depths: Sequence[int] = (1, 1, 2),
        stages: Sequence[tuple[str, str, int]] | None = None,
        num_heads: int | Sequence[int] = 8,
        mlp_ratio: float = 4.0,
        scale: float = 0.125,
        attn_threshold: float | None = 0.5,
        conv_std: float | None = None,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if stages is not None:
            if any(len(stage) != 3 for stage in stages):
                raise ArgumentError(f"stages must be (embed, mixer, depth) each, got {stages!r}")
            embeds, mixers, depths = ([stage[i] for stage in stages] for i in range(3))  # pyright: ignore[reportAssignmentType]
        self.embed_names, self.mixer_names = _names(embeds), _names(mixers)
        make = NeuronFactory(neuron)
        self.backbone = SpikingHierarchy(
            in_channels, embed_dim, self.embed_names, self.mixer_names, depths, num_heads, mlp_ratio, make, scale,
            attn_threshold,
        )  # fmt: skip
        self.head_neuron = make(channels=embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        if conv_std is None:
            truncated_normal(self.head, 0.02)
        else:
            for module in self.backbone.modules():
                if isinstance(module, nn.Conv2d | ChannelMLP):
                    truncated_normal(module, conv_std)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind every stage of a sequence."""
        return self.backbone.features(x)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.head_neuron(self.backbone(x).mean((3, 4))))

    def official_names(self) -> OfficialNames:
        """Names in the repository bic-L/MaxFormer (the CIFAR, ImageNet and event versions, and MS-QKFormer)."""
        rules = [(r"head\.(weight|bias)", r"head.\1")]
        for n, (embed, mixer) in enumerate(zip(self.embed_names, self.mixer_names, strict=True)):
            at, ours = rf"patch_embed{n + 1}\.", rf"backbone.embeds.{n}."
            for theirs, place in _official_embed(embed, n == 0).items():
                rules.append((at + theirs + r"_(conv|bn)\.(\w+)", f"{ours}{place}.block." + r"\1.\2"))
            if embed == "qk":
                rules += [(at + rf"proj_(conv|bn){i}\.(\w+)", f"{ours}main.{i - 1}.block." + r"\1.\2") for i in (1, 2)]
            at, ours = rf"stage{n + 1}\.(\d+)\.", rf"backbone.stages.{n}.\1."
            inner = "mixer.attention" if mixer.startswith("ssa_") else "mixer.fn"
            rules += [
                (at + r"attn\.([qkv])_(conv|bn)\.(\w+)", rf"{ours}{inner}.\2.block.\3.\4"),
                (at + r"attn\.proj_(conv|bn)\.(\w+)", rf"{ours}{inner}.proj.\2.\3"),
                (at + r"attn\.dwc\.(\w+)", rf"{ours}mixer.block.conv.\2"),
                (at + r"attn\.dwc_bn\.(\w+)", rf"{ours}mixer.block.bn.\2"),
                (at + r"mixer\.conv\d?\.(\w+)", rf"{ours}mixer.block.conv.\2"),
                (at + r"mixer\.conv\d?_bn\.(\w+)", rf"{ours}mixer.block.bn.\2"),
                (at + r"mlp\.(fc[12])_(conv|bn)\.(\w+)", rf"{ours}mlp.\2.\3.\4"),
            ]
        return OfficialNames(tuple(rules))


def _names(given: Names) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else tuple(given)


def _official_embed(name: str, first: bool) -> dict[str, str]:
    """What the release calls the parts of an embedding, and where they are here."""
    return {
        "orig": {"proj": "first", r"embed1\.embed": "main", r"embed2\.embed": "shortcut"}
        if first
        else {r"embed1\.embed": "main.0", r"orig_embed1\.embed": "main.1", r"embed2\.embed": "shortcut"},
        "orig_imagenet": {
            r"embed1\.embed": "first", r"embed2\.embed": "main.0", r"embed3\.embed": "main.1",
            r"embed4\.embed": "shortcut",
        },
        "max": {r"max_embed1\.embed": "main.0", r"embed1\.embed": "main.1", r"max_embed2\.embed": "shortcut"},
        "avg": {r"avg_embed1\.embed": "main.0", r"embed1\.embed": "main.1", r"avg_embed2\.embed": "shortcut"},
        "1max": {r"embed1\.embed": "main.0", r"max_embed1\.embed": "main.1", r"embed2\.embed": "shortcut"},
        "1max_early": {
            r"max_embed1\.embed": "main.0", r"embed1\.embed": "main.1", r"embed2\.embed": "shortcut",
            "proj3": "main.0", "proj4": "main.1", "proj_res": "shortcut",
        },
        "max+": {
            "proj": "first.0", r"max_embed1\.embed": "first.1", r"max_embed2\.embed": "main.0",
            r"max_embed3\.embed": "main.1", r"embed1\.embed": "shortcut",
        },
        "qk": {"proj": "first", "rpe": "shortcut"},
        "max_main": {r"max_embed1\.embed": "main.0", r"embed1\.embed": "main.1", r"embed2\.embed": "shortcut"},
    }[name]  # fmt: skip


_PAPER = Paper("Spiking Neural Networks Need High-Frequency Information", "NeurIPS 2025", "arXiv:2505.18608")
_SOURCE = "Fang et al., NeurIPS 2025"
_BEST = "best test epoch"
_CODE = "https://github.com/bic-L/MaxFormer"
_SHARED = "the two neurons on the same input of the first embedding are one"
_RESET = "the paper's equations reset softly; the released code, and this, reset to 0"


_register = ImageFamily(
    "maxformer",
    MaxFormer,
    _PAPER,
    _CODE,
    deviations=(_SHARED, _RESET),
).register


def _top1(dataset: str, value: float, T: int) -> Reported:
    return Reported(dataset, value, f"{_SOURCE}, {_BEST}", T=T)


_register(
    "max_former_cifar", 6_568_282, "4 blocks, last stage of width 384, on CIFAR", (3, 32, 32),
    (_top1("cifar10", 97.04, 4), _top1("cifar100", 82.65, 4)),
)  # fmt: skip
_register(
    "max_former_event", 1_455_626, "two stages up to width 256 on 128x128 events", (2, 128, 128),
    (_top1("cifar10dvs", 84.2, 16), _top1("dvs_gesture", 98.6, 16)), T=16,
    embed_dim=256, embeds=("max+", "max"), mixers=("dwc3", "ssa"), depths=(1, 1), num_heads=16, mlp_ratio=1.0,
)  # fmt: skip
_register(
    "ms_qkformer_cifar", 6_706_234, "QKFormer with membrane shortcuts on CIFAR", (3, 32, 32),
    (_top1("cifar10", 96.84, 4), _top1("cifar100", 81.57, 4)),
    embeds=("orig", "1max", "1max"), mixers=("qk_token", "qk_token", "ssa"),
)  # fmt: skip
_register(
    "ms_qkformer_event", 1_504_138, "QKFormer with membrane shortcuts on 128x128 events", (2, 128, 128),
    (_top1("cifar10dvs", 82.3, 16), _top1("dvs_gesture", 98.6, 16)), T=16,
    deviations=(_RESET, "the released event version of this model stops with an error; this is what it says"),
    embed_dim=256, embeds=("max+", "1max"), mixers=("qk_token", "ssa"), depths=(1, 1), num_heads=16, mlp_ratio=1.0,
)  # fmt: skip

for _dim, _heads, _params, _qk_params, _results, _qk_results in (
    (384, 6, 16_237_240, 16_473_688, ((77.82, 4),), ((76.48, 4),)),
    (512, 8, 28_653_480, 29_079_336, ((75.47, 1), (79.86, 4)), ()),
    (768, 12, 63_992_200, 64_962_760, ((78.60, 1), (82.39, 4)), ((77.78, 1),)),
):
    _register(
        f"max_former_10_{_dim}", _params, f"10 blocks, last stage of width {_dim}, on ImageNet", (3, 224, 224),
        tuple(_top1("imagenet", value, t) for value, t in _results), num_classes=1000,
        deviations=(_RESET, "1, 2 and 7 blocks as released; the paper's table says 1, 3 and 7"),
        embed_dim=_dim, embeds=("orig_imagenet", "max", "max"), mixers=("dwc7", "dwc5", "ssa"), depths=(1, 2, 7),
        num_heads=_heads, conv_std=0.02,
    )  # fmt: skip
    _register(
        f"ms_qkformer_10_{_dim}", _qk_params, f"QKFormer 10-{_dim} with membrane shortcuts, on ImageNet", (3, 224, 224),
        tuple(_top1("imagenet", value, t) for value, t in _qk_results), num_classes=1000, deviations=(_RESET,),
        embed_dim=_dim, embeds=("qk", "1max_early", "1max_early"), mixers=("qk_token", "qk_token", "ssa"),
        depths=(1, 2, 7), num_heads=_heads, conv_std=0.02,
    )  # fmt: skip
