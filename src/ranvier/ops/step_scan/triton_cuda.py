"""Run the generated Triton kernels."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.step_scan.plan import Plan

CASTS_IN_KERNEL = True
BLOCK = 256


def _launch(kernel: Any, size: int, arguments: list[Any], flag: bool, dtype: torch.dtype) -> None:
    work = tl.float64 if dtype == torch.float64 else tl.float32
    # Without fused multiply-add, the numbers are those of torch's separate operations: the same spikes.
    kernel[(triton.cdiv(size, BLOCK),)](*arguments, flag, work, BLOCK, enable_fp_fusion=False)


def forward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], spikes: Tensor, last: Tensor, borders: Tensor
) -> None:
    """Fill `spikes`, `last` and `borders`; arguments as in the CPU kernels, `x` and `spikes` of any float dtype."""
    steps, size = x.shape
    arguments = [x, *states, *leaves, spikes, last, borders, steps, borders.shape[0], size]
    _launch(plan.module.forward_kernel, size, arguments, last.numel() > 0, x.dtype)


def backward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], borders: Tensor, gs: Tensor, glast: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients as in the CPU kernels."""
    steps, size = x.shape
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    count, chunks = len(states), -(-steps // CHUNK)
    begin = torch.stack(states).unsqueeze(0) if states else borders.new_empty(1, 0, size)
    starts = torch.cat([begin, borders]) if chunks > 1 else begin
    scratch = x.new_empty(min(steps, CHUNK), count, size, dtype=work)
    gx = torch.empty_like(x)
    gstates = [x.new_empty(size, dtype=work) for _ in states]
    sums = [x.new_empty(size, dtype=work) for _ in plan.parts.sums]
    arguments = [
        x, starts, *leaves, gs, glast, scratch, gx, *gstates, *sums, steps, chunks, size, count * size, CHUNK * size,
        (chunks - 1) * CHUNK * size, (chunks - 1) * count * size,
    ]  # fmt: skip
    _launch(plan.module.backward_kernel, size, arguments, glast.numel() > 0, x.dtype)
    return gx, gstates, sums
