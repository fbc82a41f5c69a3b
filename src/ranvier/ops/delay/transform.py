"""Long kernels over time through a discrete Fourier transform, all of it matrix products.

The sequence is cut into blocks of `m` outputs that read N = m + K − 1 inputs each. On a block, correlation with a
kernel is `C ((A x) ⊙ (G k))`: A and G transform the N inputs and the K taps to R real numbers, where the sum over
inputs is an ordinary matrix product for each of the R, and C goes back. A complex product takes three real ones
(Karatsuba), so that R ≈ 3N/2; per output step that replaces K multiplications by about 3(m + K)/(2m), plus the
transforms, which are shared by all outputs or all samples. Choosing `m` weighs the one against the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.delay.scratch import empty

_CHUNK = 16  # transformed coefficients at a time: their kernels are used while they are in the cache


@dataclass(frozen=True)
class Matrices:
    """`A` `[R, N]`, `G` `[R, K]` and `C` `[m, R]` for blocks of m outputs and kernels of K taps."""

    A: Tensor
    G: Tensor
    C: Tensor


@lru_cache(maxsize=64)
def matrices(m: int, taps: int, dtype: torch.dtype, device: torch.device) -> Matrices:
    """The three matrices, computed in float64."""
    N = m + taps - 1
    count = N // 2 + 1
    angle = 2 * math.pi / N * (torch.arange(count)[:, None] * torch.arange(N)[None] % N).double()
    cos, sin = angle.cos(), angle.sin()
    own_mirror = [0] + ([count - 1] if N % 2 == 0 and N > 1 else [])  # real frequencies: one product is enough
    pairs = [f for f in range(count) if f not in own_mirror]
    share = torch.full((count, 1), 2 / N, dtype=torch.float64)
    share[own_mirror] = 1 / N
    back_real, back_imag = cos * share, -sin * share
    A = torch.cat([cos[own_mirror], cos[pairs], -sin[pairs], (cos - sin)[pairs]])
    G = torch.cat([cos[own_mirror], cos[pairs], sin[pairs], (cos + sin)[pairs]])[:, :taps]
    C = torch.cat([
        back_real[own_mirror], (back_real - back_imag)[pairs], (-back_real - back_imag)[pairs], back_imag[pairs],
    ])[:, :m].T  # fmt: skip
    return Matrices(*(t.to(device, dtype).contiguous() for t in (A, G, C)))


def rank(m: int, taps: int) -> int:
    """R of blocks of m outputs."""
    N = m + taps - 1
    return 3 * ((N - 1) // 2) + (2 if N % 2 == 0 else 1)


def cost(m: int, steps: int, batch: int, inputs: int, outputs: int, taps: int) -> float:
    """Multiplications per pair of an input and an output, and sample; the direct form has `steps · taps`.

    Those that transform the kernels count twice: they are bound by memory.
    """
    blocks, r = -(-steps // m), rank(m, taps)
    return blocks * r * (1 + (m + taps - 1) / outputs + m / inputs) + 2 * r * taps / batch


def best_block(steps: int, batch: int, inputs: int, outputs: int, taps: int) -> tuple[int, float]:
    """The cheapest m and its cost."""
    return _best_block(steps, batch, inputs, outputs, taps)


# What torch.compiler.assume_constant_result sets; calling it here would import the compiler, which takes seconds.
best_block._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


@lru_cache(maxsize=4096)
def _best_block(steps: int, batch: int, inputs: int, outputs: int, taps: int) -> tuple[int, float]:
    sizes = {-(-steps // blocks) for blocks in range(1, steps + 1)}
    return min(((m, cost(m, steps, batch, inputs, outputs, taps)) for m in sizes), key=lambda pair: pair[1])


def _windows(length: int, lead: int, taps: int, m: int) -> list[tuple[slice, slice, slice]]:
    """For every block: the rows of x that it reads, the columns of A that meet them, its rows of y.

    x has `lead` ≤ K − 1 steps of history before the first output; what is missing of them is zero.
    """
    missing, steps = taps - 1 - lead, length - lead
    found: list[tuple[slice, slice, slice]] = []
    for start in range(0, steps, m):
        first, last = max(0, start - missing), min(length, start - missing + m + taps - 1)
        column = first - (start - missing)
        rows = slice(first, last)
        found.append((rows, slice(column, column + last - first), slice(start, min(start + m, steps))))
    return found


def _transformed(x: Tensor, M: Matrices, windows: list[tuple[slice, slice, slice]]) -> Tensor:
    """A x of every block, `[R, blocks, B · I]`."""
    flat = x.flatten(1)
    out = empty((len(M.A), len(windows), flat.shape[1]), x.dtype, x.device)
    for b, (rows, columns, _) in enumerate(windows):
        torch.mm(M.A[:, columns], flat[rows], out=out[:, b])
    return out


def forward(x: Tensor, kernel: Tensor, lead: int, m: int) -> Tensor:
    """`y` `[L − lead, B, O]` of `x` `[L, B, I]` and `kernel` `[K, O, I]`, both contiguous and of one dtype."""
    length, batch, inputs = x.shape
    taps, outputs, _ = kernel.shape
    M = matrices(m, taps, x.dtype, x.device)
    windows = _windows(length, lead, taps, m)
    R, rows = len(M.A), len(windows) * batch
    X = _transformed(x, M, windows).view(R, rows, inputs)
    Y = empty((R, rows, outputs), x.dtype, x.device)
    k = kernel.view(taps, -1)
    part = empty((min(_CHUNK, R), k.shape[1]), x.dtype, x.device)
    for r in range(0, R, _CHUNK):
        n = min(_CHUNK, R - r)
        torch.mm(M.G[r : r + n], k, out=part[:n])
        torch.bmm(X[r : r + n], part[:n].view(n, outputs, inputs).mT, out=Y[r : r + n])
    y = empty((length - lead, batch, outputs), x.dtype, x.device)
    blocks = Y.view(R, len(windows), -1)
    for b, (_, _, place) in enumerate(windows):
        torch.mm(M.C[: place.stop - place.start], blocks[:, b], out=y[place].view(place.stop - place.start, -1))
    return y


def backward(
    grad: Tensor, x: Tensor, kernel: Tensor, lead: int, m: int, want_x: bool, want_k: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of `x` and of `kernel` (empty where not wanted); the same algorithm, transposed."""
    length, batch, inputs = x.shape
    taps, outputs, _ = kernel.shape
    M = matrices(m, taps, x.dtype, x.device)
    windows = _windows(length, lead, taps, m)
    R, rows = len(M.A), len(windows) * batch
    gY = empty((R, len(windows), batch * outputs), x.dtype, x.device)
    for b, (_, _, place) in enumerate(windows):
        steps = place.stop - place.start
        torch.mm(M.C[:steps].T, grad[place].reshape(steps, -1), out=gY[:, b])
    gY3 = gY.view(R, rows, outputs)
    gx, gk = x.new_empty(0), x.new_empty(0)
    if want_x:
        gX = empty((R, rows, inputs), x.dtype, x.device)
    if want_k:
        X = _transformed(x, M, windows).view(R, rows, inputs)
        gk = empty((taps, outputs * inputs), x.dtype, x.device).zero_()
    k = kernel.view(taps, -1)
    part = empty((min(_CHUNK, R), k.shape[1]), x.dtype, x.device)
    for r in range(0, R, _CHUNK):
        n = min(_CHUNK, R - r)
        square = part[:n].view(n, outputs, inputs)
        if want_x:
            torch.mm(M.G[r : r + n], k, out=part[:n])
            torch.bmm(gY3[r : r + n], square, out=gX[r : r + n])  # pyright: ignore[reportPossiblyUnboundVariable]
        if want_k:
            torch.bmm(gY3[r : r + n].mT, X[r : r + n], out=square)  # pyright: ignore[reportPossiblyUnboundVariable]
            gk.addmm_(M.G[r : r + n].T, part[:n])
    if want_x:
        gx = empty(tuple(x.shape), x.dtype, x.device).zero_()
        for b, (place, columns, _) in enumerate(windows):
            gx[place].view(place.stop - place.start, -1).addmm_(M.A[:, columns].T, gX.view(R, len(windows), -1)[:, b])  # pyright: ignore[reportPossiblyUnboundVariable]
    return gx, gk.view(kernel.shape) if want_k else gk


torch.library.define("ranvier::delay_transform", "(Tensor x, Tensor kernel, int lead, int m) -> Tensor")
torch.library.define(
    "ranvier::delay_transform_backward",
    "(Tensor grad, Tensor x, Tensor kernel, int lead, int m, bool want_x, bool want_k) -> (Tensor, Tensor)",
)


@torch.library.impl("ranvier::delay_transform", ("cpu", "cuda"))
def delay_transform_impl(x: Tensor, kernel: Tensor, lead: int, m: int) -> Tensor:
    return forward(x.detach().contiguous(), kernel.detach().contiguous(), lead, m)


@torch.library.impl("ranvier::delay_transform_backward", ("cpu", "cuda"))
def delay_transform_backward_impl(
    grad: Tensor, x: Tensor, kernel: Tensor, lead: int, m: int, want_x: bool, want_k: bool
) -> tuple[Tensor, Tensor]:
    x, kernel = x.detach().contiguous(), kernel.detach().contiguous()
    return backward(grad.detach(), x, kernel, lead, m, want_x, want_k)


@torch.library.register_fake("ranvier::delay_transform")
def _(x: Tensor, kernel: Tensor, lead: int, m: int) -> Tensor:
    return x.new_empty((x.shape[0] - lead, x.shape[1], kernel.shape[1]))


@torch.library.register_fake("ranvier::delay_transform_backward")
def _(grad: Tensor, x: Tensor, kernel: Tensor, lead: int, m: int, want_x: bool, want_k: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if want_x else (0,)), x.new_empty(kernel.shape if want_k else (0,))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.lead, ctx.m = inputs[2:]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, kernel = ctx.saved_tensors
    want_x, want_k = ctx.needs_input_grad[:2]
    gx, gk = torch.ops.ranvier.delay_transform_backward(grad, x, kernel, ctx.lead, ctx.m, want_x, want_k)
    return gx if want_x else None, gk if want_k else None, None, None


torch.library.register_autograd("ranvier::delay_transform", _autograd, setup_context=_setup_context)
