"""Motions of natural images as events: made from photographs, once, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.cache import Arrays, cache_key, digest, keep, lookup
from ranvier.data.motion import EventSensor, NaturalMotion, photographs, read_images
from ranvier.data.motion.stimuli import whitened
from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ArgumentError

PARTS = ("train", "validation", "test")


class MotionSamples(Samples):
    """Movies as events `[T, 2, H, W]`, OFF before ON; of training movies y is a label a frame, `[T]`, else an int."""

    def __init__(self, events: Tensor, frame_labels: Tensor, changing: bool) -> None:
        self.events, self.frame_labels, self.changing = events, frame_labels, changing
        self.labels = frame_labels[:, 0].clone()
        self.time_first = True

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        x, y = self.batch([int(index) % len(self)])
        return x.squeeze(1), y[0] if self.changing else int(y)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        signed = self.events[index].transpose(0, 1)
        x = torch.stack([signed < 0, signed > 0], 2).to(torch.float32)
        return x, self.frame_labels[index] if self.changing else self.labels[index]


def load_motion(
    root: Path | None,
    images: str | None = None,
    T: int = 48,
    size: int = 32,
    directions: int = 8,
    speeds: int = 2,
    v0: float = 1.0,
    block: float = 24.0,
    movies: int = 60,
    test_movies: int = 96,
    validation_movies: int = 48,
    selectivity: float = 1.0,
    residual: Literal["last", "accumulate"] = "last",
    noise: float = 0.001,
    seed: int = 0,
) -> Parts:
    """Photographs that move in one of `directions` × `speeds` ways, as events `[T, 2, size, size]`.

    The training movies change their motion; their y is a label a frame, `[T]`. Those of the other parts have one
    motion each, every label equally often, and show other photographs.

    Args:
        images: a folder of images; None: 15 photographs that come with scikit-image and scikit-learn.
        T, size, directions, speeds, v0, block, noise: see `ranvier.data.motion.NaturalMotion`. The publication has
            T=200, size=128, directions=12, speeds=3, v0=0.5.
        movies, validation_movies, test_movies: of each part.
        selectivity, residual: threshold and rule of `ranvier.data.motion.EventSensor`.
        seed: of the movies.
    """
    for name, value in (("movies", movies), ("test_movies", test_movies), ("validation_movies", validation_movies)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ArgumentError(f"seed must be an integer of at least 0, got {seed!r}")
    sensor = EventSensor(selectivity, residual)
    rule = NaturalMotion(directions, speeds, v0, size, T, block, sensor, noise)
    counts: dict[str, int] = dict(zip(PARTS, (movies, validation_movies, test_movies), strict=True))
    if images is None:
        pictures = {part: photographs(part) for part in PARTS}
    else:
        given = Path(images).expanduser()
        pictures = read_images(given if root is None or given.is_absolute() else root / given)
    shown = [(part, name, digest(picture)) for part in PARTS for name, picture in pictures[part].items()]
    key = cache_key(rule, counts, seed, shown, 1)
    found = lookup("motion", key) or keep("motion", key, _made(rule, pictures, counts, seed), {})
    arrays, _ = found
    samples = {
        part: MotionSamples(
            torch.from_numpy(np.asarray(arrays[part])), torch.from_numpy(np.asarray(arrays[f"{part}_labels"])),
            part == "train",
        )
        for part in PARTS
    }  # fmt: skip
    return Parts(samples["train"], samples["test"], rule.names(), key, validation=samples["validation"])


def _made(
    rule: NaturalMotion, pictures: dict[str, dict[str, NDArray[np.float64]]], counts: dict[str, int], seed: int
) -> Arrays:
    arrays: Arrays = {}
    for number, part in enumerate(PARTS):
        images = whitened(list(pictures[part].values()))
        events = np.empty((counts[part], rule.frames, rule.size, rule.size), np.int8)
        labels = np.empty((counts[part], rule.frames), np.int64)
        for i in range(counts[part]):
            label = None if part == "train" else i % rule.classes
            movie = rule.movie(images, (seed, number, i), label)
            events[i], labels[i] = movie.events, movie.labels
        arrays |= {part: events, f"{part}_labels": labels}
    return arrays


DATASETS.register("motion")(
    DatasetEntry(
        kind="event", load=load_motion, find=lambda root: None, needs_root=False,
        how="It is made from photographs inside scikit-image and scikit-learn: pip install 'ranvier[data]'.",
    )
)  # fmt: skip
