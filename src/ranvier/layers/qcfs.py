"""Quantised activations that are trained in place of ReLU, so that spiking neurons can take over exactly."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons import Neuron
from ranvier.state import Stateful


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


class InputWindow(Stateful):
    """Which steps still belong to the first `steps` ones of each row's sequence: boolean `[T, B]` for `[T, B, ...]`.

    Rows count for themselves, so that a row may start when others are half-way.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(x.shape[1], dtype=torch.long, device=x.device)
        state = self.recall()
        if state is not None:
            (start,) = self.fits(state, (start,))
        self.remember((start + x.shape[0],))
        return start + torch.arange(x.shape[0], device=x.device).unsqueeze(1) < self.steps

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class WindowedConstant(nn.Module):
    """A layer in evaluation mode whose bias or shift is only there while the input is shown; runs inside `Folded`.

    Args:
        layer: a convolution, a linear layer or a batch norm with running statistics. It is not changed.
    """

    shown: Tensor | None = None

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer).eval()
        self.constant: Tensor
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if layer.running_mean is None or layer.running_var is None:
                raise ArgumentError("layer: a batch norm without running statistics depends on the batch")
            scale = (layer.running_var + layer.eps).rsqrt() * (1.0 if layer.weight is None else layer.weight.detach())
            shift = -layer.running_mean * scale + (0.0 if layer.bias is None else layer.bias.detach())
            self.register_buffer("constant", shift.clone())
            assert isinstance(self.layer, nn.modules.batchnorm._BatchNorm) and self.layer.running_mean is not None
            self.layer.running_mean.zero_()
            if self.layer.bias is not None:
                self.layer.bias.data.zero_()
        elif isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) and layer.bias is not None:
            self.register_buffer("constant", layer.bias.detach().clone())
            self.layer.register_parameter("bias", None)
        else:
            raise ArgumentError(f"layer: expected one with a bias or a shift, got {type(layer).__name__}")

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        if self.shown is None or len(self.shown) != len(x):
            raise ShapeError(f"a windowed constant runs inside `Folded`, on [T*B, ...]; got shape {tuple(x.shape)}")
        channels = 1 if isinstance(self.layer, nn.modules.batchnorm._BatchNorm | nn.modules.conv._ConvNd) else -1
        shape = [1] * out.dim()
        shape[channels] = -1
        shown = self.shown.view(-1, *(1,) * (out.dim() - 1)).to(out.dtype)
        return out + self.constant.view(shape) * shown


class Folded(nn.Module):
    """A net of layers that know no time, with `FoldedNeuron`s in it, on sequences `[T, B, ...]`.

    `window`, when set, shows the input for so many steps and nothing after them; every `WindowedConstant` follows it.
    """

    def __init__(self, net: nn.Module, window: InputWindow | None = None) -> None:
        super().__init__()
        self.net = net
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        timed = [module for module in self.net.modules() if isinstance(module, FoldedNeuron | WindowedConstant)]
        neurons = [module for module in timed if isinstance(module, FoldedNeuron)]
        constants = [module for module in timed if isinstance(module, WindowedConstant)]
        if self.window is not None:
            shown = self.window(x)
            x = x * shown.view(*shown.shape, *(1,) * (x.dim() - 2)).to(x.dtype)
            for module in constants:
                module.shown = shown.flatten()
        for module in neurons:
            module.steps = x.shape[0]
        try:
            return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        finally:
            for module in neurons:
                del module.steps  # the class's again
            if self.window is not None:
                for module in constants:
                    del module.shown
