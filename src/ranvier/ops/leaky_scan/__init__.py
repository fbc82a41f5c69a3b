"""The multi-step leaky integrate-fire-reset recurrence, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ShapeError
from ranvier.ops.backend import use_kernels
from ranvier.ops.leaky_scan.reference import LeakyDynamics, leaky_scan_reference, leaky_step

__all__ = ["LeakyDynamics", "leaky_scan", "leaky_scan_packed", "leaky_scan_reference", "leaky_step"]

_KERNEL_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def leaky_scan(
    x: Tensor, v: Tensor, decay: Tensor, threshold: Tensor, dynamics: LeakyDynamics, keep_state: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Run the recurrence of `LeakyDynamics` over `x`.

    Args:
        x: input current `[T, ...]`, T ≥ 1, floating point.
        v: membrane before the first step; one element, or the shape of one step.
        decay: the share `k` that the membrane loses (1/τ); one element, or broadcasting to one step.
        threshold: firing threshold θ > 0; shaped like `decay`.
        dynamics: the options that are not tensors.
        keep_state: False saves the write of the final membrane; None is returned in its place.

    Returns spikes `[T, ...]` in the dtype of `x` and the membrane after the last step (float32 for half-precision
    input). Differentiable once in `x`, `v` and `decay` through the fused kernels; a threshold that needs a gradient,
    or a surrogate without kernel support, runs through the reference. Raises `ShapeError` for T = 0 or parameters
    that do not broadcast.
    """
    if x.dim() < 1 or x.shape[0] == 0:
        raise ShapeError(f"x must be [T, ...] with at least one time step, got shape {tuple(x.shape)}")
    if not _fuses(x, threshold, dynamics):
        spikes, v_last = leaky_scan_reference(x, v, decay, threshold, dynamics)
        return spikes, v_last if keep_state else None
    from ranvier.ops.leaky_scan.op import pack

    step = tuple(x.shape[1:])
    columns = [_per_column(t, step, name) for t, name in ((v, "v"), (decay, "decay"), (threshold, "threshold"))]
    training = torch.is_grad_enabled() and (x.requires_grad or v.requires_grad or decay.requires_grad)
    spikes, v_last, _ = torch.ops.ranvier.leaky_scan(x, *columns, keep_state, training, pack(dynamics))
    return spikes, v_last if keep_state else None


def leaky_scan_packed(
    x: Tensor, v: Tensor, decay: Tensor, threshold: Tensor, dynamics: LeakyDynamics, counts: Tensor, batch: int,
    borders: int, keep_state: bool = True,
) -> tuple[Tensor, Tensor | None] | None:  # fmt: skip
    """`leaky_scan` of every sequence of a packed batch by itself; None where there is no kernel for it.

    Args:
        x: `[steps of all sequences, ...]`, time first, the longest sequence first in every step.
        v, decay, threshold: one element, or broadcasting to one step `[batch, ...]`.
        counts: how many sequences have a step t, `[T]`, int64 on the CPU.
        batch: the number of sequences, `counts[0]`.
        borders: the sum of every `CHUNK`-th count but the first.

    Returns spikes like `x` and the membrane of every sequence after its own last step, `[batch, ...]`.
    """
    if x.device.type != "cpu" or not _fuses(x, threshold, dynamics):
        return None
    from ranvier.ops.leaky_scan import packed_op  # noqa: F401  registers the op
    from ranvier.ops.leaky_scan.op import pack

    step = (batch, *x.shape[1:])
    columns = [_per_column(t, step, name) for t, name in ((v, "v"), (decay, "decay"), (threshold, "threshold"))]
    training = torch.is_grad_enabled() and (x.requires_grad or v.requires_grad or decay.requires_grad)
    kept = borders * x[0].numel() if training else 0
    spikes, v_last, _ = torch.ops.ranvier.leaky_scan_packed(
        x, *columns, counts, batch, kept, keep_state, pack(dynamics)
    )
    return spikes, v_last if keep_state else None


def _fuses(x: Tensor, threshold: Tensor, dynamics: LeakyDynamics) -> bool:
    return (
        dynamics.surrogate.code is not None
        and x.dtype in _KERNEL_DTYPES
        and not (threshold.requires_grad and torch.is_grad_enabled())
        and use_kernels(x.device.type)
    )


def _per_column(t: Tensor, step: tuple[int, ...], name: str) -> Tensor:
    if t.numel() == 1:
        return t.reshape(())
    try:
        return t.expand(step)
    except RuntimeError:
        raise ShapeError(f"{name} of shape {tuple(t.shape)} does not broadcast to one step of x, {step}") from None
