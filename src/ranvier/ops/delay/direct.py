"""The convolution as it stands: on a CPU one matrix product a tap, which beats its convolution routines here, because
the sequence is time first and nothing has to be laid out anew; elsewhere one call of a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.ops.delay.scratch import empty


def _overlaps(length: int, batch: int, lead: int, taps: int) -> Iterator[tuple[int, slice, slice]]:
    """For every tap that reads anything: its number, the rows of the flat x that it reads, and the rows of y."""
    missing, steps = taps - 1 - lead, length - lead
    for n in range(taps):
        first = max(0, missing - n)  # the output step that reads the first step of x
        if first < steps:
            start = first - missing + n
            yield n, slice(start * batch, (start + steps - first) * batch), slice(first * batch, steps * batch)


torch.library.define("ranvier::delay_taps", "(Tensor x, Tensor kernel, int lead) -> Tensor")
torch.library.define(
    "ranvier::delay_taps_backward",
    "(Tensor grad, Tensor x, Tensor kernel, int lead, bool want_x, bool want_k) -> (Tensor, Tensor)",
)


@torch.library.impl("ranvier::delay_taps", "cpu")
def delay_taps_impl(x: Tensor, kernel: Tensor, lead: int) -> Tensor:
    x, kernel = x.detach().contiguous(), kernel.detach()
    length, batch, _ = x.shape
    y = empty((length - lead, batch, kernel.shape[1]), x.dtype).zero_()
    rows, out = x.flatten(0, 1), y.flatten(0, 1)
    for n, read, written in _overlaps(length, batch, lead, len(kernel)):
        out[written].addmm_(rows[read], kernel[n].T)
    return y


@torch.library.impl("ranvier::delay_taps_backward", "cpu")
def delay_taps_backward_impl(
    grad: Tensor, x: Tensor, kernel: Tensor, lead: int, want_x: bool, want_k: bool
) -> tuple[Tensor, Tensor]:
    x, kernel, upstream = x.detach().contiguous(), kernel.detach(), grad.detach().flatten(0, 1)
    length, batch, _ = x.shape
    gx = empty(tuple(x.shape), x.dtype).zero_() if want_x else x.new_empty(0)
    gk = empty(tuple(kernel.shape), x.dtype).zero_() if want_k else x.new_empty(0)
    rows, into = x.flatten(0, 1), gx.flatten(0, 1) if want_x else gx
    for n, read, written in _overlaps(length, batch, lead, len(kernel)):
        if want_x:
            into[read].addmm_(upstream[written], kernel[n])
        if want_k:
            torch.mm(upstream[written].T, rows[read], out=gk[n])
    return gx, gk


@torch.library.impl("ranvier::delay_taps", "cuda")
def delay_taps_cuda(x: Tensor, kernel: Tensor, lead: int) -> Tensor:
    columns = F.pad(x.detach().permute(1, 2, 0), (kernel.shape[0] - 1 - lead, 0))
    return F.conv1d(columns, kernel.detach().permute(1, 2, 0)).permute(2, 0, 1).contiguous()


@torch.library.impl("ranvier::delay_taps_backward", "cuda")
def delay_taps_backward_cuda(
    grad: Tensor, x: Tensor, kernel: Tensor, lead: int, want_x: bool, want_k: bool
) -> tuple[Tensor, Tensor]:
    missing = kernel.shape[0] - 1 - lead
    columns, weight = F.pad(x.detach().permute(1, 2, 0), (missing, 0)), kernel.detach().permute(1, 2, 0)
    gx, gk, _ = torch.ops.aten.convolution_backward(
        grad.permute(1, 2, 0), columns, weight, None, [1], [0], [1], False, [0], 1, [want_x, want_k, False]
    )
    return (
        gx.permute(2, 0, 1)[missing:].contiguous() if want_x else x.new_empty(0),
        gk.permute(2, 0, 1).contiguous() if want_k else x.new_empty(0),
    )


@torch.library.register_fake("ranvier::delay_taps")
def _(x: Tensor, kernel: Tensor, lead: int) -> Tensor:
    return x.new_empty((x.shape[0] - lead, x.shape[1], kernel.shape[1]))


@torch.library.register_fake("ranvier::delay_taps_backward")
def _(grad: Tensor, x: Tensor, kernel: Tensor, lead: int, want_x: bool, want_k: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if want_x else (0,)), x.new_empty(kernel.shape if want_k else (0,))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.lead = inputs[2]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, kernel = ctx.saved_tensors
    want_x, want_k = ctx.needs_input_grad[:2]
    gx, gk = torch.ops.ranvier.delay_taps_backward(grad, x, kernel, ctx.lead, want_x, want_k)
    return gx if want_x else None, gk if want_k else None, None


torch.library.register_autograd("ranvier::delay_taps", _autograd, setup_context=_setup_context)
