"""The data sets: one file each; importing this package registers them all."""

from __future__ import annotations

from ranvier.data.sets import (
    ade20k,
    caltech101,
    cep_dvs,
    cifar10,
    cifar10_dvs,
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
    omniglot,
    serial,
    shd,
    still_frames,
    text,
    voc,
)

__all__ = [
    "ade20k", "caltech101", "cep_dvs", "cifar10", "cifar10_dvs", "coco", "digit_scenes", "digit_solids", "digits",
    "event_clouds", "fsdd", "fsdd_spikes", "gsc", "image_folder", "kitti", "mnist", "modelnet40", "modelnet_grids",
    "motion", "nmnist", "omniglot", "serial", "shd", "still_frames", "text", "voc",
]  # fmt: skip
