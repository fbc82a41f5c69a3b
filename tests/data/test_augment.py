from __future__ import annotations

from typing import Any

import pytest
import torch

from ranvier.data import Augment
from ranvier.errors import ArgumentError, ShapeError

ALL = Augment(crop=2, flip=True, randaugment=(2, 9), erasing=0.5, mixup=0.8, cutmix=1.0)
SHAPES = [(6, 3, 16, 16), (5, 1, 8, 8), (4, 2, 8, 10), (3, 4, 2, 10, 8), (2, 3, 3, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_range_and_the_input_stay(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    before = x.clone()
    out = ALL.images(x, seed=1)
    assert out.shape == x.shape and out.dtype == x.dtype and torch.equal(x, before)
    assert out.min() >= 0 and out.max() <= 1 and not torch.equal(out, x)


def test_defaults_do_nothing() -> None:
    x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    assert Augment().images(x) is x
    same, targets = Augment().mix(x, y, 3)
    assert same is x and torch.equal(targets, torch.nn.functional.one_hot(y, 3).float())


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (3, 6, 2, 8, 8)])
def test_draws_follow_the_seed_the_generator_or_the_global_state(shape: tuple[int, ...]) -> None:
    x, y = torch.rand(shape), torch.arange(6)
    for run in (
        lambda **k: ALL.images(x, **k),
        lambda **k: ALL.mix(x, y, 6, **k)[0],
        lambda **k: ALL.mix(x, y, 6, **k)[1],
    ):
        assert torch.equal(run(seed=3), run(seed=3))
        assert not torch.equal(run(seed=3), run(seed=4))
        generators = [torch.Generator().manual_seed(8) for _ in range(2)]
        firsts = [run(generator=generator) for generator in generators]
        assert torch.equal(*firsts) and not torch.equal(run(generator=generators[0]), firsts[0])
        state = torch.get_rng_state()
        first, second = run(), run()
        assert not torch.equal(first, second)
        torch.set_rng_state(state)
        assert torch.equal(run(), first) and torch.equal(run(), second)


def test_a_seed_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    ALL.images(torch.rand(2, 3, 8, 8, generator=torch.Generator()), seed=1)
    ALL.mix(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), 2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_crop_shifts_by_at_most_the_padding_and_fills_with_zeros() -> None:
    x = torch.zeros(64, 1, 9, 9)
    x[:, :, 4, 4] = 1
    out = Augment(crop=2).images(x, seed=0)
    assert torch.equal(out.sum((1, 2, 3)), torch.ones(64))
    places = out.flatten(1).argmax(1)
    rows, columns = places // 9 - 4, places % 9 - 4
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    assert Augment(crop=2).images(torch.ones(64, 1, 9, 9), seed=0).min() == 0


def test_flip_mirrors_about_half_of_the_samples() -> None:
    x = torch.rand(200, 1, 4, 4)
    out = Augment(flip=True).images(x, seed=0)
    flipped = (out == x.flip(-1)).flatten(1).all(1)
    same = (out == x).flatten(1).all(1)
    assert (flipped ^ same).all() and 70 < int(flipped.sum()) < 130


def test_erasing_blanks_a_rectangle() -> None:
    out = Augment(erasing=1.0).images(torch.ones(50, 3, 16, 16), seed=0)
    share = (out == 0).float().mean((1, 2, 3))
    assert (out[:, 0] == out[:, 1]).all() and share.min() > 0 and share.max() < 0.4
    rectangle = (out[:, 0] == 0).any(1).sum(1) * (out[:, 0] == 0).any(2).sum(1)
    assert torch.equal(rectangle, (out[:, 0] == 0).sum((1, 2)))


@pytest.mark.parametrize(
    "augment", [Augment(crop=3), Augment(flip=True), Augment(erasing=1.0), Augment(randaugment=(2, 20))]
)
def test_all_steps_of_a_sequence_move_together(augment: Augment) -> None:
    frame = torch.rand(1, 8, 2, 12, 12)
    out = augment.images(frame.expand(5, 8, 2, 12, 12), seed=2)
    assert out.is_contiguous()
    torch.testing.assert_close(out, out[:1].expand_as(out))
    assert not torch.equal(out[:, 0] - frame[:, 0], out[:, 1] - frame[:, 1])


def test_randaugment_does_not_treat_the_whole_batch_alike() -> None:
    x = torch.rand(1, 3, 16, 16).expand(64, 3, 16, 16).contiguous()
    assert len(Augment(randaugment=(1, 10)).images(x, seed=0).flatten(1).unique(dim=0)) > 6


def test_randaugment_draws_its_magnitude_where_a_spread_is_given() -> None:
    x = torch.zeros(1, 1, 33, 33)
    x[..., 16, :] = 1  # a line: what moves it shows by how much
    fixed = Augment(randaugment=(1, 9)).images(x.expand(400, 1, 33, 33).contiguous(), seed=0).flatten(1).unique(dim=0)
    drawn = (
        Augment(randaugment=(1, 9, 6)).images(x.expand(400, 1, 33, 33).contiguous(), seed=0).flatten(1).unique(dim=0)
    )
    assert len(drawn) > 1 and len(fixed) > 1 and not torch.equal(fixed[:2], drawn[:2])
    assert Augment(randaugment=(1, 9)) == Augment(randaugment=(1, 9, 0))


def test_jitter_changes_each_image_in_its_own_way_and_keeps_the_range() -> None:
    x = torch.rand(1, 3, 8, 8).expand(16, 3, 8, 8).contiguous()
    out = Augment(jitter=0.4).images(x, seed=0)
    assert out.min() >= 0 and out.max() <= 1 and len(out.flatten(1).unique(dim=0)) == 16
    bright = Augment(jitter=(0.5, 0, 0)).images(torch.full((32, 1, 4, 4), 0.5), seed=0)
    assert (bright == bright[:, :, :1, :1]).all() and 0.25 <= bright.min() < 0.35 < 0.65 < bright.max() <= 0.75
    assert Augment(jitter=(0.0, 0.0, 0.0)) == Augment()
    with pytest.raises(ShapeError, match="jitter"):
        Augment(jitter=0.4).images(torch.rand(2, 4, 3, 8, 8))


# Mixing


def test_mixup_mixes_images_and_targets_alike() -> None:
    y = torch.arange(6)
    x = torch.nn.functional.one_hot(y, 6).float().view(6, 6, 1, 1).expand(6, 6, 2, 2)
    mixed, targets = Augment(mixup=1.0).mix(x, y, 6, seed=0)
    torch.testing.assert_close(mixed, targets.view(6, 6, 1, 1).expand_as(mixed))
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    assert (targets.max(1).values < 1).any()


@pytest.mark.parametrize("steps", [0, 4])
def test_cutmix_weighs_labels_by_the_pasted_pixels(steps: int) -> None:
    y = torch.arange(32)
    x = torch.nn.functional.one_hot(y, 32).float().view(32, 32, 1, 1).expand(32, 32, 10, 12)
    x = x.expand(steps, *x.shape) if steps else x
    mixed, targets = Augment(cutmix=1.0).mix(x, y, 32, seed=0)
    assert mixed.shape == x.shape and set(mixed.unique().tolist()) == {0.0, 1.0}
    frame = mixed[0] if steps else mixed
    assert all(torch.equal(step, frame) for step in mixed) if steps else True
    torch.testing.assert_close(frame.mean((2, 3)), targets)
    assert ((targets > 0).sum(1) == 2).sum() > 10


def test_both_draw_one_of_them_each_time() -> None:
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    cut = [bool(torch.isin(Augment(mixup=1.0, cutmix=1.0).mix(x, y, 8, seed=s)[0], x).all()) for s in range(40)]
    assert 10 < sum(cut) < 30


def test_label_smoothing_spreads_over_all_classes() -> None:
    _, targets = Augment().mix(torch.rand(2, 1, 2, 2), torch.tensor([0, 3]), 4, label_smoothing=0.2)
    torch.testing.assert_close(targets, torch.tensor([[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]]))
    _, mixed = Augment(mixup=0.4).mix(torch.rand(2, 1, 2, 2), torch.tensor([0, 3]), 4, label_smoothing=0.2)
    torch.testing.assert_close(mixed.sum(1), torch.ones(2))


# Mistakes


@pytest.mark.parametrize(
    "arguments",
    [{"crop": -1}, {"crop": 1.5}, {"flip": 1}, {"randaugment": 2}, {"randaugment": (0, 9)}, {"randaugment": (2, 30)},
     {"randaugment": (99, 9)}, {"erasing": 1.5}, {"mixup": -0.1}, {"cutmix": float("nan")},
     {"randaugment": (2, 9, -1)}, {"jitter": -0.1}, {"jitter": (0.1, 0.1)}, {"jitter": (0, 0, 0, 0.6)}],
)  # fmt: skip
def test_bad_settings_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        Augment(**arguments)


def test_a_list_from_yaml_is_as_good_as_a_tuple() -> None:
    assert Augment(randaugment=[2, 9]) == Augment(randaugment=(2, 9))  # pyright: ignore[reportArgumentType]


def test_bad_batches_are_explained() -> None:
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ShapeError, match=r"\[T, B, C, H, W\], got \(1, 4, 4\)"):
        ALL.images(x[0])
    with pytest.raises(ShapeError, match="uint8"):
        ALL.images((x * 255).byte())
    with pytest.raises(ShapeError, match=r"integer labels \[2\]"):
        ALL.mix(x, torch.tensor([0]), 2)
    with pytest.raises(ArgumentError, match=r"labels 0 \.\. 1, got 0 to 2"):
        ALL.mix(x, torch.tensor([0, 2]), 2)
    with pytest.raises(ArgumentError, match="label_smoothing"):
        ALL.mix(x, torch.tensor([0, 1]), 2, label_smoothing=1.0)
    with pytest.raises(ArgumentError, match="seed or generator"):
        ALL.images(x, seed=1, generator=torch.Generator())
