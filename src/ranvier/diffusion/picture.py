"""Images as one picture."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.extras import require
from ranvier.files import write_bytes
from ranvier.train.files import explained


def image_grid(images: Tensor, columns: int | None = None, gap: int = 1, scale: int = 1) -> Tensor:
    """`[N, C, H, W]` in 0 .. 1 as one image `[C, rows, columns]`, row by row, on white.

    Args:
        columns: images a row; the square root of N by default.
        gap: pixels between images.
        scale: pixels for each pixel of the images.
    """
    if images.dim() != 4 or not len(images) or images.shape[1] not in (1, 3):
        raise ShapeError(f"images must be [N, 1 or 3, H, W], got shape {tuple(images.shape)}")
    for name, value, least in (("gap", gap, 0), ("scale", scale, 1), ("columns", columns or 1, 1)):
        if value < least:
            raise ArgumentError(f"{name} must be >= {least}, got {value!r}")
    n, c, h, w = images.shape
    across = columns or math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    h, w = h * scale, w * scale
    page = torch.ones(c, down * (h + gap) - gap, across * (w + gap) - gap)
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    for i, image in enumerate(large):
        top, left = (i // across) * (h + gap), (i % across) * (w + gap)
        page[:, top : top + h, left : left + w] = image
    return page


def save_png(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write one image `[C, H, W]` in 0 .. 1 as PNG, whole or not at all."""
    pillow = require("PIL.Image", extra="data")
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    content = io.BytesIO()
    pillow.fromarray(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels).save(content, "PNG")
    target = Path(path)
    with explained(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content.getvalue())
