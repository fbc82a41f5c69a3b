"""Batches in an order that depends only on the seed and the epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ranvier.data.order import balanced, permutation
from ranvier.data.samples import Samples
from ranvier.errors import ArgumentError

Batch = tuple[Tensor, Tensor]


class Batches:
    """One epoch of `(x, y)` batches; made by `loader`. `len()` is the number of batches that it still yields."""

    def __init__(self, dataset: Dataset[Any], indices: list[NDArray[np.int64]], start: int, prefetch: int) -> None:
        self.dataset = dataset
        self.indices = indices[start:]
        self.prefetch = prefetch

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        if self.prefetch == 0:
            for indices in self.indices:
                yield collate(self.dataset, indices)
            return
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="ranvier-loader") as pool:
            try:
                for indices in self.indices:
                    waiting.append(pool.submit(collate, self.dataset, indices))
                    if len(waiting) > self.prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def loader(
    dataset: Dataset[Any],
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    drop_last: bool = False,
    start: int = 0,
    prefetch: int = 0,
    rank: int = 0,
    world: int = 1,
    balance: Tensor | None = None,
) -> Batches:
    """The batches of one epoch: `x` is `[B, C, H, W]`, or `[T, B, C, H, W]` for sequences; `y` is int64 `[B]`.

    Args:
        dataset: one of this package, or any map-style data set of `(x, y)` with a length.
        batch_size: samples a batch and process.
        shuffle: a permutation that depends on `(seed, epoch)` alone, else the order of the data set.
        drop_last: leave out a last batch that is not full.
        start: batches to skip, so that a resumed run goes on in the middle of an epoch.
        prefetch: batches that a background thread prepares ahead.
        rank, world: this process and the number of them: each takes its share of every global batch of
            `world * batch_size` samples. Without `drop_last` the last shares may differ by one sample, or be missing.
        balance: labels `[N]`; with `shuffle`, the samples of an epoch are drawn with replacement so that every class
            is equally likely.
    """
    count = len(dataset)  # pyright: ignore[reportArgumentType]
    _check_integers(batch_size=(batch_size, 1), start=(start, 0), prefetch=(prefetch, 0), world=(world, 1))
    _check_integers(rank=(rank, 0), seed=(seed, 0), epoch=(epoch, 0))
    if rank >= world:
        raise ArgumentError(f"rank must be below world={world}, got {rank}")
    if count == 0:
        raise ArgumentError("the data set is empty: there is nothing to load")
    order = permutation(count, seed, epoch) if shuffle else np.arange(count)
    if balance is not None and shuffle:
        order = balanced(balance.numpy(), seed, epoch)
    step = batch_size * world
    ends = range(step, count + 1, step) if drop_last else range(step, count + step, step)
    parts = [order[end - step : end][rank::world] for end in ends]
    return Batches(dataset, [part for part in parts if len(part)], start, prefetch)


def _check_integers(**arguments: tuple[Any, int]) -> None:
    for name, (value, least) in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")


def collate(dataset: Dataset[Any], indices: NDArray[np.int64]) -> Batch:
    """One batch; data sets that are not `Samples` are asked sample by sample, and sequences are put time first."""
    if isinstance(dataset, Samples):
        return dataset.batch(indices)
    pairs = [dataset[int(i)] for i in indices]
    x = torch.stack([torch.as_tensor(x) for x, _ in pairs])
    if x.ndim == 5:
        x = x.transpose(0, 1).contiguous()
    return x, torch.tensor([int(y) for _, y in pairs], dtype=torch.int64)
