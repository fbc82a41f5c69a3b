"""The data sets: one file each; importing this package registers them all."""

from __future__ import annotations

from ranvier.data.sets import (
    ade20k,
    cifar10,
    coco,
    digit_scenes,
    digit_solids,
    digits,
    event_clouds,
    fsdd,
    fsdd_spikes,
    gsc,
    image_folder,
    kitti,
    mnist,
    modelnet40,
    modelnet_grids,
    motion,
    nmnist,
    serial,
    shd,
    text,
    voc,
)

__all__ = [
    "ade20k", "cifar10", "coco", "digit_scenes", "digit_solids", "digits", "event_clouds", "fsdd", "fsdd_spikes",
    "gsc", "image_folder", "kitti", "mnist", "modelnet40", "modelnet_grids", "motion", "nmnist", "serial", "shd",
    "text", "voc",
]  # fmt: skip
