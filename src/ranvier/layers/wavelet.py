"""Frequency-aware token mixing (FATM): spikes through Haar transforms instead of attention."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory, NeuronSpec


def haar_matrix(size: int) -> Tensor:
    """The orthonormal Haar matrix `[size, size]` in float64: rows from coarse to fine, `H Hᵀ = 1`.

    `size` must be a power of two, else `ArgumentError`.
    """
    if not isinstance(size, int) or size < 1 or size & (size - 1):
        raise ArgumentError(f"a Haar matrix needs a size that is a power of two, got {size!r}")
    rows: list[list[float]] = [[1 / math.sqrt(size)] * size]
    width = size
    while width > 1:
        half = width // 2
        for start in range(0, size, width):
            row = [0.0] * size
            row[start : start + half] = [1 / math.sqrt(width)] * half
            row[start + half : start + width] = [-1 / math.sqrt(width)] * half
            rows.append(row)
        width = half
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


class HaarTransform(nn.Module):
    """Two-dimensional Haar transform of spikes, with neurons that keep every factor a spike (Fang et al., ECCV 2024).

    Forward `H · N(S Hᵀ)`; inverse `Hᵀ · N(N(X) H)`, on maps `[T, B, C, H, W]` whose sides are powers of two, where N
    are neurons with spikes of both signs.

    Args:
        neuron: factory of N.
        channels: of the maps.
        sides: height and width of the maps, None for any (the matrices are then made anew at every call).
        inverse: which of the two.
    """

    def __init__(
        self, neuron: NeuronFactory, channels: int, sides: tuple[int, int] | None = None, inverse: bool = False
    ) -> None:
        super().__init__()
        self.before = neuron(channels=channels) if inverse else None
        self.between = neuron(channels=channels)
        # In float64, of which `forward` takes what the input needs.
        for name, side in zip(("rows", "columns"), (None, None) if sides is None else sides, strict=True):
            self.register_buffer(name, None if side is None else haar_matrix(side), persistent=False)

    def _matrices(self, x: Tensor) -> list[Tensor]:
        kept = [self.get_buffer("rows"), self.get_buffer("columns")] if self._buffers["rows"] is not None else None
        sides = x.shape[-2:]
        if kept is None:
            kept = [haar_matrix(side) for side in sides]
        elif tuple(map(len, kept)) != tuple(sides):
            raise ShapeError(
                f"this Haar transform is made for maps of {len(kept[0])}x{len(kept[1])}, got shape {tuple(x.shape)}"
            )
        return [matrix.to(x) for matrix in kept]

    def forward(self, x: Tensor) -> Tensor:
        height, width = self._matrices(x)
        if self.before is None:
            return height @ self.between(x @ width.mT)
        return height.mT @ self.between(self.before(x) @ width)


class FATM(nn.Module):
    """FATM (Fang et al., Spiking Wavelet Transformer, ECCV 2024), a branch from membrane to membrane `[T, B, C, H, W]`.

    With `s = LIF(x)`: a Haar branch `BN(H⁻¹[BN(M LIF(BN(H[s])))])`, where M mixes the channels of each of G blocks, and
    a 1×1 and a 3×3 convolution of width C/G that all blocks share, each with batch norm; the three are added. No
    attention, no product of activations. A grid whose sides are no powers of two is padded with silence for the
    transform.

    Args:
        dim: width C.
        num_blocks: G; must divide C.
        neuron: factory of the neurons with one sign.
        ternary: name or mapping of the neurons inside the transforms. The code of the publication has thresholds 1 and
            −½ (`neg_if` with `neg_threshold` 0.5), the text 1 and −1.
        grid: height and width of the maps, None for any (a little slower).
        chained: the form for events: 3×3 max-pools on s and on the Haar branch, and the convolutions read the latter
            (real values) instead of s.
    """

    def __init__(
        self,
        dim: int,
        num_blocks: int,
        neuron: NeuronFactory,
        ternary: NeuronSpec | None = None,
        grid: tuple[int, int] | None = None,
        chained: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(num_blocks, int) or num_blocks < 1 or dim % num_blocks:
            raise ArgumentError(f"num_blocks must divide the width {dim}, got {num_blocks!r}")
        signed = NeuronFactory({"type": "neg_if", "neg_threshold": 0.5} if ternary is None else ternary)
        width = dim // num_blocks
        self.dim, self.num_blocks, self.chained = dim, num_blocks, chained
        self.neuron = neuron(channels=dim)
        sides = None if grid is None else _powers_of_two(*grid)
        self.transform = HaarTransform(signed, dim, sides)
        self.transform_bn = nn.BatchNorm2d(dim)
        self.coefficient_neuron = neuron(channels=dim)
        self.weight = nn.Parameter(0.02 * torch.randn(num_blocks, width, width))  # [block, in, out]
        self.weight_bn = nn.BatchNorm2d(dim)
        self.inverse = HaarTransform(signed, dim, sides, inverse=True)
        self.inverse_bn = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.conv1_bn = nn.BatchNorm2d(dim)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5:
            raise ArgumentError(f"FATM transforms images [T, B, C, H, W], got shape {tuple(x.shape)}")
        s = self.neuron(x)
        if self.chained:
            s = over_time(_max3x3, s)
        haar = self._haar(s)
        if not self.chained:
            return haar + self._shared(s)
        return self._shared(over_time(_max3x3, haar))

    def _haar(self, s: Tensor) -> Tensor:
        height, width = s.shape[-2:]
        sides = _powers_of_two(height, width)
        s = F.pad(s, (0, sides[1] - width, 0, sides[0] - height))
        y = over_time(self.transform_bn, self.transform(s))
        y = over_time(self._mix, self.coefficient_neuron(y))
        y = self.inverse(over_time(self.weight_bn, y))
        return over_time(self.inverse_bn, y[..., :height, :width].contiguous())

    def _mix(self, y: Tensor) -> Tensor:
        """Every block of channels by its matrix, `[B, C, H, W]`."""
        return F.conv2d(y, self.weight.mT.reshape(self.dim, -1, 1, 1), groups=self.num_blocks)

    def _shared(self, s: Tensor) -> Tensor:
        """The two convolutions that all blocks share."""
        blocks = s.flatten(0, 1).reshape(-1, self.dim // self.num_blocks, *s.shape[-2:])
        out: Any = 0
        for conv, norm in ((self.conv1, self.conv1_bn), (self.conv3, self.conv3_bn)):
            out = out + norm(conv(blocks).reshape(-1, self.dim, *s.shape[-2:]))
        return out.unflatten(0, s.shape[:2])


def _powers_of_two(height: int, width: int) -> tuple[int, int]:
    """The smallest powers of two that are no smaller."""
    return 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length()


def _max3x3(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)
