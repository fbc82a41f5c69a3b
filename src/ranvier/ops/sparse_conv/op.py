"""Sparse convolution as a `torch.library` custom op: one node for the compiler and for the meter of operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.sparse_conv import reference

_HALF = (torch.float16, torch.bfloat16)


@torch.library.custom_op("ranvier::sparse_conv", mutates_args=())
def sparse_conv_op(
    x: Tensor, weight: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, n_out: int, identity: int
) -> Tensor:
    """`reference.forward`, on the CPU by kernels."""
    x, weight = x.detach().contiguous(), weight.detach().contiguous()
    if x.device.type == "cpu" and use_kernels("cpu"):
        from ranvier.ops.sparse_conv import cpu

        return _wide(lambda x, w: cpu.forward(x, w, in_idx, out_idx, ptr, n_out, identity), x, weight)
    return reference.forward(x, weight, in_idx, out_idx, ptr, n_out)


@torch.library.custom_op("ranvier::sparse_conv_weight", mutates_args=())
def sparse_conv_weight(x: Tensor, dy: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, identity: int) -> Tensor:
    """`reference.weight_gradient`, on the CPU by kernels."""
    x, dy = x.detach().contiguous(), dy.detach().contiguous()
    if x.device.type == "cpu" and use_kernels("cpu"):
        from ranvier.ops.sparse_conv import cpu

        return _wide(lambda x, dy: cpu.weight_gradient(x, dy, in_idx, out_idx, ptr, identity), x, dy)
    return reference.weight_gradient(x, dy, in_idx, out_idx, ptr)


def _wide(compute: Any, *tensors: Tensor) -> Tensor:
    """`compute` in float32 for half precision, which the loops on the CPU do not have."""
    dtype = tensors[0].dtype
    return compute(*(t.float() for t in tensors)).to(dtype) if dtype in _HALF else compute(*tensors)


@sparse_conv_op.register_fake
def _(x: Tensor, weight: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, n_out: int, identity: int) -> Tensor:
    return x.new_empty(n_out, weight.shape[2])


@sparse_conv_weight.register_fake
def _(x: Tensor, dy: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, identity: int) -> Tensor:
    return x.new_empty(ptr.shape[0] - 1, x.shape[1], dy.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.identity = inputs[6]


def _backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, in_idx, out_idx, ptr = ctx.saved_tensors
    dx = dw = None
    if ctx.needs_input_grad[0]:
        dx = sparse_conv_op(dy, weight.transpose(1, 2), out_idx, in_idx, ptr, x.shape[0], ctx.identity)
    if ctx.needs_input_grad[1]:
        dw = sparse_conv_weight(x, dy, in_idx, out_idx, ptr, ctx.identity)
    return dx, dw, None, None, None, None, None


sparse_conv_op.register_autograd(_backward, setup_context=_setup)
