"""The data sets: one file each; importing this package registers them all."""

from __future__ import annotations

from ranvier.data.sets import (
    cifar10,
    digit_scenes,
    digit_solids,
    digits,
    event_clouds,
    fsdd,
    fsdd_spikes,
    gsc,
    image_folder,
    mnist,
    modelnet40,
    modelnet_grids,
    motion,
    nmnist,
    shd,
    text,
)

__all__ = [
    "cifar10", "digit_scenes", "digit_solids", "digits", "event_clouds", "fsdd", "fsdd_spikes", "gsc", "image_folder", "mnist",
    "modelnet40", "modelnet_grids", "motion", "nmnist", "shd", "text",
]  # fmt: skip
