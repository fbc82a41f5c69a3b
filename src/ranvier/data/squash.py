"""Image files to small arrays of one size: the whole picture, whatever its shape, resized to a square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ranvier.data.archive import Archive
from ranvier.data.cache import cache_key, keep, lookup
from ranvier.data.images import decode
from ranvier.data.samples import ArraySamples
from ranvier.errors import ArgumentError
from ranvier.extras import require


def squashed(
    name: str, archive: Archive, files: Sequence[str], labels: Sequence[int], size: int, channels: int
) -> ArraySamples:
    """The images `files` as `[N, channels, size, size]` bytes in memory (bilinear, antialiased), cached."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ArgumentError(f"size must be an integer of at least 1, got {size!r}")
    pillow = require("PIL", extra="data").__version__  # another version may decode to other pixels
    key = cache_key(archive.content(files, read=False), str(archive.path), size, channels, pillow, 1)
    found = lookup(name, key)
    if found is None:
        pixels = np.empty((len(files), channels, size, size), np.uint8)
        for row, file in enumerate(files):
            image = torch.tensor(decode(archive.read(file), archive.where(file), channels))[None].float()
            image = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
            pixels[row] = image[0].round().clamp(0, 255).to(torch.uint8).numpy()
        found = keep(name, key, {"pixels": pixels}, {})
    return ArraySamples(torch.from_numpy(found[0]["pixels"]), torch.tensor(list(labels), dtype=torch.int64))


def by_share(labels: Sequence[int], share: float, taken: float | None = None) -> tuple[list[int], list[int]]:
    """Positions of the first `share` of every class (rounded), and of the `taken` (None: all) of it that follow."""
    first: list[int] = []
    rest: list[int] = []
    own: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        own.setdefault(label, []).append(place)
    for members in own.values():
        cut = round(share * len(members))
        end = len(members) if taken is None else cut + round(taken * len(members))
        first += members[:cut]
        rest += members[cut:end]
    return sorted(first), sorted(rest)
