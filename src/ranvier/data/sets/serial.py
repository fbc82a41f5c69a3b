"""Images read one after the other: their pixels or rows as a sequence in time, or whole at every step (STEP)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.order import permutation
from ranvier.data.samples import Indices, Samples
from ranvier.data.sets.cifar10 import load_cifar10
from ranvier.data.sets.digits import load_digits
from ranvier.data.sets.mnist import load_mnist
from ranvier.errors import ArgumentError

By = Literal["pixels", "rows"]


class SerialSamples(Samples):
    """Images of another data set as sequences; batches `[T, B, N]` in time, or `[B, C, 1, L]` whole.

    Args:
        samples: images `[C, H, W]`.
        by: "pixels" (L = H · W steps of C values) or "rows" (H steps of W · C values).
        permuted: the pixels in one fixed random order, the same for every image.
        whole: the sequence lies along the width of an image, which a net gets again at each of its steps.
    """

    def __init__(self, samples: Samples, by: By, permuted: bool, whole: bool) -> None:
        self.samples, self.labels = samples, samples.labels
        self.by, self.whole, self.time_first = by, whole, not whole
        _, height, width = samples[0][0].shape
        self.order = torch.from_numpy(permutation(height * width, 0)) if permuted else None

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        images, labels = self.samples.batch(indices)
        rows = images.shape[2]
        flat = images.flatten(2)
        if self.order is not None:
            flat = flat[..., self.order]
        if self.whole:
            return flat.unsqueeze(2), labels
        if self.by == "pixels":
            return flat.permute(2, 0, 1).contiguous(), labels
        return flat.unflatten(2, (rows, -1)).permute(2, 0, 1, 3).flatten(2), labels


def _serial(parts: Parts, by: By, permuted: bool, whole: bool) -> Parts:
    if by not in ("pixels", "rows"):
        raise ArgumentError(f"by must be 'pixels' or 'rows', got {by!r}")
    if not isinstance(permuted, bool):
        raise ArgumentError(f"permuted must be true or false, got {permuted!r}")
    train, test = (SerialSamples(samples, by, permuted, whole) for samples in (parts.train, parts.test))
    means = (parts.mean, parts.std) if whole else (None, None)
    return Parts(train, test, parts.classes, parts.content, *means)


def load_smnist(
    root: Path | None, path: str | None = None, by: By = "pixels", permuted: bool = False, pool: int = 1
) -> Parts:
    """Sequential MNIST, time is the sequence: 784 steps of 1 value, or by rows 28 steps of 28 (Le et al., 2015).

    Args:
        by: "pixels" or "rows".
        permuted: psMNIST: all pixels in one fixed random order.
        pool: squares of that side become one pixel first (2: 196 steps).
    """
    return _serial(load_mnist(root, path, pool), by, permuted, whole=False)


def load_smnist_whole(root: Path | None, path: str | None = None, permuted: bool = False, pool: int = 1) -> Parts:
    """Sequential MNIST as STEP (Shen et al., 2025) shows it: `[1, 1, 784]`, all of it at every step of a net."""
    return _serial(load_mnist(root, path, pool), "pixels", permuted, whole=True)


def load_sdigits(root: Path | None, by: By = "pixels", permuted: bool = False) -> Parts:
    """scikit-learn's digits, time is the sequence: 64 steps of 1 value, or 8 of 8; options as of `smnist`."""
    return _serial(load_digits(root), by, permuted, whole=False)


def load_sdigits_whole(root: Path | None, permuted: bool = False) -> Parts:
    """scikit-learn's digits as sequences `[1, 1, 64]` that are shown whole at every step."""
    return _serial(load_digits(root), "pixels", permuted, whole=True)


def load_scifar10(
    root: Path | None, path: str | None = None, by: By = "pixels", permuted: bool = False, size: int = 32
) -> Parts:
    """CIFAR-10, time is the sequence: 1024 steps of 3 values, or with `by: rows` 32 steps of 96."""
    return _serial(load_cifar10(root, path, size), by, permuted, whole=False)


def load_scifar10_whole(root: Path | None, path: str | None = None, permuted: bool = False, size: int = 32) -> Parts:
    """CIFAR-10 as STEP shows it: sequences `[3, 1, 1024]`, whole at every step of a net."""
    return _serial(load_cifar10(root, path, size), "pixels", permuted, whole=True)


def _register(name: str, of: str, load: Callable[..., Parts], whole: Callable[..., Parts]) -> None:
    source = DATASETS[of]
    for kind, suffix, function in (("sequence", "", load), ("static", "_whole", whole)):
        DATASETS.register(name + suffix)(
            DatasetEntry(
                kind=kind, load=function, find=source.find, how=source.how, needs_root=source.needs_root,  # pyright: ignore[reportArgumentType]
                places=source.places,
            )
        )  # fmt: skip


_register("smnist", "mnist", load_smnist, load_smnist_whole)
_register("sdigits", "digits", load_sdigits, load_sdigits_whole)
_register("scifar10", "cifar10", load_scifar10, load_scifar10_whole)
