"""E-3DSNN: spike voxel coding and spike sparse convolution (Qiu et al., AAAI 2025)."""

from __future__ import annotations

from ranvier.models.e3dsnn import cards  # noqa: F401  (registers)
from ranvier.models.e3dsnn.backbone import E3DSNNBackbone, VoxelNet
from ranvier.models.e3dsnn.blocks import Down, Parts, SpikeSparseBlock, Stage, Stem, Up
from ranvier.models.e3dsnn.classifier import E3DSNNClassifier
from ranvier.models.e3dsnn.segmentor import E3DSNNSegmentor

__all__ = [
    "Down", "E3DSNNBackbone", "E3DSNNClassifier", "E3DSNNSegmentor", "Parts", "SpikeSparseBlock", "Stage", "Stem",
    "Up", "VoxelNet",
]  # fmt: skip
