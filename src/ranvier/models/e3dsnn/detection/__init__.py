"""E-3DSNN for detection: voxel backbone, bird's-eye backbone, anchors, RoI head."""

from __future__ import annotations

from ranvier.models.dense import Detection
from ranvier.models.e3dsnn.detection.anchors import AnchorHead, AnchorSettings
from ranvier.models.e3dsnn.detection.backbones import BEVBackboneSpike, VoxelBackbone8xSpike
from ranvier.models.e3dsnn.detection.boxes import box_corners, decode_boxes, encode_boxes
from ranvier.models.e3dsnn.detection.detector import E3DSNNDetector
from ranvier.models.e3dsnn.detection.roi import VoxelRCNNHeadSpike

__all__ = [
    "AnchorHead", "AnchorSettings", "BEVBackboneSpike", "Detection", "E3DSNNDetector", "VoxelBackbone8xSpike",
    "VoxelRCNNHeadSpike", "box_corners", "decode_boxes", "encode_boxes",
]  # fmt: skip
