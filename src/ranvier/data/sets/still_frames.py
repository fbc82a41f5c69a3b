"""Static images as event frames that never change: to train a net for events on images alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.samples import Indices, Samples
from ranvier.errors import ArgumentError

Channel = Literal["value", "blue", "grey"]
CHANNELS = ("value", "blue", "grey")
_LUMA = (0.299, 0.587, 0.114)


def one_channel(images: Tensor, channel: Channel = "value") -> Tensor:
    """One channel of images `[..., 3, H, W]`: the V of HSV (`max(R, G, B)`), blue, or grey; `[..., 1, H, W]` stay."""
    if channel not in CHANNELS:
        raise ArgumentError(f"channel must be one of {', '.join(CHANNELS)}; got {channel!r}")
    if images.shape[-3] == 1:
        return images
    if channel == "value":
        return images.amax(-3, keepdim=True)
    if channel == "blue":
        return images[..., 2:, :, :]
    luma = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
    return (images * luma[:, None, None]).sum(-3, keepdim=True)


def as_frames(images: Tensor, T: int, channels: int, size: tuple[int, int] | None, channel: Channel) -> Tensor:
    """Images `[B, 1 or 3, H, W]` as `[T, B, channels, *size]`, the same at every step and polarity: a view over T."""
    if size is not None and tuple(images.shape[-2:]) != tuple(size):
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    return one_channel(images, channel).unsqueeze(0).expand(T, -1, channels, -1, -1)


class StillSamples(Samples):
    """The images of another data set as sequences `[T, channels, H, W]`."""

    def __init__(self, images: Samples, T: int, channels: int, size: int | None, channel: Channel) -> None:
        self.images = images
        self.labels = images.labels
        self.keys = images.keys
        self.time_first = True
        self.T, self.channels = T, channels
        self.channel: Channel = channel
        self.size = None if size is None else (size, size)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        x, y = self.images.batch(indices)
        return as_frames(x, self.T, self.channels, self.size, self.channel), y


def load_still_frames(
    root: Path | None,
    of: str = "mnist",
    T: int = 10,
    channels: int = 2,
    size: int | None = None,
    channel: Channel = "value",
    options: dict[str, Any] | None = None,
) -> Parts:
    """The images of the data set `of` (loaded with `options`) as frames `[T, channels, size, size]`.

    Each image is resized, reduced to one channel ("value": the V of HSV, "blue" or "grey") and repeated over steps and
    polarities, as in He et al. (AAAI 2024).
    """
    for name, value in (("T", T), ("channels", channels), ("size", 1 if size is None else size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
    if channel not in CHANNELS:
        raise ArgumentError(f"channel must be one of {', '.join(CHANNELS)}; got {channel!r}")
    entry = DATASETS[of]
    if entry.kind != "static":
        raise ArgumentError(f"of must be a data set of static images, but {of!r} is {entry.kind}")
    parts = entry.load(root, **(options or {}))
    train, test = (StillSamples(part, T, channels, size, channel) for part in (parts.train, parts.test))
    return Parts(train, test, parts.classes, parts.content)


DATASETS.register("still_frames")(
    DatasetEntry(
        kind="event", load=load_still_frames, find=lambda root: None,
        how="Made from the data set of images that the option `of` names.", places=frozenset(),
    )
)  # fmt: skip
