"""The convolution of a sequence with dense kernels over time, by whichever way is cheaper for its sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.delay import direct as _registers_the_direct_form  # noqa: F401
from ranvier.ops.delay import transform

# The transform's matrix products are smaller and touch more memory: it has to save this factor of multiplications
# before it saves time. The direct form is slow at few inputs or outputs, as if it had THIN more (benchmarks/delays.py).
ADVANTAGE, THIN = 2.0, 8.0


def convolve(x: Tensor, kernel: Tensor, lead: int = 0, method: str = "auto", groups: int = 1) -> Tensor:
    """`y[t, b, o] = Σ_{i, n} kernel[n, o, i] · x[lead + t − (K − 1) + n, b, i]`, zero before the first step of x.

    Args:
        x: `[lead + T, B, I]`; the first `lead` ≤ K − 1 steps are history, which gives no output.
        kernel: `[K, O, I / groups]`, taps outermost.
        lead: steps of history in x.
        method: "conv" (the direct form), "fft" (transformed blocks), or "auto": the cheaper one.
        groups: blocks of inputs and outputs that are connected, as in `torch.nn.Conv1d`.

    Returns `[T, B, O]`. Differentiable in x and kernel. Half precision is computed in the dtype of the kernel.
    """
    taps, outputs, inputs = kernel.shape
    if x.dim() != 3 or x.shape[2] != inputs * groups:
        raise ShapeError(f"x must be [T, B, {inputs * groups}] for this kernel, got shape {tuple(x.shape)}")
    if not 0 <= lead < max(taps, 1) or lead >= x.shape[0]:
        raise ArgumentError(f"lead must lie in 0 .. {min(taps, x.shape[0]) - 1}, got {lead}")
    if method not in ("auto", "conv", "fft"):
        raise ArgumentError(f"method must be 'auto', 'conv' or 'fft', got {method!r}")
    x = x.to(kernel.dtype)
    steps, batch = x.shape[0] - lead, x.shape[1]
    if steps == 0 or batch == 0:
        return x.new_zeros((steps, batch, outputs)) + 0 * kernel.sum()
    if groups > 1 and inputs == 1:  # a kernel a channel
        columns = F.pad(x.permute(1, 2, 0), (taps - 1 - lead, 0))
        return F.conv1d(columns, kernel.permute(1, 2, 0).contiguous(), groups=groups).permute(2, 0, 1)
    if groups > 1:
        parts = zip(x.chunk(groups, 2), kernel.chunk(groups, 1), strict=True)
        return torch.cat([convolve(a.contiguous(), k.contiguous(), lead, method) for a, k in parts], 2)
    if taps == 1:
        return x @ kernel[0].T
    m, cost = transform.best_block(steps, batch, inputs, outputs, taps)
    direct = steps * taps * (1 + THIN / inputs + THIN / outputs)
    if method == "conv" or (method == "auto" and cost * ADVANTAGE > direct):
        return torch.ops.ranvier.delay_taps(x, kernel, lead)
    return torch.ops.ranvier.delay_transform(x, kernel, lead, m)
