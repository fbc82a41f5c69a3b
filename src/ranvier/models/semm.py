"""Spikformer with experts instead of heads (SEMM): the sizes of Spiking Transformer with Experts Mixture."""

from __future__ import annotations

from typing import Any

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.registry import register_model
from ranvier.models.spikformer import Spikformer

_PAPER = Paper("Spiking Transformer with Experts Mixture", "NeurIPS 2024", "10.52202/079017-0317")
_SOURCE = "Zhou et al., NeurIPS 2024"
_STEP = "STEP (Shen et al., NeurIPS 2025)"
_DEVIATIONS = (
    "no code of the authors was released: this is the paper's form with the widths of STEP (four experts of width 96)",
    "any image size, number of steps and number of experts; STEP's code holds 4 steps and 8x8 tokens fixed",
)
_IMAGENET = (
    "queries, keys and values are normalised; in STEP's ImageNet file the norms of keys and values are left out of the "
    "forward pass, and the product has no scale",
    "the depth-wise gate has no bias, as on CIFAR; in STEP's ImageNet file it has one",
)


def _register(
    name: str,
    params: int,
    summary: str,
    shape: tuple[int, int, int],
    reported: tuple[Reported, ...],
    *,
    num_classes: int = 10,
    deviations: tuple[str, ...] = _DEVIATIONS,
    expert_dim: int = 96,
    **preset: Any,
) -> None:
    card = ModelCard(
        name=name,
        family="semm",
        params=params,
        summary=summary,
        input_shape=shape,
        num_classes=num_classes,
        spike_driven=False,
        violations=(
            "integers enter convolutions: residual sums of spikes, and the sum of the experts (0 to 4)",
            "token means enter the head",
        ),
        paper=_PAPER,
        code="https://github.com/Fancyssc/STEP (by STEP's authors)",
        reported=reported,
        deviations=deviations,
    )
    preset |= {"in_channels": shape[0], "img_size": shape[1], "num_classes": num_classes}
    register_model(
        card, Spikformer, attention="emsa", attention_options={"experts": 4, "expert_dim": expert_dim},
        attn_threshold=None, mlp="emsp", **preset,
    )  # fmt: skip


_register(
    "semm_spikformer", 562_802, "two blocks of width 128 with four experts; small images of any size", (3, 32, 32), (),
    embed_dim=128, depth=2, num_heads=4, expert_dim=32,
)  # fmt: skip
_register(
    "semm_spikformer_cifar_4_384", 7_739_242, "four blocks of width 384 with four experts on CIFAR", (3, 32, 32),
    (
        Reported("cifar10", 95.78, _SOURCE, T=4), Reported("cifar100", 79.04, _SOURCE, T=4),
        Reported("cifar10", 94.98, _STEP, T=4), Reported("cifar100", 77.59, _STEP, T=4),
    ),
    embed_dim=384, depth=4, num_heads=8, pools="0011",
)  # fmt: skip
_register(
    "semm_spikformer_8_384", 16_041_464, "eight blocks of width 384 with four experts on ImageNet", (3, 224, 224), (),
    num_classes=1000, deviations=(*_DEVIATIONS, *_IMAGENET),
    embed_dim=384, depth=8, num_heads=6, mlp_ratio=16 / 3, pools="1111", qkv_bias=False, token_std=None,
)  # fmt: skip
_register(
    "semm_spikformer_8_512", 27_539_208, "eight blocks of width 512 with four experts on ImageNet", (3, 224, 224),
    (Reported("imagenet", 75.93, _SOURCE, T=4),), num_classes=1000, deviations=(*_DEVIATIONS, *_IMAGENET),
    embed_dim=512, depth=8, num_heads=8, mlp_ratio=2720 / 512, pools="1111", qkv_bias=False, token_std=None,
)  # fmt: skip
