"""Small sample pictures: from tensor to the result file, and from there to a PNG inside the page."""

from __future__ import annotations

import base64
import binascii
import io

import torch
from torch import Tensor
from torch.nn import functional

from ranvier.bench.result import SampleImage
from ranvier.errors import DataError, ShapeError
from ranvier.extras import require

MAX_SIDE = 64


def from_tensor(image: Tensor) -> SampleImage:
    """`[C, H, W]` in [0, 1] (or `[T, C, H, W]`, whose steps are averaged and stretched) as at most 64 x 64 bytes.

    One or three channels are kept as grey or RGB; any other number (polarities, say) is averaged to grey.
    """
    picture = image.detach().float()
    if picture.dim() == 4:
        picture = picture.mean(0)
        picture = picture / picture.max().clamp_min(1e-9)
    if picture.dim() != 3 or picture.numel() == 0:
        raise ShapeError(f"image: expected [C, H, W] or [T, C, H, W], got {list(image.shape)}")
    if picture.shape[0] not in (1, 3):
        picture = picture.mean(0, keepdim=True)
    if max(picture.shape[1:]) > MAX_SIDE:
        scale = MAX_SIDE / max(picture.shape[1:])
        size = [max(1, round(side * scale)) for side in picture.shape[1:]]
        picture = functional.interpolate(picture[None], size=size, mode="area")[0]
    data = (picture.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    height, width, channels = data.shape
    return SampleImage(
        width=width, height=height, channels=3 if channels == 3 else 1,
        pixels=base64.b64encode(data.numpy().tobytes()).decode(),
    )  # fmt: skip


def data_uri(image: SampleImage) -> str:
    """The picture as a `data:image/png` address; `DataError` when the bytes do not fit the size."""
    try:
        pixels = base64.b64decode(image.pixels, validate=True)
    except binascii.Error as error:
        raise DataError(f"sample image: pixels are not base64 ({error})") from error
    expected = image.width * image.height * image.channels
    if len(pixels) != expected:
        raise DataError(f"sample image: expected {expected} bytes, got {len(pixels)}")
    pillow = require("PIL.Image", extra="report")
    buffer = io.BytesIO()
    mode = "RGB" if image.channels == 3 else "L"
    pillow.frombytes(mode, (image.width, image.height), pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
