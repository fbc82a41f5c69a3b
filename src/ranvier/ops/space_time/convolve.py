"""What a layer of synapses in space and time computes: the definition, as a convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ShapeError


def space_time_convolve(x: Tensor, kernel: Tensor, history: Tensor | None = None, groups: int = 1) -> Tensor:
    """`y[t, b, c, r] = Σ_{p, n, s} kernel[c, p, n, s] · x[t − (K − 1) + n, b, p, r + s − centre]`.

    Tap n carries the delay K − 1 − n; tap (i, j) in space reads what lies (i, j) from the centre of the odd kernel.

    Args:
        x: `[T, B, P, H, W]`; nothing comes before it or beyond its edges.
        kernel: `[C, P / groups, K, KH, KW]`.
        history: `[K − 1, B, P, H, W]`, the frames before x, oldest first; None for none.
        groups: blocks of channels that are connected.

    Returns `[T, B, C, H, W]`. Differentiable in x and kernel.
    """
    inputs, taps, rows, columns = kernel.shape[1:]
    if x.dim() != 5 or x.shape[2] != inputs * groups:
        raise ShapeError(f"x must be [T, B, {inputs * groups}, H, W], got shape {tuple(x.shape)}")
    if not rows % 2 or not columns % 2:
        raise ShapeError(f"the kernel must have odd sides in space, got {rows} x {columns}")
    before = x.new_zeros((taps - 1, *x.shape[1:])) if history is None else history
    whole = torch.cat([before, x]) if taps > 1 else x
    padding = rows // 2, columns // 2
    if x.device.type != "cpu":
        movie = whole.permute(1, 2, 0, 3, 4)
        return F.conv3d(movie, kernel, padding=(0, *padding), groups=groups).permute(2, 0, 1, 3, 4)
    # The convolution in two dimensions with the taps as channels is 1.5 times as fast as the one in three.
    parts: list[Tensor] = []
    for part, weight in zip(whole.chunk(groups, 2), kernel.chunk(groups), strict=True):
        stacked = part.unfold(0, taps, 1).permute(0, 1, 2, 5, 3, 4)
        frames = stacked.reshape(-1, inputs * taps, *x.shape[3:])
        parts.append(F.conv2d(frames, weight.flatten(1, 2), padding=padding).unflatten(0, x.shape[:2]))
    return parts[0] if groups == 1 else torch.cat(parts, 2)


def space_time_at(x: Tensor, kernel: Tensor, place: Tensor) -> Tensor:
    """`space_time_convolve` at some places only.

    Args:
        x: `[T, B, P, H, W]`; kernel: `[C, P, K, KH, KW]`.
        place: int64 `[T, M]`: M places of each step, row · W + column.

    Returns `[T, M, B, C]`. Differentiable in x and kernel; work and memory are those of M places.
    """
    taps, rows, columns = kernel.shape[2:]
    if place.dim() != 2 or place.shape[0] != x.shape[0]:
        raise ShapeError(f"place must be [{x.shape[0]}, M], got shape {tuple(place.shape)}")
    padded = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2, 0, 0, 0, 0, taps - 1, 0))
    fields = padded.unfold(0, taps, 1).unfold(3, rows, 1).unfold(4, columns, 1).permute(0, 3, 4, 1, 2, 5, 6, 7)
    step = torch.arange(x.shape[0], device=x.device)[:, None]
    width = x.shape[4]
    return fields[step, place // width, place % width].flatten(3) @ kernel.flatten(1).T
