from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ranvier.data import load, loader
from ranvier.data.motion import EventSensor, MotionClouds, NaturalMotion, photographs, read_images, shift, whiten
from ranvier.data.motion.stimuli import whitened
from ranvier.data.motion.window import follow
from ranvier.errors import ArgumentError, DataError, ShapeError


def smooth_image(side: int = 96) -> np.ndarray:
    """Periodic, and well below the highest frequency."""
    r, c = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    rng = np.random.default_rng(0)
    waves = rng.integers(-10, 11, (30, 2))
    phases = rng.uniform(0, 2 * np.pi, 30)
    return sum(
        np.cos(2 * np.pi * (a * r + b * c) / side + p) for (a, b), p in zip(waves, phases, strict=True)
    )  # fmt: skip


# shifting and whitening


def test_shifts_by_whole_pixels_are_rolls_and_shifts_add_up() -> None:
    image = smooth_image(24)
    np.testing.assert_allclose(shift(image, 3, -5), np.roll(image, (3, -5), (0, 1)), atol=1e-9)
    np.testing.assert_allclose(shift(shift(image, 0.3, 1.7), -0.3, -1.7), image, atol=1e-9)
    np.testing.assert_allclose(shift(shift(image, 0.5, 0), 0.5, 0), np.roll(image, 1, 0), atol=1e-9)
    odd = np.random.default_rng(1).normal(size=(15, 21))
    np.testing.assert_allclose(shift(odd, 4, 2), np.roll(odd, (4, 2), (0, 1)), atol=1e-12)


def test_a_window_sees_what_the_moved_image_shows() -> None:
    image = smooth_image()
    corners = np.array([[20.0, 30.0], [20.25, 29.5], [27.9, 31.3]])
    frames = follow(image, corners, 32)
    for frame, (r, c) in zip(frames, corners, strict=True):
        expected = shift(image, -r, -c)[:32, :32]
        assert np.abs(frame - expected).max() < 0.02 * np.abs(image).max()
    np.testing.assert_allclose(frames[0], image[20:52, 30:62], atol=1e-9)


def test_whitening_flattens_the_spectrum_of_natural_images() -> None:
    image = photographs("test")["skimage/camera.png"]
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512), indexing="ij"))

    def octave(picture: np.ndarray, low: float) -> float:
        power = np.abs(np.fft.fft2(picture - picture.mean())) ** 2
        return float(power[(f >= low) & (f < 2 * low)].mean())

    white = whiten(image)
    assert abs(white.mean()) < 1e-12 and np.abs(white).max() == 1
    assert octave(image, 0.02) / octave(image, 0.16) > 30
    assert 0.2 < octave(white, 0.02) / octave(white, 0.16) < 5
    amplitude = np.abs(np.fft.fft2(white))[0, 3] / np.abs(np.fft.fft2(image))[0, 3]
    other = np.abs(np.fft.fft2(white))[100, 0] / np.abs(np.fft.fft2(image))[100, 0]
    g = lambda f: f * math.exp(-((f / 0.4) ** 4))  # noqa: E731
    assert other / amplitude == pytest.approx(g(100 / 512) / g(3 / 512))
    assert not whiten(np.ones((8, 8))).any()
    with pytest.raises(ShapeError, match=r"\[rows, columns\]"):
        whiten(np.zeros((3, 8, 8)))


# the sensor


def test_a_still_movie_has_no_events() -> None:
    assert not EventSensor()(np.ones((5, 3, 3)) * np.arange(9).reshape(3, 3)).any()
    assert EventSensor()(np.ones((1, 2, 2))).shape == (1, 2, 2)


def test_a_ramp_by_either_rule() -> None:
    ramp = 1.5 * np.arange(9.0)[:, None, None]
    last = EventSensor(1.0, "last", relative=False)(ramp)
    assert last.flatten().tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    real = EventSensor(1.0, "accumulate", relative=False)(ramp)
    assert real.flatten().tolist() == [0] + [1] * 8
    # 0.6 a frame: the last-event rule loses it, the accumulating one does not (7 thresholds in 12 frames)
    slow = -0.6 * np.arange(13.0)[:, None, None]
    assert not EventSensor(1.0, "last", relative=False)(slow).any()
    assert EventSensor(1.0, "accumulate", relative=False)(slow).sum() == -7


def test_relative_thresholds_are_standard_deviations_of_the_change() -> None:
    movie = np.cumsum(np.random.default_rng(0).normal(size=(60, 20, 20)), 0)
    for threshold in (0.5, 1.0, 2.0):
        theta = threshold * np.diff(movie, axis=0).std()
        np.testing.assert_array_equal(
            EventSensor(threshold)(movie), EventSensor(float(theta), relative=False)(movie)
        )  # fmt: skip
    rate = [np.abs(EventSensor(s)(movie)).mean() for s in (0.5, 1.0, 2.0)]
    assert rate[0] > rate[1] > rate[2] > 0


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: EventSensor(0), ArgumentError, "threshold"),
        (lambda: EventSensor(1, "none"), ArgumentError, "residual"),  # pyright: ignore[reportArgumentType]
        (lambda: EventSensor()(np.zeros((3, 3))), ShapeError, r"\[T, H, W\]"),
        (lambda: EventSensor()(np.full((3, 3, 3), np.nan)), DataError, "not finite"),
        (lambda: NaturalMotion(directions=0), ArgumentError, "directions"),
        (lambda: NaturalMotion(block=0.5), ArgumentError, "block"),
        (lambda: NaturalMotion(v0=-1), ArgumentError, "v0"),
        (lambda: NaturalMotion(noise=-1), ArgumentError, "noise"),
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


# motions


def test_the_table_of_36_motions() -> None:
    moves = NaturalMotion().velocities()
    assert moves.shape == (36, 2)
    speeds = np.hypot(moves[:, 0], moves[:, 1])
    np.testing.assert_allclose(speeds[[0, 12, 24]], [0.25, 0.39685026, 0.62996052], atol=1e-6)
    assert np.ptp(speeds[:12]) < 1e-12
    angle = np.degrees(np.arctan2(moves[:, 1], moves[:, 0])) % 360
    np.testing.assert_allclose(angle[:3], [0, 30, 60], atol=1e-6)
    np.testing.assert_allclose(angle[12:15], [15, 45, 75], atol=1e-6)  # the second ring is turned by half a step
    np.testing.assert_allclose(angle[24:27], [0, 30, 60], atol=1e-6)
    assert NaturalMotion().names()[13] == "45° 0.397 px/ms"
    small = NaturalMotion(8, 2, 1.0).velocities()
    np.testing.assert_allclose(np.hypot(small[:, 0], small[:, 1])[[0, 8]], [0.5, 1.0])


def test_labels_change_after_blocks_of_geometric_length() -> None:
    rule = NaturalMotion(frames=200_000, block=24)
    labels = rule.labels(np.random.default_rng(0))
    changes = np.count_nonzero(np.diff(labels))
    assert changes / 200_000 == pytest.approx(35 / 36 / 24, rel=0.03)  # one in 36 draws repeats the motion
    assert np.bincount(labels, minlength=36).min() > 200_000 / 36 * 0.8
    assert len(np.unique(NaturalMotion(block=math.inf).labels(np.random.default_rng(1)))) == 1


def test_events_move_as_the_label_says() -> None:
    images = whitened(list(photographs("test").values()))
    rule = NaturalMotion(4, 1, v0=2.0, size=48, frames=40)  # one pixel a frame, down, right, up, left
    for label, (down, right) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        movie = rule.movie(images, 5, label)
        assert set(np.unique(movie.events)) <= {-1, 0, 1} and not movie.events[0].any()
        assert 0.01 < np.abs(movie.events).mean() < 0.3
        steps = np.diff(movie.corners, axis=0)
        np.testing.assert_allclose(steps, np.tile([-down, -right], (39, 1)), atol=1e-9)
        match = {}
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                a = movie.events[2:-1, 2:-2, 2:-2].astype(int)
                b = np.roll(movie.events[3:], (-dr, -dc), (1, 2))[:, 2:-2, 2:-2].astype(int)
                match[dr, dc] = (a * b).sum()
        assert max(match, key=match.get) == (down, right)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_movies_are_determined_by_their_seed() -> None:
    images = [smooth_image()]
    rule = NaturalMotion(size=16, frames=12)
    a, b, c = rule.movie(images, (0, 1)), rule.movie(images, (0, 1)), rule.movie(images, (0, 2))
    assert np.array_equal(a.events, b.events) and not np.array_equal(a.events, c.events)
    with pytest.raises(DataError, match=r"96 x 96 pixels is too small for a window of 90"):
        NaturalMotion(size=90).movie(images, 0)


# textures


@pytest.mark.parametrize("velocity", [(1.0, 0.0), (0.0, -2.0), (0.5, 0.5)])
def test_clouds_drift_with_their_velocity(velocity: tuple[float, float]) -> None:
    movie = MotionClouds(speed_bandwidth=0.01).movie(velocity, seed=1)
    assert movie.shape == (64, 64, 64) and np.abs(movie).max() <= 1
    moved = np.stack([shift(frame, *velocity) for frame in movie[:-1]])
    still = np.corrcoef(movie[:-1].ravel(), movie[1:].ravel())[0, 1]
    match = np.corrcoef(moved.ravel(), movie[1:].ravel())[0, 1]
    against = np.stack([shift(frame, -velocity[0], -velocity[1]) for frame in movie[:-1]])
    assert match > 0.97 > still > np.corrcoef(against.ravel(), movie[1:].ravel())[0, 1]


def test_clouds_have_the_spectrum_asked_for() -> None:
    cloud = MotionClouds(
        frequency=0.125, bandwidth=0.02, orientation=math.pi / 2, orientation_bandwidth=0.1, contrast=0.01
    )
    power = np.abs(np.fft.rfft2(cloud.movie((0.5, 0.0), seed=3))).mean(0) ** 2
    row, column = np.unravel_index(power.argmax(), power.shape)
    assert abs(column / 64 - 0.125) < 0.02 and min(row, 64 - row) <= 1  # stripes across the columns
    incoherent = MotionClouds(speed_bandwidth=1.0).movie((1.0, 0.0))
    moved = np.stack([shift(frame, 1, 0) for frame in incoherent[:-1]])
    assert np.corrcoef(moved.ravel(), incoherent[1:].ravel())[0, 1] < 0.8
    assert 0.01 < np.abs(EventSensor()(MotionClouds().movie((0.5, 0.0)))).mean() < 0.5
    for arguments in ({"size": 1}, {"frequency": 0}, {"contrast": -1}):
        with pytest.raises(ArgumentError, match=next(iter(arguments))):
            MotionClouds(**arguments)
    with pytest.raises(ArgumentError, match="velocity"):
        MotionClouds().movie((1.0, float("nan")))


# images


def test_photographs_are_real_and_each_in_one_part() -> None:
    names = [name for part in ("train", "validation", "test") for name in photographs(part)]
    assert len(names) == len(set(names)) == 15
    for image in photographs("validation").values():
        assert image.ndim == 2 and min(image.shape) >= 300 and 0 <= image.min() < image.max() <= 1


def test_any_folder_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(rng.integers(0, 255, (80, 90, 3), np.uint8)).save(tmp_path / f"{i}.png")
    parts = read_images(tmp_path)
    assert list(parts["validation"]) == ["3.png"] and list(parts["test"]) == ["4.png"] and len(parts["train"]) == 5
    bundle = load("motion", images=str(tmp_path), movies=3, test_movies=2, validation_movies=1, size=16, T=12, v0=0.2)
    assert bundle.input_shape == (12, 2, 16, 16)
    (tmp_path / "3.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3\.png"):
        load("motion", images=str(tmp_path))
    with pytest.raises(DataError, match="is not a folder"):
        load("motion", images=str(tmp_path / "none"))
    for i in range(3, 7):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(DataError, match="has 3 images; at least 5"):
        load("motion", images=str(tmp_path))


# the data set


def test_motion_data_set() -> None:
    options = {"movies": 5, "test_movies": 8, "validation_movies": 4, "directions": 4, "speeds": 2, "T": 20, "size": 16}
    bundle = load("motion", **options)
    assert bundle.kind == "event" and bundle.input_shape == (20, 2, 16, 16) and bundle.num_classes == 8
    assert bundle.validation is not None and len(bundle.validation) == 4
    x, y = next(iter(loader(bundle.train, 5)))
    assert x.shape == (20, 5, 2, 16, 16) and y.shape == (5, 20) and set(x.unique().tolist()) == {0.0, 1.0}
    assert not (x[:, :, 0] * x[:, :, 1]).any()  # never both polarities at once
    one, label = bundle.train[2]
    assert torch.equal(one, x[:, 2]) and torch.equal(label, y[2])
    x, y = next(iter(loader(bundle.test, 8)))
    assert y.tolist() == list(range(8)) and bundle.test[3][1] == 3
    again, other = load("motion", **options), load("motion", **options, seed=1)
    assert again.fingerprint == bundle.fingerprint != other.fingerprint
    assert torch.equal(again.test[1][0], bundle.test[1][0])
    with pytest.raises(ArgumentError, match="test_movies must be"):
        load("motion", test_movies=0)
    with pytest.raises(ArgumentError, match="seed must be"):
        load("motion", seed=-1)


def test_a_recipe_trains_on_labels_of_every_frame(tmp_path: Path) -> None:
    from ranvier.train import fit, load_recipe

    recipe = load_recipe(
        "motion_hdsnn_small",
        ["data.options.movies=6", "data.options.test_movies=8", "data.options.validation_movies=8", "train.epochs=1",
         "data.options.T=16", "data.options.size=16", "model.args.kernel=[3, 3, 3]", "data.batch_size=2"],
    )  # fmt: skip
    result = fit(recipe, tmp_path, progress=False)
    assert result.steps == 3 and result.test.n == 8
