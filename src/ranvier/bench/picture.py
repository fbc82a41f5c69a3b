"""Small sample pictures: from tensor to the result file, and from there to a PNG inside the page."""

from __future__ import annotations

import base64
import binascii
import colorsys
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


def class_map(classes: Tensor) -> SampleImage:
    """A map of classes `[H, W]` in colours that differ from class to class; 0 is black, what does not count is grey."""
    fitted = classes
    if max(classes.shape) > MAX_SIDE:
        every = -(-max(classes.shape) // MAX_SIDE)
        fitted = classes[::every, ::every]
    colours = torch.tensor([colour(int(k)) for k in range(int(fitted.max().clamp_min(0)) + 1)] + [(0.5, 0.5, 0.5)])
    return from_tensor(colours[fitted.clamp_min(-1)].permute(2, 0, 1))


def boxes_on(image: Tensor, boxes: Tensor, labels: Tensor) -> SampleImage:
    """An image (as in `from_tensor`) with the outlines of boxes `[n, 4]` (x1, y1, x2, y2 in pixels), by class."""
    picture = image.detach().float()
    if picture.dim() == 4:
        picture = picture.mean(0)
        picture = picture / picture.max().clamp_min(1e-9)
    if picture.shape[0] != 3:
        picture = picture.mean(0, keepdim=True)
    canvas = 0.6 * picture.expand(3, -1, -1).clone()
    height, width = canvas.shape[1:]
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        x1, x2 = (min(width - 1, max(0, round(v))) for v in (box[0], box[2] - 1))
        y1, y2 = (min(height - 1, max(0, round(v))) for v in (box[1], box[3] - 1))
        if x2 < x1 or y2 < y1:
            continue
        ink = torch.tensor(colour(int(label) + 1))[:, None]
        canvas[:, [y1, y2], x1 : x2 + 1] = ink[:, :, None]
        canvas[:, y1 : y2 + 1, [x1, x2]] = ink[:, :, None]
    return from_tensor(canvas)


def colour(kind: int) -> tuple[float, float, float]:
    """Red, green and blue of a class; neighbours in number are far apart in hue. 0 is black."""
    if kind == 0:
        return 0.0, 0.0, 0.0
    return colorsys.hsv_to_rgb((kind * 0.618034) % 1.0, 0.65, 1.0)


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
