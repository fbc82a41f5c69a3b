"""Pairs of recordings and images: by class, by picture, across classes, and without those that are held out."""

from __future__ import annotations

import pytest
import torch

from ranvier.data import ArraySamples, subset
from ranvier.errors import ArgumentError, DataError
from ranvier.train.transfer import NumberedSamples, PairedImages

NAMES = ("cat", "dog", "emu")


def images(labels: list[int], keys: bool = True) -> ArraySamples:
    made = ArraySamples(torch.arange(len(labels)).view(-1, 1, 1, 1).to(torch.uint8), torch.tensor(labels), scale=1)
    made.keys = [f"picture {i}" for i in range(len(labels))] if keys else None
    return made


def recordings(labels: list[int], keys: list[str] | None = None) -> ArraySamples:
    made = ArraySamples(torch.zeros(len(labels), 2, 1, 1, 1, dtype=torch.uint8), torch.tensor(labels), scale=1)
    made.keys = keys
    return made


def test_class_pairs_are_matched_by_name() -> None:
    static = images([0, 0, 0, 1, 1, 2, 2])  # emu, cat, dog
    pairs = PairedImages(recordings([0, 1, 2, 2]), static, NAMES, ("emu", "cat", "dog"))
    drawn = torch.stack([pairs.draw(torch.arange(4)) for _ in range(300)])
    assert [set(column.tolist()) for column in drawn.T] == [{3, 4}, {5, 6}, {0, 1, 2}, {0, 1, 2}]
    counts = torch.bincount(drawn[:, 2], minlength=7)[:3].float()
    assert float((counts - 100).abs().max()) < 3 * (300 * 2 / 9) ** 0.5
    assert not torch.equal(drawn[:, 2], drawn[:, 3])
    batch = pairs.batch(torch.tensor([1, 1]))
    assert batch.shape == (2, 1, 1, 1) and set(batch.flatten().tolist()) <= {5.0, 6.0}


def test_draws_repeat_with_the_generator() -> None:
    pairs = PairedImages(recordings([0, 1] * 20), images([0] * 9 + [1] * 9), NAMES, NAMES)
    numbers = torch.arange(40)
    first = pairs.draw(numbers, torch.Generator().manual_seed(5))
    assert torch.equal(first, pairs.draw(numbers, torch.Generator().manual_seed(5)))


def test_instances() -> None:
    events = recordings([0, 1, 0], ["picture 2", "picture 3", "picture 0"])
    pairs = PairedImages(events, images([0, 0, 0, 1]), NAMES, NAMES, "instance")
    assert pairs.draw(torch.tensor([2, 0, 1])).tolist() == [0, 2, 3]
    with pytest.raises(DataError, match="'picture 3'"):
        PairedImages(events, images([0, 0, 0, 1, 1]), NAMES, NAMES, "instance", exclude=["picture 3"])
    with pytest.raises(DataError, match="events have no keys"):
        PairedImages(recordings([0]), images([0]), NAMES, NAMES, "instance")


def test_shuffled_pairs_are_of_one_other_class() -> None:
    static = images([0] * 3 + [1] * 3 + [2] * 3)
    for seed in range(4):
        pairs = PairedImages(recordings([0, 1, 2] * 30), static, NAMES, NAMES, "shuffled", seed=seed)
        drawn = pairs.draw(torch.arange(90))
        other = [set(static.labels[drawn[c::3]].tolist()) for c in range(3)]
        assert all(len(o) == 1 and o != {c} for c, o in enumerate(other)) and len({*map(frozenset, other)}) == 3


def test_held_out_pictures_are_not_drawn() -> None:
    pairs = PairedImages(recordings([0, 1]), images([0, 0, 1, 1]), NAMES, NAMES, exclude={"picture 0", "elsewhere"})
    assert pairs.excluded == 1
    assert set(pairs.draw(torch.zeros(50, dtype=torch.int64)).tolist()) == {1}


def test_missing_classes() -> None:
    with pytest.raises(DataError, match="lack 1 class of the events: 'emu'"):
        PairedImages(recordings([0, 2]), images([0, 0]), NAMES, NAMES)
    with pytest.raises(DataError, match="lack 1 class"):  # all its images are held out
        PairedImages(recordings([0]), images([0]), NAMES, NAMES, exclude=["picture 0"])
    with pytest.raises(ArgumentError, match="pairing"):
        PairedImages(recordings([0]), images([0]), NAMES, NAMES, "any")  # pyright: ignore[reportArgumentType]


def test_numbers_stand_in_for_labels() -> None:
    samples = NumberedSamples(recordings([4, 5, 6]))
    x, y = samples.batch([2, 0])
    assert x.shape == (2, 2, 1, 1, 1) and y.tolist() == [2, 0]


def test_keys_follow_a_subset() -> None:
    part = subset(images([0, 1, 2]), [2, 0])
    assert part.keys == ["picture 2", "picture 0"]
