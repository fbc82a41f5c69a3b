"""Updates that are not finite: what a run does about them (`train.non_finite`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier.train.diagnose import NonFiniteError

Spoilt = Literal["input", "loss", "gradient"]
_NAMES: dict[Spoilt, str] = {"input": "input batch", "loss": "loss", "gradient": "gradient"}
_LONGEST = 400


class NonFinitePolicy:
    """Stop, or leave an update out so that nothing of it stays.

    Weights, moments and their average change after the check alone; running statistics change in the forward pass, so
    they are copied before it when updates may be skipped. The random generators, the schedule and the order of the data
    go on: a skipped update counts as a step.
    """

    def __init__(self, network: nn.Module, policy: Literal["stop", "skip"], limit: int) -> None:
        self.network, self.skips, self.limit = network, policy == "skip", limit
        self._buffers: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Before the forward pass of an update."""
        if self.skips:
            self._buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}

    @torch.no_grad()
    def undo(self) -> None:
        """Put the running statistics back and drop the gradients."""
        for name, buffer in self.network.named_buffers():
            if name in self._buffers:
                buffer.copy_(self._buffers[name])
        for parameter in self.network.parameters():
            parameter.grad = None

    def stops(self, step: int, epoch: int, kind: Spoilt, reason: str, in_a_row: int, checkpoints: object) -> None:
        """Raise `NonFiniteError` unless update `step` (from 1), the `in_a_row`-th such, may be skipped."""
        if self.skips and in_a_row <= self.limit:
            return
        many = f", after {self.limit} skipped updates in a row (train.non_finite_limit)" if self.skips else ""
        skip = "" if self.skips else ", or train.non_finite=skip to leave such updates out"
        remedy = (
            "Repair the data" if kind == "input" else "Try a lower train.lr, train.clip_norm=1 or train.warmup_epochs"
        )
        raise NonFiniteError(
            f"the {_NAMES[kind]} is not finite at step {step} (epoch {epoch}){many}: {reason}. {remedy}{skip}; "
            f"checkpoints before it are in {checkpoints}"
        )


def spoilt_samples(x: Tensor, batch_dim: int, places: NDArray[np.int64], part: str) -> str | None:
    """Which samples of the batch `x` hold NaN or infinities, by their `places` in the part of the data; None: none."""
    if not x.is_floating_point() or math.isfinite(float(x.sum(dtype=torch.float64))):
        return None
    wrong = (~x.isfinite()).movedim(batch_dim, 0).flatten(1).any(1).nonzero().flatten().tolist()
    if not wrong:
        return None  # finite values whose sum is not
    named = ", ".join(str(int(places[i])) for i in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
    return f"{part} holds NaN or infinite values in {len(wrong)} sample(s) of the batch: number {named}"


def first_reason(own: str, found: bool, device: torch.device) -> str:
    """The sentence of the first process that `found` the cause, in every process; called by all of them."""
    text = own.encode()[:_LONGEST]
    row = torch.zeros(_LONGEST + 2, dtype=torch.int32)
    row[0], row[1] = int(found), len(text)
    row[2 : 2 + len(text)] = torch.tensor(list(text), dtype=torch.int32)
    row = row.to(device)
    rows = [torch.zeros_like(row) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(rows, row)
    chosen = next((r for r in rows if int(r[0])), rows[0]).tolist()
    return bytes(chosen[2 : 2 + chosen[1]]).decode(errors="ignore")


def join_reasons(reasons: Sequence[str | None]) -> str | None:
    """The first sentence there is."""
    return next((reason for reason in reasons if reason is not None), None)
