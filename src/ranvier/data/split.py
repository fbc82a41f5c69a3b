"""Stratified splits: every class gives its share, and the same numbers give the same split everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.data.order import permutation
from ranvier.data.samples import Samples, subset
from ranvier.errors import ArgumentError


def stratified(labels: NDArray[np.integer], count: int, *seeds: int) -> NDArray[np.int64]:
    """Sorted indices of `count` samples in which every class has its share (largest remainders; ties to the lowest)."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count  # in units of 1 / len(labels): integers, so that nothing depends on rounding
    taken = exact // len(labels)
    left = count - int(taken.sum())
    taken[np.argsort(-(exact % len(labels)), kind="stable")[:left]] += 1
    order = permutation(len(labels), *seeds)
    chosen = [order[labels[order] == c][:n] for c, n in zip(classes, taken, strict=True)]
    return np.sort(np.concatenate(chosen))


def folds(labels: NDArray[np.integer], count: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """`count` disjoint sets of indices that together hold every sample once, each class spread evenly over them."""
    smallest = int(np.unique(labels, return_counts=True)[1].min()) if len(labels) else 0
    if not isinstance(count, int) or isinstance(count, bool) or not 2 <= count <= len(labels):
        raise ArgumentError(f"count must be an integer from 2 to {len(labels)}, got {count!r}")
    if smallest < count:
        raise ArgumentError(f"count {count} is more than the {smallest} samples of the smallest class")
    order = permutation(len(labels), seed)
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, each in a random order
    return [np.sort(order[part::count]) for part in range(count)]


def split_validation(dataset: Samples, fraction_or_count: float | int, seed: int = 0) -> tuple[Samples, Samples]:
    """`(train, validation)`: a stratified part of `dataset` is set aside.

    Args:
        fraction_or_count: a float between 0 and 1, or the number of validation samples.
        seed: which part.
    """
    total = len(dataset)
    given = fraction_or_count
    valid = isinstance(given, int | float) and not isinstance(given, bool)
    count = (round(given * total) if isinstance(given, float) and 0 < given < 1 else int(given)) if valid else 0
    if not valid or (isinstance(given, float) and not 0 < given < 1) or not 0 < count < total:
        raise ArgumentError(
            f"fraction_or_count must be a float between 0 and 1 or a count from 1 to {total - 1}, got {given!r}"
        )
    held = stratified(dataset.labels.numpy(), count, seed)
    kept = np.setdiff1d(np.arange(total), held)
    return subset(dataset, kept), subset(dataset, held)


def first_part(dataset: Samples, count: int | None, argument: str) -> Samples:
    """A fixed stratified part of `count` samples (all of them when None)."""
    if count is None:
        return dataset
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= len(dataset):
        raise ArgumentError(f"{argument} must be an integer from 1 to {len(dataset)}, got {count!r}")
    return subset(dataset, stratified(dataset.labels.numpy(), count, 0))
