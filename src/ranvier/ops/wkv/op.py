"""WKV as a `torch.library` custom op: one graph node a layer, whatever the number of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.memory import empty_like
from ranvier.ops.wkv.chunks import chunk_borders


def _kernels(k: Tensor) -> Any:
    if k.device.type == "cuda":
        from ranvier.ops.wkv import triton_cuda as kernels
    else:
        from ranvier.ops.wkv import numba_cpu as kernels
    return kernels


def _work(t: Tensor) -> torch.dtype:
    return torch.float32 if t.dtype in (torch.float16, torch.bfloat16) else t.dtype


def _columns(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.detach().to(dtype).contiguous().view(t.shape[0], -1)


def _vector(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.detach().to(dtype).contiguous().view(-1)


def _forward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, training: bool, kernels: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = _work(k)
    io = k.dtype if kernels.CASTS_IN_KERNEL else dtype
    step = k.shape[1:]
    count = chunk_borders(k.shape[0]) if training else 0
    borders = k.new_empty((count, 3, k[0].numel()), dtype=dtype)
    last = tuple(k.new_empty(step, dtype=dtype) for _ in range(3))
    columns = _columns(k, io)
    y = empty_like(columns)
    if k.numel():
        kernels.forward(
            _vector(w, dtype), _vector(u, dtype), columns, _columns(v, io), *(_vector(t, dtype) for t in (p, q, o)), y,
            *(t.view(-1) for t in last), borders,
        )  # fmt: skip
    return y.to(k.dtype).view(k.shape), last[0], last[1], last[2], borders


def _backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, borders: Tensor, gy: Tensor,
    gp: Tensor, gq: Tensor, o1: Tensor, kernels: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = _work(k)
    io = k.dtype if kernels.CASTS_IN_KERNEL else dtype
    if not k.numel():
        return (
            torch.zeros_like(w, dtype=dtype), torch.zeros_like(u, dtype=dtype), torch.zeros_like(k),
            torch.zeros_like(v), torch.zeros_like(p), torch.zeros_like(q),
        )  # fmt: skip
    gk, gv, gp0, gq0, gw, gu = kernels.backward(
        _vector(w, dtype), _vector(u, dtype), _columns(k, io), _columns(v, io),
        *(_vector(t, dtype) for t in (p, q, o)), borders, _columns(gy, io), *(_vector(t, dtype) for t in (gp, gq, o1)),
    )  # fmt: skip
    gw, gu = (t.view(-1, w.numel()).sum(0) for t in (gw, gu))
    return gw, gu, gk.to(k.dtype).view(k.shape), gv.to(v.dtype).view(v.shape), gp0.view(p.shape), gq0.view(q.shape)


torch.library.define(
    "ranvier::wkv",
    "(Tensor w, Tensor u, Tensor k, Tensor v, Tensor p, Tensor q, Tensor o, bool training) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ranvier::wkv_backward",
    "(Tensor w, Tensor u, Tensor k, Tensor v, Tensor p, Tensor q, Tensor o, Tensor borders, Tensor gy, Tensor gp, "
    "Tensor gq, Tensor o1) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("ranvier::wkv", ("cpu", "cuda"))
def wkv_impl(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, training: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _forward(w, u, k, v, p, q, o, training, _kernels(k))


@torch.library.impl("ranvier::wkv_backward", ("cpu", "cuda"))
def wkv_backward_impl(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, borders: Tensor, gy: Tensor,
    gp: Tensor, gq: Tensor, o1: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _backward(w, u, k, v, p, q, o, borders, gy, gp, gq, o1, _kernels(k))


@torch.library.register_fake("ranvier::wkv")
def _(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, training: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = _work(k)
    p1, q1, o1 = (k.new_empty(k.shape[1:], dtype=dtype) for _ in range(3))
    count = chunk_borders(k.shape[0]) if training else 0
    return k.new_empty(k.shape), p1, q1, o1, k.new_empty((count, 3, k[0].numel()), dtype=dtype)


@torch.library.register_fake("ranvier::wkv_backward")
def _(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p: Tensor, q: Tensor, o: Tensor, borders: Tensor, gy: Tensor,
    gp: Tensor, gq: Tensor, o1: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = _work(k)
    gw, gu = (k.new_empty(w.shape, dtype=dtype) for _ in range(2))
    return gw, gu, k.new_empty(k.shape), v.new_empty(v.shape), torch.empty_like(p), torch.empty_like(q)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:7], output[3], output[4])
    ctx.mark_non_differentiable(output[3], output[4])


def _autograd(ctx: Any, gy: Tensor, gp: Tensor, gq: Tensor, *_: Any) -> tuple[Any, ...]:
    w, u, k, v, p, q, o, o1, borders = ctx.saved_tensors
    gw, gu, gk, gv, gp0, gq0 = torch.ops.ranvier.wkv_backward(w, u, k, v, p, q, o, borders, gy, gp, gq, o1)
    return gw.to(w.dtype), gu.to(u.dtype), gk, gv, gp0, gq0, None, None


torch.library.register_autograd("ranvier::wkv", _autograd, setup_context=_setup_context)
