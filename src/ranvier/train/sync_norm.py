"""Batch normalisation whose statistics are those of the whole batch, though every process sees a part of it.

`torch.nn.SyncBatchNorm` is for GPUs alone; this one works wherever the processes can add tensors up.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def share_statistics(net: nn.Module) -> int:
    """Make every batch normalisation of `net` share its statistics in training; returns how many there are.

    Subclasses that normalise something else than the rows of a tensor (voxels, say) keep their own.
    """
    found = [module for module in net.modules() if isinstance(module, _BatchNorm) and type(module) in _KINDS]
    for module in found:
        cast(Any, module).forward = partial(_forward, module)
    return len(found)


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    norm._check_input_dim(x)
    like = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    y, mean, var, count = _Normalised.apply(like, norm.eps)  # pyright: ignore[reportGeneralTypeIssues]
    _track(norm, mean, var, float(count))
    shape = (1, -1, *[1] * (x.dim() - 2))
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, var: Tensor, count: float) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    rate = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
    norm.running_var.lerp_((var * (count / max(count - 1, 1))).to(norm.running_var.dtype), rate)


class _Normalised(torch.autograd.Function):
    """(x − mean) / √(var + ε) over all processes; also mean, variance (biased) and the count of values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        over = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        count = torch.tensor([x.numel() / x.shape[1]], dtype=x.dtype, device=x.device)
        sums = torch.cat([x.sum(over), count])
        torch.distributed.all_reduce(sums)
        count, mean = sums[-1], sums[:-1] / sums[-1]
        away = x - mean.view(shape)
        squares = away.square().sum(over)  # about the shared mean: no cancellation
        torch.distributed.all_reduce(squares)
        var = squares / count
        inverse = (var + eps).rsqrt()
        y = away * inverse.view(shape)
        ctx.save_for_backward(y, inverse, count)
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, inverse, count = ctx.saved_tensors
        over = [0, *range(2, y.dim())]
        shape = (1, -1, *[1] * (y.dim() - 2))
        sums = torch.stack([grad.sum(over), (grad * y).sum(over)])
        torch.distributed.all_reduce(sums)
        sums = sums / count
        return (grad - sums[0].view(shape) - y * sums[1].view(shape)) * inverse.view(shape), None
