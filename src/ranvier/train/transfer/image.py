"""Static images in the shape of events: the value channel, copied over polarities and steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.data.sets.still_frames import CHANNELS, Channel, as_frames, one_channel
from ranvier.errors import ArgumentError, ShapeError


def value_channel(images: Tensor, channel: Channel = "value") -> Tensor:
    """The V of HSV, `max(R, G, B)`, of images `[..., 3, H, W]`: `[..., 1, H, W]`. Grey images `[..., 1, H, W]` stay.

    `channel` "blue" (the last one) and "grey" (the luma of ITU-R BT.601) are the alternatives of the ablation.
    """
    if images.dim() < 3 or images.shape[-3] not in (1, 3):
        raise ShapeError(f"images must be [..., 1 or 3, H, W], got {tuple(images.shape)}")
    return one_channel(images, channel)


class StaticToEvent(nn.Module):
    """Images `[B, 1 or 3, H, W]` in [0, 1] to `[T, B, channels, *size]`, constant over steps and polarities.

    Args:
        T: steps.
        channels: polarities of the events.
        size: (height, width) of the event frames, to which images are resized (bilinear, antialiased); None keeps them.
        channel: as in `value_channel`.

    The steps are views of one image: nothing is copied over T.
    """

    def __init__(
        self, T: int, channels: int = 2, size: tuple[int, int] | int | None = None, channel: Channel = "value"
    ) -> None:
        super().__init__()
        for name, value in (("T", T), ("channels", channels)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
        if channel not in CHANNELS:
            raise ArgumentError(f"channel must be one of {', '.join(CHANNELS)}; got {channel!r}")
        self.T, self.channels = T, channels
        self.size = (size, size) if isinstance(size, int) else size
        self.channel: Channel = channel

    def forward(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ShapeError(f"images must be [B, 1 or 3, H, W], got {tuple(images.shape)}")
        low, high = (float(edge) for edge in torch.aminmax(images)) if images.numel() else (0.0, 0.0)
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise ArgumentError(f"images must lie in [0, 1], got values from {low:g} to {high:g}")
        return as_frames(images, self.T, self.channels, self.size, self.channel)
