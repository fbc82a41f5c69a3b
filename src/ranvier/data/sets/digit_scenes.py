"""Digits in pictures and in rooms: rendered from real handwriting, for segmentation and detection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.cache import cache_key
from ranvier.data.scenes import Glyphs, cloud_scene, glyphs, image_scene
from ranvier.data.scenes.glyphs import Source
from ranvier.data.statistics import channel_statistics
from ranvier.data.targets import ArrayTargets, table
from ranvier.errors import ArgumentError

DIGITS = tuple("0123456789")
VERSION = 1


def _pictures(masks: bool) -> Callable[..., Parts]:
    """The loader of the pictures, with a class for every pixel or with boxes: one set of options for both."""

    def load(
        root: Path | None,
        source: Source = "digits",
        size: int = 64,
        scenes: int = 1000,
        test_scenes: int = 200,
        most: int = 4,
        smallest: int = 14,
        largest: int = 26,
        noise: float = 0.05,
        seed: int = 0,
    ) -> Parts:
        _positive(size=size, most=most)
        heights = (smallest, largest)
        if not 4 <= heights[0] <= heights[1] <= size:
            raise ArgumentError(f"smallest and largest must be 4 <= smallest <= largest <= size {size}, got {heights}")
        counts = _checked(scenes, test_scenes, noise, seed)
        content = (source, size, most, heights, noise, seed, VERSION)

        def made(digits: Glyphs, part: int) -> tuple[ArrayTargets, NDArray[np.uint8]]:
            rendered = [
                image_scene(digits, np.random.default_rng((seed, part, i)), size, most, heights, noise)
                for i in range(counts[part])
            ]
            images = np.stack([scene.image for scene in rendered])
            if masks:
                targets = torch.from_numpy(np.stack([scene.classes for scene in rendered]))
            else:
                targets = table(*_lists(rendered))
            return ArrayTargets(torch.from_numpy(images), targets, scale=255), images

        train, test, handwriting = glyphs(source, root)
        (first, images), (second, _) = made(train, 0), made(test, 1)
        mean, std = channel_statistics(images)
        names = ("background", *DIGITS) if masks else DIGITS
        return Parts(first, second, names, cache_key(handwriting, counts, *content), mean, std)

    return load


load_digit_scenes = _pictures(masks=False)
"""Pictures `[1, size, size]` with 1 to `most` digits, and where they are: tables of boxes `[M, 6]`.

The digits of the test pictures come from the test part of their source.

Args:
    source: "digits" (scikit-learn's, which need no files) or "mnist".
    scenes, test_scenes: pictures of each part.
    smallest, largest: height of a digit in pixels.
    noise: standard deviation of a pixel.
"""

load_digit_scene_masks = _pictures(masks=True)
"""The pictures of `digit_scenes` with a class for every pixel: background, or the digit whose stroke it is."""


def load_digit_rooms(
    root: Path | None,
    source: Source = "digits",
    points: int = 1536,
    scenes: int = 400,
    test_scenes: int = 100,
    most: int = 4,
    side: float = 8.0,
    noise: float = 0.02,
    one_class: bool = False,
    seed: int = 0,
) -> Parts:
    """Clouds `[points, 4]` of digits that stand in a room, and where: tables of boxes `[M, 9]` (metres, heading).

    Args:
        source: "digits" or "mnist".
        scenes, test_scenes: rooms of each part.
        side: of the square floor, metres.
        noise: of a measured position, metres.
        one_class: only that there is a digit, not which.
    """
    parts = _rooms(root, source, points, scenes, test_scenes, most, side, noise, seed, boxes=True)
    if not one_class:
        return parts
    for samples in (parts.train, parts.test):
        assert isinstance(samples, ArrayTargets)
        samples.targets[..., 0].clamp_(max=0)
    return Parts(parts.train, parts.test, ("digit",), parts.content)


def load_digit_room_labels(
    root: Path | None,
    source: Source = "digits",
    points: int = 1536,
    scenes: int = 400,
    test_scenes: int = 100,
    most: int = 4,
    side: float = 8.0,
    noise: float = 0.02,
    seed: int = 0,
) -> Parts:
    """The rooms of `digit_rooms` with a class for every point: floor, or the digit that it lies on."""
    return _rooms(root, source, points, scenes, test_scenes, most, side, noise, seed, boxes=False)


def _rooms(
    root: Path | None, source: Source, points: int, scenes: int, test_scenes: int, most: int, side: float,
    noise: float, seed: int, boxes: bool,
) -> Parts:  # fmt: skip
    _positive(points=points, most=most)
    if points < 64 or not 4 <= side <= 1000:
        raise ArgumentError(f"points must be at least 64 and side from 4 to 1000 metres, got {points!r} and {side!r}")
    counts, content = _checked(scenes, test_scenes, noise, seed), (source, points, most, side, noise, seed, VERSION)

    def made(digits: Glyphs, part: int) -> ArrayTargets:
        rendered = [
            cloud_scene(digits, np.random.default_rng((seed, part, i, 3)), points, most, side, noise)
            for i in range(counts[part])
        ]
        clouds = torch.from_numpy(np.stack([scene.points for scene in rendered]))
        if boxes:
            return ArrayTargets(clouds, table(*_lists(rendered)))
        return ArrayTargets(clouds, torch.from_numpy(np.stack([scene.classes for scene in rendered])))

    train, test, handwriting = glyphs(source, root)
    names = DIGITS if boxes else ("floor", *DIGITS)
    return Parts(made(train, 0), made(test, 1), names, cache_key(handwriting, counts, *content))


def _lists(scenes: list[Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [torch.from_numpy(s.boxes) for s in scenes], [torch.from_numpy(s.labels) for s in scenes]


def _checked(scenes: int, test_scenes: int, noise: float, seed: int) -> tuple[int, int]:
    _positive(scenes=scenes, test_scenes=test_scenes)
    if not isinstance(noise, int | float) or not 0 <= noise <= 1:
        raise ArgumentError(f"noise must be a number from 0 to 1, got {noise!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ArgumentError(f"seed must be an integer of at least 0, got {seed!r}")
    return scenes, test_scenes


def _positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")


def _register(name: str, kind: Any, task: Any, load: Callable[..., Parts]) -> None:
    DATASETS.register(name)(
        DatasetEntry(
            kind=kind, task=task, load=load, find=lambda root: None, needs_root=False,
            how="It is rendered from scikit-learn's digits: pip install 'ranvier[data]'.",
        )
    )  # fmt: skip


_register("digit_scenes", "static", "detection", load_digit_scenes)
_register("digit_scene_masks", "static", "segmentation", load_digit_scene_masks)
_register("digit_rooms", "points", "detection", load_digit_rooms)
_register("digit_room_labels", "points", "segmentation", load_digit_room_labels)
