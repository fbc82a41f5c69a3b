"""The data sets: one file each; importing this package registers them all."""

from __future__ import annotations

from ranvier.data.sets import cifar10, digits, image_folder, mnist, nmnist

__all__ = ["cifar10", "digits", "image_folder", "mnist", "nmnist"]
