"""Phase encoding: the bits of an 8-bit intensity, the most significant first."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ranvier.encode.encoder import ENCODERS, Encoder, steps_like


@ENCODERS.register("phase")
class Phase(Encoder):
    """With `v = min(floor(256 x), 255)` and `b = (t − 1) mod 8`: `S_t = 2^−(b+1)` where bit 7 − b of v is set.

    Eight steps sum to v / 256 exactly. The clamp keeps x = 1 from becoming 256, whose low eight bits are all zero.
    Source: STEP's definition of phase coding (Shen et al. 2025), with that clamp.
    """

    name: ClassVar[str] = "phase"
    formula: ClassVar[str] = "S_t = 2^−(b+1) · bit_{7−b}(v), v = min(⌊256 x⌋, 255), b = (t − 1) mod 8"

    def encode(self, x: Tensor, T: int) -> Tensor:
        v = (x * 256).floor().clamp(max=255).to(torch.int32)
        b = steps_like(x, T) % 8
        bit = (v >> (7 - b)) & 1
        return bit.to(x.dtype) / (2 << b).to(x.dtype)
