"""Convolutions over voxels: submanifold, strided, inverse and pointwise, in two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse.tensor import Shape, SparseTensor, Voxels
from ranvier.ops.sparse_conv import Boundary, KernelMap, sparse_conv


class SparseConv(nn.Module):
    """What they share: a weight `[K, C_in, C_out]`, offsets in lexicographic order, and a bias.

    Weights are drawn as those of dense convolutions: uniform within ±1/√(K C_in).
    """

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], bias: bool
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        self.dims, self.in_channels, self.out_channels = dims, in_channels, out_channels
        self.kernel_size = per_axis("kernel_size", kernel_size, dims, 1)
        self.weight = nn.Parameter(torch.empty(math.prod(self.kernel_size), in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(self.weight.shape[0] * self.in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def check(self, x: SparseTensor) -> None:
        """Raise `ShapeError` unless `x` has the dimensions and channels of this layer."""
        if x.voxels.dims != self.dims or x.channels != self.in_channels:
            raise ShapeError(
                f"{type(self).__name__} takes {self.in_channels} channels on a {self.dims}-D grid, got {x!r}"
            )

    def over(self, x: SparseTensor, kmap: KernelMap, voxels: Voxels) -> SparseTensor:
        """The convolution over a map, onto `voxels`."""
        if x.feats.dim() == 2:
            y = sparse_conv(x.feats, self.weight, kmap)
        else:
            y = torch.stack([sparse_conv(step, self.weight, kmap) for step in x.feats.unbind(0)])
        return SparseTensor(y if self.bias is None else y + self.bias.to(y.dtype), voxels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Voxels in, voxels out."""
        raise ArgumentError(f"{type(self).__name__} does not define forward")

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bias={self.bias is not None}"


class _Submanifold(SparseConv):
    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int],
        bias: bool,
    ) -> None:
        super().__init__(dims, in_channels, out_channels, kernel_size, bias)
        if any(k % 2 == 0 for k in self.kernel_size):
            raise ArgumentError(f"kernel_size of a submanifold convolution must be odd, got {kernel_size!r}")
        self.dilation = per_axis("dilation", dilation, dims, 1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        self.check(x)
        if len(self.weight) == 1:  # a linear layer
            y = x.feats @ self.weight[0].to(x.feats.dtype)
            return x.replace(y if self.bias is None else y + self.bias.to(y.dtype))
        return self.over(x, x.voxels.submanifold(self.kernel_size, self.dilation), x.voxels)


class SubmConv3d(_Submanifold):
    """Submanifold convolution (Graham et al., CVPR 2018): computed at occupied voxels only, from occupied voxels only.

    `y[o] = Σ_κ x[o + κ] W[κ]`, cross-correlation with stride 1 and "same" padding, as `conv3d`. `kernel_size=1` is a
    linear layer. Args as in `torch.nn.Conv3d`; layers on the same voxels share one kernel map.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int] = 3,
        dilation: int | Sequence[int] = 1, bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(3, in_channels, out_channels, kernel_size, dilation, bias)


class SubmConv2d(_Submanifold):
    """`SubmConv3d` on a grid of two dimensions."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int] = 3,
        dilation: int | Sequence[int] = 1, bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(2, in_channels, out_channels, kernel_size, dilation, bias)


class _Strided(SparseConv):
    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        bias: bool,
        boundary: Boundary,
        key: str | None,
    ) -> None:
        super().__init__(dims, in_channels, out_channels, kernel_size, bias)
        self.stride = per_axis("stride", stride, dims, 1)
        self.padding = per_axis("padding", padding, dims, 0)
        self.dilation = per_axis("dilation", dilation, dims, 1)
        if boundary not in ("ceil", "spconv"):
            raise ArgumentError(f"boundary must be 'ceil' or 'spconv', got {boundary!r}")
        self.boundary: Boundary = boundary
        self.key = key

    def forward(self, x: SparseTensor) -> SparseTensor:
        self.check(x)
        voxels = x.voxels.coarser(
            self.kernel_size, self.stride, self.padding, self.dilation, self.boundary, self.key
        )  # fmt: skip
        assert voxels.finer is not None
        return self.over(x, voxels.finer[1], voxels)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, stride={self.stride}, padding={self.padding}, boundary={self.boundary!r}"


class SparseConv3d(_Strided):
    """Strided sparse convolution: an output voxel exists where the kernel meets an occupied input voxel.

    Args:
        kernel_size, stride, padding, dilation, bias: as in `torch.nn.Conv3d`.
        boundary: "ceil" loses no voxel; "spconv" ends the grid where dense convolutions and spconv do, which drops
            the last plane of odd extents for kernel 2 and stride 2. Grids without a `spatial_shape` have no end.
        key: a name for the step, which `SparseInverseConv3d` can ask for.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1, padding: int | Sequence[int] = 0, bias: bool = False, key: str | None = None,
        *, dilation: int | Sequence[int] = 1, boundary: Boundary = "ceil",
    ) -> None:  # fmt: skip
        super().__init__(
            3, in_channels, out_channels, kernel_size, stride, padding, dilation, bias, boundary, key
        )  # fmt: skip


class SparseConv2d(_Strided):
    """`SparseConv3d` on a grid of two dimensions."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1, padding: int | Sequence[int] = 0, bias: bool = False, key: str | None = None,
        *, dilation: int | Sequence[int] = 1, boundary: Boundary = "ceil",
    ) -> None:  # fmt: skip
        super().__init__(
            2, in_channels, out_channels, kernel_size, stride, padding, dilation, bias, boundary, key
        )  # fmt: skip


class _Inverse(SparseConv):
    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        bias: bool,
        key: str | None,
    ) -> None:
        super().__init__(dims, in_channels, out_channels, kernel_size, bias)
        self.key = key

    def forward(self, x: SparseTensor) -> SparseTensor:
        self.check(x)
        if x.voxels.finer is None:
            raise ArgumentError(f"{type(self).__name__} undoes a strided convolution, but no such layer made {x!r}")
        fine, kmap, name = x.voxels.finer
        if len(kmap.offsets) != len(self.weight) or (self.key is not None and self.key != name):
            raise ArgumentError(
                f"{type(self).__name__} has a kernel of {len(self.weight)} offsets and the key {self.key!r}; the "
                f"strided convolution before it has {len(kmap.offsets)} and {name!r}"
            )
        return self.over(x, kmap.transposed(fine.rows), fine)


class SparseInverseConv3d(_Inverse):
    """The way back through a strided convolution: its map with inputs and outputs swapped, its input voxels as output.

    The kernel size must be that of the strided convolution which made the input's voxels; weights are its own.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], bias: bool = False,
        key: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(3, in_channels, out_channels, kernel_size, bias, key)


class SparseInverseConv2d(_Inverse):
    """`SparseInverseConv3d` on a grid of two dimensions."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], bias: bool = False,
        key: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(2, in_channels, out_channels, kernel_size, bias, key)


def per_axis(name: str, value: int | Sequence[int], dims: int, least: int) -> Shape:
    """`value` for every axis."""
    given = (value,) * dims if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(given, Sequence) or len(given) != dims or any(not isinstance(v, int) or v < least for v in given):
        raise ArgumentError(f"{name} must be an integer >= {least} or {dims} of them, got {value!r}")
    return tuple(given)


def from_spconv(weight: Tensor) -> Tensor:
    """A weight of spconv 2.x, `[C_out, k, ..., k, C_in]`, as `[K, C_in, C_out]`."""
    if weight.dim() not in (4, 5):
        raise ShapeError(f"a weight of spconv is [C_out, k, .., k, C_in], got shape {tuple(weight.shape)}")
    return weight.movedim(0, -1).flatten(0, -3).contiguous()


def to_spconv(weight: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """The inverse of `from_spconv`."""
    if weight.dim() != 3 or weight.shape[0] != math.prod(kernel_size):
        raise ShapeError(f"weight must be [{math.prod(kernel_size)}, C_in, C_out], got shape {tuple(weight.shape)}")
    return weight.unflatten(0, tuple(kernel_size)).movedim(-1, 0).contiguous()
