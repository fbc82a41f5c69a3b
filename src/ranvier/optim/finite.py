"""What happens to gradients that are not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.errors import RanvierError

NanPolicy = Literal["raise", "skip", "zero"]
POLICIES = ("raise", "skip", "zero")


class NonFiniteGradientError(RanvierError, ArithmeticError):
    """A gradient holds NaN, or an infinity that nothing would clip; parameters and moments are unchanged."""


def local(t: Tensor) -> Tensor:
    """The part of a distributed tensor that lies here; any other tensor as it is."""
    return t._local_tensor if hasattr(t, "_local_tensor") else t  # pyright: ignore[reportAttributeAccessIssue]


def suspicious(grads: Sequence[Tensor]) -> list[int]:
    """Places of the tensors that may hold something not finite: one cheap pass, and one wait for the device."""
    if not grads:
        return []
    sums = torch.stack([g.sum(dtype=torch.float32).to(grads[0].device) for g in grads])  # an overflow is looked into
    if bool(sums.sum().isfinite()):
        return []
    return [i for i, ok in enumerate(sums.isfinite().tolist()) if not ok]


def anywhere(found: bool, parameters: Sequence[Tensor]) -> bool:
    """Whether `found` holds in any process that shares one of these (sharded) parameters."""
    shared: dict[int, Any] = {}
    for p in parameters:
        if hasattr(p, "device_mesh"):
            mesh: Any = p.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
            shared[id(mesh)] = (mesh, local(p).device)
    for mesh, device in shared.values():
        flag = torch.tensor(float(found), device=device)
        for dim in range(mesh.ndim):
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX, group=mesh.get_group(dim))
        found = bool(flag)
    return found
