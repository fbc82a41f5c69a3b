"""The published sizes of the Spiking Point Transformer."""

from __future__ import annotations

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.registry import register_model
from ranvier.models.spt.net import SpikingPointTransformer

_PAPER = Paper("Spiking Point Transformer for Point Cloud Classification", "AAAI 2025", "arXiv:2502.15811")
_SOURCE = "Wu et al., AAAI 2025"
_STEP = "STEP (mean over classes)"
_VIOLATIONS = (
    "softmax over the neighbours, and its real weights times real sums",
    "sums and differences of spikes (-1 to 2) enter the neurons of the attention weights",
    "positions and normals enter the first convolution",
)
_DEVIATIONS = (
    "the queue takes points that were not seen yet; the released code takes the rows of what is left as rows of the "
    "whole cloud (load_official follows it)",
    "sampling starts at the point nearest to the mean, so that the order of the points has no influence; the release "
    "starts at the first point (load_official follows it)",
    "HD-IF marks the experts that spiked; the released one marks membranes that are exactly zero, resting ones too; "
    "its gate reads the flattened steps and samples as steps in batches of more than one",
)


def _register(
    name: str, params: int, summary: str, shape: tuple[int, int], classes: int, T: int, width: int,
    reported: tuple[Reported, ...] = (),
) -> None:  # fmt: skip
    card = ModelCard(
        name=name, family="spt", params=params, summary=summary, input_shape=shape, num_classes=classes, T=T,
        spike_driven=False, violations=_VIOLATIONS, streams=False, paper=_PAPER, code="https://github.com/PeppaWu/SPT",
        reported=reported, deviations=_DEVIATIONS,
    )  # fmt: skip
    register_model(
        card, SpikingPointTransformer, in_channels=shape[1], num_points=shape[0], num_classes=classes, T=T, width=width
    )


_M40 = (Reported("modelnet40", 91.4, _SOURCE), Reported("modelnet40", 93.54, _STEP, "mean_class_accuracy", 4))
_register("spt_modelnet40", 9_651_425, "width 512, 1024 points with normals, T = 4", (1024, 6), 40, 4, 512, _M40)
_register("spt_modelnet40_t2", 9_643_489, "width 512, 1024 points with normals, T = 2", (1024, 6), 40, 2, 512)
_register("spt_modelnet40_t1", 9_639_521, "width 512, 1024 points with normals, T = 1", (1024, 6), 40, 1, 512)
_register("spt_modelnet40_384", 5_939_553, "width 384, 1024 points with normals, T = 4", (1024, 6), 40, 4, 384)
_register(
    "spt_modelnet10", 9_649_475, "width 512, 1024 points with normals, T = 4", (1024, 6), 10, 4, 512,
    (Reported("modelnet10", 89.39, _STEP, "mean_class_accuracy", 4),),
)  # fmt: skip
_register(
    "spt_scanobjectnn", 9_649_704, "width 512, 1024 points, T = 4", (1024, 3), 15, 4, 512,
    (Reported("scanobjectnn", 74.53, _STEP, "mean_class_accuracy", 4),),
)  # fmt: skip
