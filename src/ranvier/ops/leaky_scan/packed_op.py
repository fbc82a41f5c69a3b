"""The leaky scan over a packed batch of sequences of many lengths, as a `torch.library` custom op (CPU).

`x` is `[steps of all sequences, ...]` in the layout of `ranvier.ops.step_rows`; `counts[t]` says how many of the
`batch` sequences have a step t. What backward keeps is what `leaky_scan` keeps, of the steps that exist.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.layout import work_dtype
from ranvier.ops.leaky_scan import numba_cpu as kernels
from ranvier.ops.leaky_scan.op import OPTIONS, _reduce, _vector, unpack
from ranvier.ops.memory import empty_like
from ranvier.ops.step_rows import packed

torch.library.define(
    "ranvier::leaky_scan_packed",
    "(Tensor x, Tensor v0, Tensor decay, Tensor threshold, Tensor counts, int batch, int kept, bool keep_state, "
    f"{OPTIONS}) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ranvier::leaky_scan_packed_backward",
    "(Tensor x, Tensor v0, Tensor decay, Tensor threshold, Tensor counts, int batch, Tensor borders, "
    f"Tensor grad_spikes, Tensor? grad_v, bool want_v0, bool want_decay, {OPTIONS}) -> (Tensor, Tensor, Tensor)",
)


def _flat(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.detach().to(dtype).contiguous().view(-1)


@torch.library.impl("ranvier::leaky_scan_packed", "cpu")
def _forward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, counts: Tensor, batch: int, kept: int, keep_state: bool,
    options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dtype, x = work_dtype(x), x.contiguous()
    spikes = empty_like(x)
    direct = spikes if x.dtype == dtype else empty_like(x, dtype)
    v_last = x.new_empty((batch, *x.shape[1:]) if keep_state else (0,), dtype=dtype)
    borders = x.new_empty(kept, dtype=dtype)
    if x.numel() > 0:
        columns = [_vector(t, dtype) for t in (v0, decay, threshold)]
        rows = packed(counts, x[0].numel(), kept > 0)
        flat = direct.view(-1)
        kernels.forward(_flat(x, dtype), *columns, flat, v_last.view(-1), borders, unpack(options), rows)  # pyright: ignore
    if direct is not spikes:
        spikes.copy_(direct)
    return spikes, v_last, borders


@torch.library.impl("ranvier::leaky_scan_packed_backward", "cpu")
def _backward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, counts: Tensor, batch: int, borders: Tensor,
    grad_spikes: Tensor, grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dtype, columns = work_dtype(x), batch * math.prod(x.shape[1:])
    if x.numel() == 0:
        return torch.zeros_like(x), x.new_zeros(columns * want_v0), x.new_zeros(columns * want_decay)
    gv = x.new_empty(0, dtype=dtype) if grad_v is None else _vector(grad_v, dtype)
    gx, gv0, gk = kernels.backward(
        _flat(x, dtype), _vector(v0, dtype), _vector(decay, dtype), _vector(threshold, dtype), borders,
        _flat(grad_spikes, dtype), gv, want_v0, want_decay, unpack(options), packed(counts, x[0].numel()),
    )  # fmt: skip  # pyright: ignore
    return gx.view(x.shape).to(x.dtype), gv0, gk


@torch.library.register_fake("ranvier::leaky_scan_packed")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, counts: Tensor, batch: int, kept: int, keep_state: bool,
    options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = work_dtype(x)
    last = (batch, *x.shape[1:]) if keep_state else (0,)
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    return spikes, x.new_empty(last, dtype=dtype), x.new_empty(kept, dtype=dtype)


@torch.library.register_fake("ranvier::leaky_scan_packed_backward")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, counts: Tensor, batch: int, borders: Tensor,
    grad_spikes: Tensor, grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    columns, dtype = batch * math.prod(x.shape[1:]), work_dtype(x)
    gx = torch.empty_like(x, memory_format=torch.contiguous_format)
    return gx, x.new_empty(columns * want_v0, dtype=dtype), x.new_empty(columns * want_decay, dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:5], output[2])
    ctx.batch, ctx.keep_state, ctx.options = inputs[5], inputs[7], inputs[8]


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, v0, decay, threshold, counts, borders = ctx.saved_tensors
    none = (None,) * 5
    grad_v = grad_v if ctx.keep_state else None
    if grad_spikes is None and grad_v is None:
        return (None, None, None, None, *none)
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(x)
    want_v0, want_decay = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
    gx, gv0, gk = torch.ops.ranvier.leaky_scan_packed_backward(
        x, v0, decay, threshold, counts, ctx.batch, borders, grad_spikes, grad_v, want_v0, want_decay, ctx.options
    )
    return (
        gx if ctx.needs_input_grad[0] else None,
        _reduce(gv0, v0) if want_v0 else None,
        _reduce(gk, decay) if want_decay else None,
        None,
        *none,
    )


torch.library.register_autograd("ranvier::leaky_scan_packed", _autograd, setup_context=_setup_context)
