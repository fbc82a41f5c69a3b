"""A long text as training samples: windows of tokens and the tokens that come next."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ArgumentError


class TextWindows(Samples):
    """Windows of `length` tokens that start every `stride` tokens of a text (memory-mapped texts stay on disk).

    A batch is ids `[T, B]` and the next tokens `[B, T]`, both int64; a sample ids `[T]` and the next tokens `[T]`.
    """

    time_first = True

    def __init__(self, tokens: NDArray[np.integer], length: int, stride: int | None = None) -> None:
        stride = length if stride is None else stride
        for name, value in (("length", length), ("stride", stride)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
        if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
            raise ArgumentError(f"tokens must be a list of integers, got shape {tokens.shape} of {tokens.dtype}")
        if len(tokens) < length + 1:
            raise ArgumentError(
                f"length: a window of {length} tokens and the one after it do not fit into a text of {len(tokens)}"
            )
        self.tokens, self.length, self.stride = tokens, length, stride
        self.labels = torch.zeros((len(tokens) - length - 1) // stride + 1, dtype=torch.int64)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of a text of {len(self)}")
        x, y = self.batch([int(index) % len(self)])
        return x[:, 0], y[0]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        starts = as_index(indices, len(self)).numpy() * self.stride
        windows = np.stack([self.tokens[s : s + self.length + 1] for s in starts]).astype(np.int64)
        both = torch.from_numpy(windows)
        return both[:, :-1].T.contiguous(), both[:, 1:].contiguous()
