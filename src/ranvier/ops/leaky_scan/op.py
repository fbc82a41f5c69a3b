"""The leaky scan as a `torch.library` custom op: one graph node a layer, whatever the number of steps.

For backward the op saves its input (4 bytes an element and step in float32, 2 in half precision; normally alive anyway
as the output of the layer before) and, on the CPU, the membrane at every 32nd step (0.125 bytes an element and step).
Everything else is recomputed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.layout import Layout, in_strides, work_dtype
from ranvier.ops.leaky_scan.chunks import chunk_borders
from ranvier.ops.leaky_scan.reference import LeakyDynamics
from ranvier.ops.memory import empty_like
from ranvier.surrogates import Atan, Rectangle, Sigmoid, StraightThrough, Triangle

OPTIONS = "float[] options"  # one argument: PyTorch's binding of an op costs time by the square of their number


def pack(d: LeakyDynamics) -> list[float]:
    """The options as plain numbers, the form in which they cross the dispatcher."""
    code = d.surrogate.code
    assert code is not None
    return [
        d.decay_input, d.soft_reset, d.v_reset, d.detach_reset, code, d.surrogate.slope, d.levels, d.input_scale,
        d.output_scale, d.half_even,
    ]  # fmt: skip


def unpack(options: Sequence[float]) -> LeakyDynamics:
    """Inverse of `pack`."""
    return _unpacked(tuple(options))


@lru_cache(maxsize=256)
def _unpacked(options: tuple[float, ...]) -> LeakyDynamics:
    decay_input, soft, v_reset, detach, code, slope, levels, a, b, half_even = options
    surrogate = (Sigmoid, Atan, Triangle, Rectangle)[int(code)](slope) if code < 4 else StraightThrough()
    return LeakyDynamics(
        bool(decay_input), bool(soft), v_reset, bool(detach), surrogate, int(levels), a, b, bool(half_even)
    )


def _vector(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.detach().to(dtype).contiguous().reshape(-1)


def _column(lay: Layout, t: Tensor) -> Tensor:
    """One element, or one for every column in the memory order of the input."""
    return _vector(t, lay.dtype) if t.numel() == 1 else lay.column(t)


def _kernels(x: Tensor) -> Any:
    if x.device.type == "cuda":
        from ranvier.ops.leaky_scan import triton_cuda as kernels
    else:
        from ranvier.ops.leaky_scan import numba_cpu as kernels
    return kernels


def _empty_borders(x: Tensor, training: bool) -> Tensor:
    count = chunk_borders(x.shape[0]) if training and x.device.type != "cuda" else 0
    return x.new_empty((count, x[0].numel()), dtype=work_dtype(x))


def _forward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, options: Sequence[float],
    kernels: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    lay = Layout(x)
    io = x.dtype if kernels.CASTS_IN_KERNEL else lay.dtype
    spikes = empty_like(x) if lay.dense else lay.new_sequence()
    direct = spikes if x.dtype == io else lay.new_sequence(io)
    v_last = lay.new_states(1)[0] if keep_state else x.new_empty(0, dtype=lay.dtype)
    borders = _empty_borders(x, training)
    if x.numel() == 0:
        if keep_state:
            v_last.copy_(v0.to(lay.dtype))
        return spikes, v_last, borders
    kernels.forward(
        lay.sequence(x, io), _column(lay, v0), _column(lay, decay), _column(lay, threshold), lay.sequence(direct, io),
        lay.column(v_last) if keep_state else v_last, borders, unpack(options),
    )  # fmt: skip
    if direct is not spikes:
        spikes.copy_(direct)
    return spikes, v_last, borders


def _backward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: Sequence[float], kernels: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    lay = Layout(x)
    if x.numel() == 0:
        none = x.new_zeros(0, dtype=lay.dtype)
        return torch.zeros_like(x), none.new_zeros(lay.columns * want_v0), none.new_zeros(lay.columns * want_decay)
    io = x.dtype if kernels.CASTS_IN_KERNEL else lay.dtype
    gv = x.new_empty(0, dtype=lay.dtype) if grad_v is None else lay.column(grad_v)
    gx, gv0, gk = kernels.backward(
        lay.sequence(x, io), _column(lay, v0), _column(lay, decay), _column(lay, threshold), borders,
        lay.sequence(grad_spikes, io), gv, want_v0, want_decay, unpack(options),
    )  # fmt: skip
    gv0, gk = (lay.step_like(g).reshape(-1) if g.numel() else g for g in (gv0, gk))
    return lay.sequence_like(gx).to(x.dtype), gv0, gk


torch.library.define(
    "ranvier::leaky_scan",
    f"(Tensor x, Tensor v0, Tensor decay, Tensor threshold, bool keep_state, bool training, {OPTIONS}) "
    "-> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ranvier::leaky_scan_backward",
    "(Tensor x, Tensor v0, Tensor decay, Tensor threshold, Tensor borders, Tensor grad_spikes, Tensor? grad_v, "
    f"bool want_v0, bool want_decay, {OPTIONS}) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("ranvier::leaky_scan", ("cpu", "cuda"))
def leaky_scan_impl(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, options: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(x, v0, decay, threshold, keep_state, training, options, _kernels(x))


@torch.library.impl("ranvier::leaky_scan_backward", ("cpu", "cuda"))
def leaky_scan_backward_impl(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _backward(
        x, v0, decay, threshold, borders, grad_spikes, grad_v, want_v0, want_decay, options, _kernels(x)
    )  # fmt: skip


@torch.library.register_fake("ranvier::leaky_scan")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, options: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    lay = Layout(x)
    v_last = lay.new_states(1)[0] if keep_state else x.new_empty(0, dtype=lay.dtype)
    return lay.new_sequence(), v_last, _empty_borders(x, training)


@torch.library.register_fake("ranvier::leaky_scan_backward")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    lay = Layout(x)
    columns, dtype = x[0].numel(), lay.dtype
    return (
        lay.new_sequence(),
        x.new_empty(columns * want_v0, dtype=dtype),
        x.new_empty(columns * want_decay, dtype=dtype),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:4], output[2])
    ctx.keep_state, ctx.options, ctx.strides = inputs[4], inputs[6], inputs[0].stride()


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, v0, decay, threshold, borders = ctx.saved_tensors
    x = in_strides(x, ctx.strides)
    none = (None,) * 3
    grad_v = grad_v if ctx.keep_state else None
    if grad_spikes is None and grad_v is None:
        return (None, None, None, None, *none)
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(x)
    want_v0, want_decay = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
    gx, gv0, gk = torch.ops.ranvier.leaky_scan_backward(
        x, v0, decay, threshold, borders, grad_spikes, grad_v, want_v0, want_decay, ctx.options
    )
    return (
        gx if ctx.needs_input_grad[0] else None,
        _reduce(gv0, v0) if want_v0 else None,
        _reduce(gk, decay) if want_decay else None,
        None,
        *none,
    )


def _reduce(grad: Tensor, like: Tensor) -> Tensor:
    grad = grad.sum() if like.numel() == 1 else grad
    return grad.reshape(like.shape).to(like.dtype)


torch.library.register_autograd("ranvier::leaky_scan", _autograd, setup_context=_setup_context)


def _vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
    """A mapped dimension is just more columns: it moves behind time, and parameters are laid out to match."""
    size = info.batch_size
    x = arguments[0].movedim(in_dims[0], 1) if in_dims[0] is not None else arguments[0].unsqueeze(1)
    x = x.expand(x.shape[0], size, *x.shape[2:]).contiguous()
    step = x.shape[2:]

    def spread(t: Tensor, dim: int | None) -> Tensor:
        if dim is None and t.numel() == 1:
            return t
        t = t.movedim(dim, 0) if dim is not None else t.unsqueeze(0)
        t = t.reshape(-1, *[1] * len(step)) if t[0].numel() == 1 else t.reshape(-1, *step)
        return t.expand(size, *step).contiguous()

    columns = [spread(t, d) for t, d in zip(arguments[1:4], in_dims[1:4], strict=True)]
    spikes, v_last, borders = torch.ops.ranvier.leaky_scan(x, *columns, *arguments[4:])
    return (spikes, v_last, borders), (1, 0 if arguments[4] else None, None)


torch.library.register_vmap("ranvier::leaky_scan", _vmap)
