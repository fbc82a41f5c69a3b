"""Fresh memory is what costs on a CPU: the first touch of its pages takes longer than the arithmetic of a scan.

Large results of the CPU kernels come from buffers that are handed back when the last tensor on them dies, so that a
training loop, which asks for the same sizes again and again, touches no new page after its first step.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 20  # bytes: below, the system's allocator reuses memory well enough
MOST_IDLE = 1 << 30  # bytes that may wait for their next use


class BufferPool:
    """Idle buffers by size; the one that has waited longest goes first when more than `most_idle` bytes wait."""

    def __init__(self, most_idle: int = MOST_IDLE) -> None:
        self.most_idle = most_idle
        self._idle: OrderedDict[int, np.ndarray] = OrderedDict()  # by identity, oldest first
        self._idle_bytes = 0
        self._lock = threading.RLock()  # a buffer may come back, by garbage collection, while one is being taken

    def take(self, nbytes: int) -> np.ndarray:
        """A writable byte array that returns to the pool by itself when nothing refers to it any more."""
        with self._lock:
            owner = next((buffer for buffer in reversed(self._idle.values()) if buffer.nbytes == nbytes), None)
            if owner is not None:
                del self._idle[id(owner)]
                self._idle_bytes -= nbytes
        if owner is None:
            owner = np.empty(nbytes, np.uint8)
        loan = owner[:]
        weakref.finalize(loan, self._give_back, owner).atexit = False
        return loan

    def _give_back(self, owner: np.ndarray) -> None:
        with self._lock:
            self._idle[id(owner)] = owner
            self._idle_bytes += owner.nbytes
            while self._idle_bytes > self.most_idle:
                _, oldest = self._idle.popitem(last=False)
                self._idle_bytes -= oldest.nbytes

    @property
    def idle_bytes(self) -> int:
        """Bytes that wait for their next use."""
        return self._idle_bytes

    def clear(self) -> None:
        """Let go of every idle buffer."""
        with self._lock:
            self._idle.clear()
            self._idle_bytes = 0


POOL = BufferPool()


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Like `torch.empty_like`: same shape, same layout where it is dense; large CPU results come from the pool."""
    dtype = x.dtype if dtype is None else dtype
    nbytes = x.numel() * dtype.itemsize
    dense = x.is_contiguous() or torch.empty_like(x, device="meta").stride() == x.stride()
    plain = type(x) is Tensor  # not a fake one of the compiler
    if not plain or x.device.type != "cpu" or nbytes < LARGE or not dense:
        return torch.empty_like(x, dtype=dtype)
    return empty_flat(x.numel(), dtype).as_strided(x.shape, x.stride())


def empty_flat(numel: int, dtype: torch.dtype) -> Tensor:
    """`[numel]` on the CPU, from the pool where it is large."""
    nbytes = numel * dtype.itemsize
    if nbytes < LARGE:
        return torch.empty(numel, dtype=dtype, device="cpu")
    return torch.from_numpy(POOL.take(nbytes)).view(dtype)
