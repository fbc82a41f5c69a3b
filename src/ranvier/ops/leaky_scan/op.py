"""The leaky scan as a `torch.library` custom op: one graph node a layer, whatever the number of steps.

For backward the op saves its input (4 bytes an element and step in float32, 2 in half precision; normally alive anyway
as the output of the layer before) and, on the CPU, the membrane at every 32nd step (0.125 bytes an element and step).
Everything else is recomputed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.leaky_scan.chunks import chunk_borders
from ranvier.ops.leaky_scan.reference import LeakyDynamics
from ranvier.ops.memory import empty_like
from ranvier.surrogates import Atan, Rectangle, Sigmoid, StraightThrough, Surrogate, Triangle

HALF = (torch.float16, torch.bfloat16)
OPTIONS = (
    "bool decay_input, bool soft_reset, float v_reset, bool detach_reset, int surrogate, float slope, int levels, "
    "float input_scale, float output_scale, bool half_even"
)
Options = tuple[bool, bool, float, bool, int, float, int, float, float, bool]


def pack(d: LeakyDynamics) -> Options:
    """The options as plain numbers, the form in which they cross the dispatcher."""
    code = d.surrogate.code
    assert code is not None
    return (
        d.decay_input, d.soft_reset, d.v_reset, d.detach_reset, code, d.surrogate.slope, d.levels, d.input_scale,
        d.output_scale, d.half_even,
    )  # fmt: skip


def _surrogate(code: int, slope: float) -> Surrogate:
    return (Sigmoid, Atan, Triangle, Rectangle)[code](slope) if code < 4 else StraightThrough()


def unpack(options: Options) -> LeakyDynamics:
    """Inverse of `pack`."""
    decay_input, soft, v_reset, detach, code, slope, levels, a, b, half_even = options
    return LeakyDynamics(decay_input, soft, v_reset, detach, _surrogate(code, slope), levels, a, b, half_even)


def _keeps_layout(x: Tensor, *columns: Tensor) -> bool:
    """Whether `x` can be processed as it lies in memory: dense, time outermost, and nothing else depends on the order
    of its columns (channels-last activations, mostly)."""
    if x.is_contiguous():
        return True
    if any(c.numel() > 1 for c in columns) or x.dim() < 2 or x.numel() == 0:
        return False
    inner = sorted(zip(x.stride()[1:], x.shape[1:], strict=True))
    expected = 1
    for stride, size in inner:
        if size == 1:
            continue
        if stride != expected:
            return False
        expected = expected * size
    return x.shape[0] == 1 or x.stride(0) == expected


def _columns(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` as `[T, M]` in memory order; a view unless the dtype changes."""
    x = x.detach().to(dtype)
    return x.as_strided((x.shape[0], x[0].numel()), (x[0].numel(), 1))


def _work_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in HALF else x.dtype


def _vector(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.detach().to(dtype).contiguous().reshape(-1)


def _kernels(x: Tensor) -> Any:
    if x.device.type == "cuda":
        from ranvier.ops.leaky_scan import triton_cuda as kernels
    else:
        from ranvier.ops.leaky_scan import numba_cpu as kernels
    return kernels


def _empty_borders(x: Tensor, training: bool) -> Tensor:
    count = chunk_borders(x.shape[0]) if training and x.device.type != "cuda" else 0
    return x.new_empty((count, x[0].numel()), dtype=_work_dtype(x))


def _forward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, options: Options,
    kernels: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if not _keeps_layout(x, v0, decay, threshold, x.new_empty(2 if keep_state else 0)):
        x = x.contiguous()
    dtype = _work_dtype(x)
    io = x.dtype if kernels.CASTS_IN_KERNEL else dtype
    spikes = empty_like(x)
    direct = spikes if x.dtype == io else torch.empty_like(x, dtype=io)
    v_last = x.new_empty(x.shape[1:] if keep_state else (0,), dtype=dtype)
    borders = _empty_borders(x, training)
    if x.numel() == 0:
        if keep_state:
            v_last.copy_(v0.to(dtype).reshape(-1) if v0.numel() == 1 else v0.to(dtype).view(v_last.shape))
        return spikes, v_last, borders
    kernels.forward(
        _columns(x, io), _vector(v0, dtype), _vector(decay, dtype), _vector(threshold, dtype),
        _columns(direct, io), v_last.view(-1), borders, unpack(options),
    )  # fmt: skip
    if direct is not spikes:
        spikes.copy_(direct)
    return spikes, v_last, borders


def _backward(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, options: Options, kernels: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = _work_dtype(x)
    ordered = want_v0 or want_decay or grad_v is not None
    if not _keeps_layout(x, v0, decay, threshold, x.new_empty(2 if ordered else 0)):
        x = x.contiguous()
    if grad_spikes.stride() != x.stride():
        grad_spikes = torch.empty_like(x, dtype=grad_spikes.dtype).copy_(grad_spikes)
    columns = x[0].numel()
    if x.numel() == 0:
        none = x.new_zeros(0, dtype=dtype)
        return torch.zeros_like(x), none.new_zeros(columns * want_v0), none.new_zeros(columns * want_decay)
    io = x.dtype if kernels.CASTS_IN_KERNEL else dtype
    gv = x.new_empty(0, dtype=dtype) if grad_v is None else _vector(grad_v, dtype)
    gx, gv0, gk = kernels.backward(
        _columns(x, io), _vector(v0, dtype), _vector(decay, dtype), _vector(threshold, dtype), borders,
        _columns(grad_spikes, io), gv, want_v0, want_decay, unpack(options),
    )  # fmt: skip
    return gx.to(x.dtype).as_strided(x.shape, x.stride()), gv0, gk


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
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(x, v0, decay, threshold, keep_state, training, options, _kernels(x))


@torch.library.impl("ranvier::leaky_scan_backward", ("cpu", "cuda"))
def leaky_scan_backward_impl(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _backward(
        x, v0, decay, threshold, borders, grad_spikes, grad_v, want_v0, want_decay, options, _kernels(x)
    )  # fmt: skip


@torch.library.register_fake("ranvier::leaky_scan")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, keep_state: bool, training: bool, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    keeps = _keeps_layout(x, v0, decay, threshold, x.new_empty(2 if keep_state else 0))
    spikes = torch.empty_like(x) if keeps else torch.empty_like(x, memory_format=torch.contiguous_format)
    v_last = x.new_empty(x.shape[1:] if keep_state else (0,), dtype=_work_dtype(x))
    return spikes, v_last, _empty_borders(x, training)


@torch.library.register_fake("ranvier::leaky_scan_backward")
def _(
    x: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, borders: Tensor, grad_spikes: Tensor,
    grad_v: Tensor | None, want_v0: bool, want_decay: bool, *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    ordered = want_v0 or want_decay or grad_v is not None
    keeps = _keeps_layout(x, v0, decay, threshold, x.new_empty(2 if ordered else 0))
    gx = torch.empty_like(x) if keeps else torch.empty_like(x, memory_format=torch.contiguous_format)
    columns, dtype = x[0].numel(), _work_dtype(x)
    return gx, x.new_empty(columns * want_v0, dtype=dtype), x.new_empty(columns * want_decay, dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:4], output[2])
    ctx.keep_state, ctx.options = inputs[4], inputs[6:]


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, v0, decay, threshold, borders = ctx.saved_tensors
    none = (None,) * (2 + len(ctx.options))
    grad_v = grad_v if ctx.keep_state else None
    if grad_spikes is None and grad_v is None:
        return (None, None, None, None, *none)
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(x)
    want_v0, want_decay = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
    gx, gv0, gk = torch.ops.ranvier.leaky_scan_backward(
        x, v0, decay, threshold, borders, grad_spikes, grad_v, want_v0, want_decay, *ctx.options
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
