"""Augmentation of samples whose targets have places: what moves the input moves the targets too."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ranvier.data import Augment
from ranvier.data.targets import IGNORED
from ranvier.errors import ConfigError


def augment_dense(augment: Augment, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`x` and maps `[B, H, W]`, points `[B, N]` or a table of boxes after `augment`.

    Images are mirrored (`flip`), shifted (`crop`; pixels that come in are black and `IGNORED`) and jittered; clouds
    are scaled and shifted with their boxes. `ConfigError` for what has no such form (mixing, erasing, RandAugment).
    """
    for name in ("randaugment", "erasing", "mixup", "cutmix", "cloud_crop"):
        if getattr(augment, name):
            raise ConfigError(f"data.augment.{name}: does not know where the targets go; use flip, crop or jitter")
    if x.dim() == 3:
        if augment.crop or augment.flip or augment.jitter:
            raise ConfigError("data.augment: clouds have cloud_scale and cloud_shift only")
        return _clouds(augment, x, y)
    if augment.jitter:
        x = dataclasses.replace(augment, crop=0, flip=False).images(x)
    samples = len(y)
    flips = torch.rand(samples) < 0.5 if augment.flip else torch.zeros(samples, dtype=torch.bool)
    c = augment.crop
    moves = torch.randint(-c, c + 1, (samples, 2)) if c else torch.zeros(samples, 2, dtype=torch.int64)
    if not augment.flip and not c:
        return x, y
    boxes = y.is_floating_point()
    height, width = x.shape[-2:]
    x, y = x.clone(), y.clone()
    for b in range(samples):
        place = (slice(None), b) if x.dim() == 5 else (b,)
        dy, dx = moves[b].tolist()
        x[place] = _moved(x[place].flip(-1) if flips[b] else x[place], dy, dx, 0.0)
        if not boxes:
            y[b] = _moved(y[b].flip(-1) if flips[b] else y[b], dy, dx, IGNORED)
            continue
        if flips[b]:
            y[b, :, 1], y[b, :, 3] = width - y[b, :, 3], width - y[b, :, 1].clone()
        y[b, :, 1:5] += y.new_tensor([dx, dy, dx, dy])
        limit = y.new_tensor([width, height, width, height])
        y[b, :, 1:5] = y[b, :, 1:5].clamp_min(0).minimum(limit)
        gone = (y[b, :, 3] - y[b, :, 1] < 2) | (y[b, :, 4] - y[b, :, 2] < 2)
        y[b, gone, 0] = -1
    return x, y


def _clouds(augment: Augment, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if not (augment.cloud_scale or augment.cloud_shift):
        return x, y
    x = x.clone()
    factor = 1 + augment.cloud_scale * (2 * torch.rand(len(x), 1, 1) - 1)
    place = augment.cloud_shift * (2 * torch.rand(len(x), 1, 3) - 1)
    x[..., :3] = x[..., :3] * factor + place
    if y.is_floating_point():
        y = y.clone()
        y[..., 1:4] = y[..., 1:4] * factor + place
        y[..., 4:7] = y[..., 4:7] * factor
    return x, y


def _moved(image: Tensor, dy: int, dx: int, filling: float) -> Tensor:
    """The last two axes moved down by `dy` and right by `dx`."""
    out = torch.full_like(image, filling)
    height, width = image.shape[-2:]
    to = (..., slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
    of = (..., slice(max(0, -dy), height + min(0, -dy)), slice(max(0, -dx), width + min(0, -dx)))
    out[to] = image[of]
    return out
