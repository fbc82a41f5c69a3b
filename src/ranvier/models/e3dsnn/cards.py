"""The published sizes of E-3DSNN."""

from __future__ import annotations

from typing import Any

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.e3dsnn.classifier import E3DSNNClassifier
from ranvier.models.e3dsnn.detection import E3DSNNDetector
from ranvier.models.e3dsnn.segmentor import E3DSNNSegmentor
from ranvier.models.registry import register_model

PAPER = Paper("Efficient 3D Recognition with Event-driven Spike Sparse Convolution", "AAAI 2025", "arXiv:2412.07360")
CODE = "https://github.com/bollossom/E-3DSNN"
_SOURCE = "Qiu et al., AAAI 2025"
REAL_ENDS = (
    "real values enter the first convolution (voxel features)",
    "real membrane potentials enter the last linear layer (fully_spiking=True puts a neuron there)",
)
_MEAN = "a voxel is the mean of its points, in training and evaluation (released: one drawn at random in both)"


def _classifier(
    name: str, params: int, reported: tuple[Reported, ...], embed: int, channels: tuple[int, ...], depth: int
) -> None:  # fmt: skip
    card = ModelCard(
        name=name, family="e3dsnn", params=params, summary=f"stages of {channels} channels, {depth} blocks each",
        input_shape=(8192, 6), num_classes=40, T=1, spike_type="integer", spike_driven=False, violations=REAL_ENDS,
        paper=PAPER, code=CODE, reported=reported, deviations=(_MEAN,),
    )  # fmt: skip
    register_model(card, E3DSNNClassifier, embed=embed, channels=channels, depths=(depth,) * 4)


def _oa(value: float, source: str = _SOURCE) -> tuple[Reported, ...]:
    return (Reported("modelnet40", value, source, "overall accuracy", T=1),)


_classifier("e3dsnn_t", 1_874_216, _oa(91.7), 16, (16, 32, 64, 128), 1)
_classifier("e3dsnn_s", 3_271_144, _oa(91.7, "as quoted by later work"), 24, (24, 48, 96, 160), 1)
_classifier("e3dsnn_l", 17_330_600, _oa(91.2, "SVL, without pre-training"), 64, (64, 128, 128, 256), 2)
_classifier("e3dsnn_h", 46_574_248, (), 64, (96, 192, 288, 384), 2)

_SEGMENTOR: dict[str, Any] = {"embed": 64, "channels": (64, 128, 128, 256), "depths": (2, 2, 2, 2)}
register_model(
    ModelCard(
        name="e3dsnn_seg_l", family="e3dsnn_seg", params=20_049_683, summary="sparse U-Net on LiDAR scans",
        input_shape=(120_000, 4), num_classes=19, T=1, spike_type="integer", spike_driven=False, violations=REAL_ENDS,
        task="segmentation", paper=PAPER, code=CODE,
        reported=(Reported("semantickitti", 68.5, "SVL", "mIoU", T=1),),
        deviations=(_MEAN, "no voxel is lost at odd extents (boundary='spconv' loses them as released)"),
    ),
    E3DSNNSegmentor, **_SEGMENTOR,
)  # fmt: skip

register_model(
    ModelCard(
        name="e3dsnn_kitti", family="e3dsnn_det", params=8_597_116, summary="two-stage detector of cars",
        input_shape=(20_000, 4), num_classes=1, T=1, spike_type="integer", spike_driven=False,
        violations=(
            REAL_ENDS[0], "real potentials enter the last convolution along z (fully_spiking=True changes that)",
            "real values enter the anchor head, the first layers of the voxel pooling and both prediction layers",
        ),
        task="detection", paper=PAPER, code=CODE,
        reported=(
            Reported("kitti", 89.6, "SVL", "Car 3D AP R11, easy", T=1),
            Reported("kitti", 84.0, _SOURCE, "Car 3D AP R11, moderate", T=1),
        ),
        deviations=("the released kitti.pth holds the non-spiking detector: there are no spiking weights to load",),
    ),
    E3DSNNDetector,
)  # fmt: skip
