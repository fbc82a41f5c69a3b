"""Time to first spike: the brighter, the earlier."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ranvier.encode.encoder import ENCODERS, Encoder, steps_like
from ranvier.errors import ArgumentError


@ENCODERS.register("ttfs")
class TTFS(Encoder):
    """One spike at `t* = 1 + floor((1 − x) T)`, none where `t* > T` (x = 0).

    `amplitude` is the size of the spike: `"inverse"` for 1/t* (default) or `"one"`. Source: STEP's definition of
    time-to-first-spike coding (Shen et al. 2025).
    """

    name: ClassVar[str] = "ttfs"
    formula: ClassVar[str] = "S_t = a(t) at t = 1 + floor((1 − x) T), else 0"

    def __init__(self, amplitude: Literal["inverse", "one"] = "inverse") -> None:
        super().__init__()
        if amplitude not in ("inverse", "one"):
            raise ArgumentError(f"amplitude must be 'inverse' (1/t) or 'one', got {amplitude!r}")
        self.amplitude = amplitude

    def encode(self, x: Tensor, T: int) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        # floor((1 − x) T) = T − ceil(x T), which rounds less: it is exact for more of the levels k / 255 of an image.
        first = 1 + T - (wide * T).ceil()
        t = steps_like(x, T, start=1)
        spikes = (t == first).to(x.dtype)
        return spikes if self.amplitude == "one" else spikes / t.to(x.dtype)

    def config(self) -> dict[str, Any]:
        return {"type": self.name, "amplitude": self.amplitude}
