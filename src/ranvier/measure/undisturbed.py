"""Looking at a model without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.state import Stateful

Batch = Tensor | tuple[Tensor, Tensor]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put buffers (running statistics), modes, random numbers and carried streams back as they were after the block.

    Parameters are not put back; their `.grad` is not touched by what uses `torch.autograd.grad`.
    """
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    modes = [(m, m.training) for m in model.modules()]
    streams = [(m, m._carried) for m in model.modules() if isinstance(m, Stateful)]
    devices = sorted({t.device.index or 0 for t in [*model.parameters(), *model.buffers()] if t.device.type == "cuda"})
    try:
        for module, _ in streams:
            module._carried = None  # a stream that is open around the block neither serves nor notices it
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, carried in streams:
            module._carried = carried
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                if buffer.numel():
                    buffer.copy_(value)
                module._buffers[name] = buffer
        for module, mode in modes:
            module.training = mode


def split_batch(batch: Any) -> tuple[Tensor, Tensor | None]:
    """`(x, y)` of a batch `x` or `(x, y)`; raises `ArgumentError` for anything else, and for values not finite."""
    x, y = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    if not isinstance(x, Tensor) or not (y is None or isinstance(y, Tensor)):
        raise ArgumentError(f"batch must be a tensor or a pair (x, y) of tensors, got {type(batch).__name__}")
    if x.numel() == 0:
        raise ArgumentError(f"batch must hold at least one sample, got shape {tuple(x.shape)}")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ArgumentError("batch holds values that are not finite")
    return x, y
