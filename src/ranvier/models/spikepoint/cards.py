"""The published sizes of SpikePoint."""

from __future__ import annotations

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.registry import register_model
from ranvier.models.spikepoint.net import SpikePoint

_PAPER = Paper(
    "SpikePoint: An Efficient Point-based Spiking Neural Network for Event Cameras Action Recognition", "ICLR 2024",
    "arXiv:2310.07189",
)  # fmt: skip
_SOURCE = "Ren et al., ICLR 2024"
_COUNTING = "trainable parameters without the decays of the neurons"
_VIOLATIONS = (
    "counts up to 3 enter linear layers: residual sums of spikes, and the sum of the two branches",
)  # fmt: skip
_DEVIATIONS = (
    "no code was released: the norm of the head has no parameters, its presence and the neurons' places are choices",
    "the bias of the norm before the global pool starts below 0, so that the pool does not saturate",
)


def _register(
    name: str, params: int, classes: int, widths: tuple[int, ...], reported: tuple[Reported, ...], summary: str
) -> None:
    card = ModelCard(
        name=name, family="spikepoint", params=params, summary=summary, input_shape=(1024, 3), num_classes=classes,
        T=16, counting=_COUNTING, spike_type="integer", spike_driven=False, violations=_VIOLATIONS, paper=_PAPER,
        reported=reported, deviations=_DEVIATIONS,
    )  # fmt: skip
    register_model(card, SpikePoint, num_classes=classes, widths=widths)


_register(
    "spikepoint_small", 163_688, 12, (32, 64, 128, 256),
    (Reported("daily_dvs", 97.92, _SOURCE, T=16), Reported("dvs_action", 90.6, _SOURCE, T=16)),
    "event clouds of 1024 points, widths 32 to 256",
)  # fmt: skip
_register(
    "spikepoint_large", 577_092, 10, (64, 128, 256, 512),
    (
        Reported("dvs_gesture", 98.74, _SOURCE, T=16), Reported("hmdb51_dvs", 55.6, _SOURCE, T=16),
        Reported("ucf101_dvs", 68.46, _SOURCE, T=16),
    ),
    "event clouds of 1024 points, widths 64 to 512",
)  # fmt: skip
