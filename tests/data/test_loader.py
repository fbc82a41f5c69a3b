from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from ranvier.data import ArraySamples, loader, split_validation, subset
from ranvier.data.order import permutation
from ranvier.data.split import stratified
from ranvier.errors import ArgumentError, ShapeError


def samples(n: int, sequence: bool = False) -> ArraySamples:
    shape = (n, 3, 2, 1, 1) if sequence else (n, 1, 1, 1)
    values = torch.arange(n, dtype=torch.uint8).view(n, *[1] * (len(shape) - 1)).expand(shape)
    return ArraySamples(values, torch.arange(n) % 3, scale=1)


def ids(batches: Any) -> list[list[int]]:
    return [x[..., 0, 0, 0].flatten().int().tolist() for x, _ in batches]


# Order


@given(st.integers(0, 200), st.integers(0, 2**63), st.integers(0, 1000))
def test_permutation_is_one(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permutation(n, seed, epoch)), np.arange(n))


def test_permutation_does_not_change_between_versions() -> None:
    assert permutation(8, 0, 0).tolist() == PINNED
    assert permutation(8, 0, 1).tolist() != PINNED and permutation(8, 1, 0).tolist() != PINNED


PINNED = [0, 3, 7, 5, 1, 2, 6, 4]


def test_order_depends_only_on_seed_and_epoch() -> None:
    def run(seed: int, epoch: int) -> list[list[int]]:
        torch.manual_seed(np.random.default_rng().integers(1000))
        return ids(loader(samples(50), 8, shuffle=True, seed=seed, epoch=epoch))

    assert run(1, 2) == run(1, 2)
    assert run(1, 2) != run(1, 3) and run(1, 2) != run(2, 2)
    assert sorted(i for batch in run(1, 2) for i in batch) == list(range(50))


def test_start_continues_an_epoch_where_it_stopped() -> None:
    whole = ids(loader(samples(50), 8, shuffle=True, seed=3))
    rest = loader(samples(50), 8, shuffle=True, seed=3, start=4)
    assert len(rest) == 3 and ids(rest) == whole[4:]
    assert len(loader(samples(50), 8, start=99)) == 0


def test_batch_sizes_and_drop_last() -> None:
    assert [len(b) for b in ids(loader(samples(10), 4))] == [4, 4, 2]
    dropped = loader(samples(10), 4, drop_last=True)
    assert len(dropped) == 2 and ids(dropped) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert ids(loader(samples(8), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4))
def test_processes_share_every_global_batch(n: int, size: int, world: int) -> None:
    shares = [ids(loader(samples(n), size, shuffle=True, rank=r, world=world)) for r in range(world)]
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(n))
    whole = ids(loader(samples(n), size * world, shuffle=True))
    for step, expected in enumerate(whole):
        assert sorted(i for s in shares if step < len(s) for i in s[step]) == sorted(expected)
    full = [len(loader(samples(n), size, drop_last=True, rank=r, world=world)) for r in range(world)]
    assert set(full) == {n // (size * world)}


@pytest.mark.parametrize("prefetch", [0, 1, 5, 50])
def test_prefetch_changes_nothing(prefetch: int) -> None:
    assert ids(loader(samples(30), 4, shuffle=True, prefetch=prefetch)) == ids(loader(samples(30), 4, shuffle=True))


def test_prefetch_passes_errors_on_and_can_be_left_early() -> None:
    class Broken(ArraySamples):
        def batch(self, indices: Any) -> Any:
            raise ValueError("broken sample")

    with pytest.raises(ValueError, match="broken sample"):
        list(loader(Broken(torch.zeros(4, 1, 1, 1), torch.zeros(4)), 2, prefetch=2))
    for _ in loader(samples(30), 4, prefetch=3):
        break


def test_sequences_come_time_first() -> None:
    dataset = samples(5, sequence=True)
    x, y = next(iter(loader(dataset, 4)))
    assert x.shape == (3, 4, 2, 1, 1) and x.is_contiguous() and y.tolist() == [0, 1, 2, 0]
    one, label = dataset[4]
    assert one.shape == (3, 2, 1, 1) and label == 1 and torch.equal(x[:, 2], dataset[2][0])


def test_foreign_datasets_are_collated_the_same_way() -> None:
    class Foreign(Dataset[Any]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return samples(5, sequence=True)[index]

    for (x, y), (x2, y2) in zip(loader(Foreign(), 2), loader(samples(5, sequence=True), 2), strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"batch_size": 0}, "batch_size"), ({"seed": -1}, "seed"), ({"epoch": 1.5}, "epoch"), ({"start": -1}, "start"),
     ({"rank": 2, "world": 2}, "rank must be below"), ({"prefetch": None}, "prefetch")],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        loader(samples(4), **{"batch_size": 2, **arguments})


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(ArgumentError, match="empty"):
        loader(subset(samples(4), []), 2)


# Samples, subsets and splits


def test_samples_scale_and_iterate() -> None:
    dataset = ArraySamples(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.tensor([3, 4]))
    assert [(x.item(), y) for x, y in dataset] == [(0.0, 3), (1.0, 4)]
    assert dataset[-1][1] == 4 and dataset[0][0].dtype == torch.float32
    with pytest.raises(IndexError):
        dataset[2]
    with pytest.raises(ArgumentError, match=r"0 \.\. 1, got 2"):
        dataset.batch([0, 2])
    with pytest.raises(ArgumentError, match="integers"):
        dataset.batch(torch.tensor([0.5]))
    with pytest.raises(ShapeError, match="labels"):
        ArraySamples(torch.zeros(3, 1, 1, 1), torch.zeros(2))


def test_subset_of_a_subset() -> None:
    part = subset(subset(samples(10), [9, 7, 5, 3]), np.array([2, 0]))
    assert ids(loader(part, 2)) == [[5, 9]] and part.labels.tolist() == [2, 0] and len(part) == 2
    with pytest.raises(ArgumentError, match=r"0 \.\. 9, got 10"):
        subset(samples(10), [10])


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.data())
def test_stratified_takes_every_class_by_its_share(labels: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(labels)))
    array = np.array(labels)
    chosen = stratified(array, count, 4)
    assert len(set(chosen.tolist())) == count
    for c in set(labels):
        share = labels.count(c) * count / len(labels)
        assert abs((array[chosen] == c).sum() - share) < 1


@pytest.mark.parametrize("part", [0.2, 6])
def test_split_validation_divides(part: float) -> None:
    train, held = split_validation(samples(30), part, seed=1)
    assert len(held) == 6 and held.labels.bincount().tolist() == [2, 2, 2]
    assert sorted(ids(loader(train, 30))[0] + ids(loader(held, 30))[0]) == list(range(30))
    assert ids(loader(held, 6)) == ids(loader(split_validation(samples(30), part, seed=1)[1], 6))
    assert ids(loader(held, 6)) != ids(loader(split_validation(samples(30), part, seed=2)[1], 6))


@pytest.mark.parametrize("part", [0, 0.0, 1.0, 30, -1, "half", True, None, 1.5])
def test_split_validation_refuses(part: Any) -> None:
    with pytest.raises(ArgumentError, match="fraction_or_count"):
        split_validation(samples(30), part)
