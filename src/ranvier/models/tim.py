"""Spikformer with the Temporal Interaction Module (TIM) on its queries: the sizes for event data."""

from __future__ import annotations

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.registry import register_model
from ranvier.models.spikformer import Spikformer

_PAPER = Paper(
    "TIM: An Efficient Temporal Interaction Module for Spiking Transformer", "IJCAI 2024", "arXiv:2401.11687"
)  # fmt: skip
_SOURCE = "Shen et al., IJCAI 2024"


def _register(name: str, params: int, what: str, classes: int, reported: tuple[Reported, ...]) -> None:
    card = ModelCard(
        name=name,
        family="tim",
        params=params,
        summary=f"two blocks of width 256 with temporal interaction on 64x64 {what}",
        input_shape=(2, 64, 64),
        num_classes=classes,
        T=10,
        counting="trainable parameters that the forward pass uses (dead layer norms excluded)",
        spike_driven=False,
        violations=(
            "integers enter convolutions: residual sums of spikes (stem output and both branches of every block)",
            "token means enter the head",
        ),
        paper=_PAPER,
        code="https://github.com/BrainCog-X/Brain-Cog/tree/main/examples/TIM",
        reported=reported,
        deviations=(
            f"the released layer norms (2,048 parameters, {params + 2048:,} with them) are never used and left out",
            "channels and tokens keep their places when heads are split; the release reshapes without transposing",
            "thresholds are 0.3 and 0.5 around the interaction and 0.5 behind the product, as the release means; it "
            "gives them under a keyword that its neuron does not know, so that all are 1 and no query fires after the "
            "first step",
            "load_official follows the release in both",
        ),
    )
    register_model(
        card, Spikformer, in_channels=2, img_size=64, num_classes=classes, T=10, embed_dim=256, depth=2, num_heads=16,
        pools="1111", qkv_bias=False, token_std=None, scale=0.25, attention="tim",
        attention_options={"alpha": 0.5},
    )  # fmt: skip


_register("tim_dvs", 2_568_746, "events (CIFAR10-DVS)", 10, (Reported("cifar10dvs", 81.6, _SOURCE, T=10),))
_register(
    "tim_ncaltech101", 2_592_133, "events (N-Caltech101)", 101, (Reported("ncaltech101", 79.0, _SOURCE, T=10),)
)  # fmt: skip
_register(
    "tim_ucf101_dvs", 2_592_133, "events (UCF101-DVS)", 101, (Reported("ucf101_dvs", 63.8, _SOURCE, T=10),)
)  # fmt: skip
_register(
    "tim_hmdb51_dvs", 2_579_283, "events (HMDB51-DVS)", 51, (Reported("hmdb51_dvs", 58.6, _SOURCE, T=10),)
)  # fmt: skip
_register("tim_ncars", 2_566_690, "events (N-CARS)", 2, (Reported("ncars", 96.5, _SOURCE, T=10),))
