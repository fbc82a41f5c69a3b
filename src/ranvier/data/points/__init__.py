"""Clouds of points: sweeps of LiDARs, meshes, voxel grids, and samples of them."""

from __future__ import annotations

from ranvier.data.points.lidar import (
    Scan,
    kitti_scans,
    nuscenes_scans,
    read_kitti_calibration,
    read_kitti_labels,
    read_kitti_objects,
    read_semantic_labels,
    read_sweep,
    semantic_kitti_scans,
)
from ranvier.data.points.off import Mesh, read_off, sample_surface
from ranvier.data.points.samples import CloudSamples, GridSamples, normalise_to_sphere
from ranvier.data.points.scan_samples import BoxedScans, LabelledScans

__all__ = [
    "BoxedScans",
    "CloudSamples",
    "GridSamples",
    "LabelledScans",
    "Mesh",
    "Scan",
    "kitti_scans",
    "normalise_to_sphere",
    "nuscenes_scans",
    "read_kitti_calibration",
    "read_kitti_labels",
    "read_kitti_objects",
    "read_off",
    "read_semantic_labels",
    "read_sweep",
    "sample_surface",
    "semantic_kitti_scans",
]  # fmt: skip
