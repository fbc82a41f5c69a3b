"""WKV, the attention of RWKV-4 and SpikeGPT as a recurrence with a state of constant size."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.backend import use_kernels
from ranvier.ops.wkv.reference import WKVState, empty_state, wkv_reference, wkv_step, wkv_tree

__all__ = ["WKVState", "empty_state", "wkv", "wkv_reference", "wkv_step", "wkv_tree"]

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState | None = None) -> tuple[Tensor, WKVState]:
    """Weighted mean of values with exponentially decaying keys, a token after the other, for every channel on its own.

    `y_t = (Σ_{i<t} e^{(t−1−i) w + k_i} v_i + e^{u+k_t} v_t) / (Σ_{i<t} e^{(t−1−i) w + k_i} + e^{u+k_t})` (Peng et al.,
    "RWKV", EMNLP 2023, equation 14 of the arXiv version), stable for any size of k.

    Args:
        w: log of the decay a token, below 0, `[C]`; in the model −e to the learned time decay.
        u: bonus of the present token, `[C]`.
        k, v: keys and values `[T, ..., C]`, time first, T ≥ 1.
        state: what an earlier call returned, to continue after it; None before the first token.

    Returns `y`, shaped and typed like `v`, and the state `(p, q, o)` after the last token, each `[..., C]`: float32 for
    half precision, inside of which everything is computed. Differentiable once in w, u, k, v and in p and q of the
    state; o counts as a constant, which leaves every gradient exact. Raises `ShapeError` or `ArgumentError`.
    """
    _check(w, u, k, v)
    if state is None:
        state = empty_state(k[0])
    if len(state) != 3 or any(t.shape != k.shape[1:] for t in state):
        raise ShapeError(
            f"state must be three tensors of shape {tuple(k.shape[1:])}, got {[tuple(t.shape) for t in state]}"
        )
    if use_kernels(k.device.type):
        from ranvier.ops.wkv import op

        assert op
        training = torch.is_grad_enabled() and any(t.requires_grad for t in (w, u, k, v, *state))
        y, p, q, o, _ = torch.ops.ranvier.wkv(w, u, k, v, *state, training)
        return y, (p, q, o)
    work = torch.float32 if k.dtype in (torch.float16, torch.bfloat16) else k.dtype
    p, q, o = (t.to(work) for t in state)
    y, state = wkv_reference(w.to(work), u.to(work), k.to(work), v.to(work), (p, q, o))
    return y.to(v.dtype), state


def _check(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> None:
    if k.dim() < 2 or k.shape[0] == 0:
        raise ShapeError(f"k must be [T, ..., C] with at least one token, got shape {tuple(k.shape)}")
    if v.shape != k.shape or w.shape != k.shape[-1:] or u.shape != k.shape[-1:]:
        raise ShapeError(
            f"k of shape {tuple(k.shape)} needs v of that shape and w, u of shape ({k.shape[-1]},), got v "
            f"{tuple(v.shape)}, w {tuple(w.shape)}, u {tuple(u.shape)}"
        )
    if k.dtype not in _DTYPES or v.dtype != k.dtype:
        raise ArgumentError(f"k and v must be floating point of one dtype, got {k.dtype} and {v.dtype}")
