"""The definition of WKV, the linear attention of RWKV-4 with a decay for every channel, in plain torch.

For every channel, with decay w < 0, bonus u, and i over the tokens before t:

    y_t = (Σ_i e^{(t−1−i) w + k_i} v_i + e^{u + k_t} v_t) / (Σ_i e^{(t−1−i) w + k_i} + e^{u + k_t})

The token before enters without decay, the present one with the bonus in place of a decay. The two sums are carried
divided by e^o, with o the largest exponent so far: state (p, q, o), at first (0, 0, −1e38). The result does not depend
on o, so that o counts as a constant in gradients, which is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

WKVState = tuple[Tensor, Tensor, Tensor]
EMPTY = -1e38  # the exponent before the first token: e to it is 0, and differences with it are finite


def empty_state(like: Tensor) -> WKVState:
    """The state before the first token, for one step `like` (`[B, C]`); float32 for half precision."""
    dtype = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
    zero = torch.zeros_like(like, dtype=dtype)
    return zero, torch.zeros_like(zero), torch.full_like(zero, EMPTY)


def wkv_step(w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState) -> tuple[Tensor, WKVState]:
    """One token: `k`, `v` `[B, C]` and the state in, `y` `[B, C]` and the new state out."""
    p, q, o = state
    bonus = u + k
    top = torch.maximum(o, bonus).detach()
    past, now = torch.exp(o - top), torch.exp(bonus - top)
    y = (past * p + now * v) / (past * q + now)
    decayed = o + w
    top = torch.maximum(decayed, k).detach()
    past, now = torch.exp(decayed - top), torch.exp(k - top)
    return y, (past * p + now * v, past * q + now, top)


def wkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState) -> tuple[Tensor, WKVState]:
    """The loop over `wkv_step`: `k` and `v` `[T, B, C]`; all of one dtype, which should be float32 or float64."""
    outputs: list[Tensor] = []
    p, q, o = state
    state = (p, q, o.detach())
    for k_t, v_t in zip(k.unbind(0), v.unbind(0), strict=True):
        y, state = wkv_step(w, u, k_t, v_t, state)
        outputs.append(y)
    return torch.stack(outputs), state


def wkv_tree(w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState) -> tuple[Tensor, WKVState]:
    """The same in ⌈log₂ T⌉ steps over the whole sequence, by an associative scan; more precise at large k.

    A segment of n tokens is (n w, o, p, q); two join as o = max(o_l + n_r w, o_r) and p, q scaled to it.
    """
    steps = k.shape[0]
    # the carried state is a segment before the first token, of which nothing but its sums is asked
    p = torch.cat([state[0].unsqueeze(0), v], 0)
    q = torch.cat([state[1].unsqueeze(0), torch.ones_like(v)], 0)
    o = torch.cat([state[2].unsqueeze(0), k], 0)
    o, scale = o.detach(), torch.exp(o - o.detach())  # the value 1, through which the gradient of k flows
    scale = torch.cat([torch.ones_like(scale[:1]), scale[1:]], 0)
    p, q = p * scale, q * scale
    span = 1
    while span <= steps:
        moved = o[:-span] + span * w
        top = torch.maximum(moved, o[span:]).detach()
        left, right = torch.exp(moved - top), torch.exp(o[span:] - top)
        p = torch.cat([p[:span], left * p[:-span] + right * p[span:]], 0)
        q = torch.cat([q[:span], left * q[:-span] + right * q[span:]], 0)
        o = torch.cat([o[:span], top], 0)
        span *= 2
    bonus = u + k
    top = torch.maximum(o[:-1], bonus).detach()
    past, now = torch.exp(o[:-1] - top), torch.exp(bonus - top)
    return (past * p[:-1] + now * v) / (past * q[:-1] + now), (p[-1], q[-1], o[-1])
