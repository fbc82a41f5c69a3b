"""Quantised activations that are trained in place of ReLU, so that spiking neurons can take over exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons import Neuron


class _FloorThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


class QCFS(nn.Module):
    """Quantisation-clip-floor-shift activation (Bu et al., ICLR 2022): a = λ clip(floor(x L/λ + ½)/L, 0, 1).

    The floor is straight-through and the clip is before it, so da/dx = 1 for x in [0, λ] and 0 elsewhere, and
    da/dλ = a/λ − (x/λ)·[0 < x < λ]; the formula for dλ printed in the paper is another and wrong.

    Args:
        levels: L >= 1.
        theta_init: λ to start from, > 0; one trained number a layer.

    Raises `ArgumentError` in `forward` when training has driven λ to 0 or below.
    """

    def __init__(self, levels: int = 4, theta_init: float = 8.0) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise ArgumentError(f"levels must be an integer >= 1, got {levels!r}")
        if not (isinstance(theta_init, int | float) and 0 < theta_init < float("inf")):
            raise ArgumentError(f"theta_init must be a positive number, got {theta_init!r}")
        self.levels = levels
        self.scale = nn.Parameter(torch.tensor(float(theta_init)))

    @property
    def ceiling(self) -> Tensor:
        """The largest value that comes out: the threshold of the neuron that takes over."""
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and not bool(self.scale.detach() > 0):
            raise ArgumentError(
                f"scale: the ceiling of a QCFS activation must stay positive, got {float(self.scale.detach()):g}"
            )
        share = (x / self.scale).clamp(0, 1)
        rounded: Tensor = _FloorThrough.apply(share * self.levels + 0.5)  # pyright: ignore[reportAssignmentType]
        return rounded / self.levels * self.scale

    def extra_repr(self) -> str:
        return f"levels={self.levels}, ceiling={float(self.ceiling.detach()):.4g}"


class _LSQ(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, top: int) -> Tensor:
        share = x / scale
        levels = share.clamp(0, top).round()
        ctx.save_for_backward(share, levels)
        ctx.top = top
        return levels * scale

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        share, levels = ctx.saved_tensors
        inside = (share > 0) & (share < ctx.top)
        of_scale = (upstream[0] * (levels - torch.where(inside, share, 0.0))).sum()
        return upstream[0] * inside, of_scale / (len(share) * ctx.top) ** 0.5, None


class LSQReLU(nn.Module):
    """ReLU with a learned step (LSQ): a = s · round(clip(x/s, 0, n)), n = 2^bits − 1.

    The gradient of s is divided by √(B n), B the batch size, as in the demo of Dynamic Confidence (Li et al., ICCV
    2023). It converts like QCFS with n levels and λ = s n.

    Args:
        bits: at least 1.
        start: s to start from, > 0.
    """

    def __init__(self, bits: int = 2, start: float = 0.4) -> None:
        super().__init__()
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
            raise ArgumentError(f"bits must be an integer from 1 to 16, got {bits!r}")
        if not (isinstance(start, int | float) and 0 < start < float("inf")):
            raise ArgumentError(f"start must be a positive number, got {start!r}")
        self.levels = 2**bits - 1
        self.scale = nn.Parameter(torch.tensor(float(start)))

    @property
    def ceiling(self) -> Tensor:
        """The largest value that comes out."""
        return self.scale * self.levels

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and not bool(self.scale.detach() > 0):
            got = float(self.scale.detach())
            raise ArgumentError(f"scale: the step of an LSQ activation must stay positive, got {got:g}")
        out: Tensor = _LSQ.apply(x, self.scale, self.levels)  # pyright: ignore[reportAssignmentType]
        return out

    def extra_repr(self) -> str:
        return f"levels={self.levels}, ceiling={float(self.ceiling.detach()):.4g}"


class FoldedNeuron(nn.Module):
    """A neuron inside a net that works on `[T·B, ...]`; `Folded` says what T is."""

    steps: int = 0

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        if self.steps < 1 or x.shape[0] % self.steps:
            raise ShapeError(f"a folded neuron runs inside `Folded`, on [T*B, ...]; got shape {tuple(x.shape)}")
        return self.neuron(x.unflatten(0, (self.steps, -1))).flatten(0, 1)


class Folded(nn.Module):
    """A net of layers that know no time, with `FoldedNeuron`s in it, on sequences `[T, B, ...]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        neurons = [module for module in self.net.modules() if isinstance(module, FoldedNeuron)]
        for module in neurons:
            module.steps = x.shape[0]
        try:
            return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        finally:
            for module in neurons:
                del module.steps  # the class's again
