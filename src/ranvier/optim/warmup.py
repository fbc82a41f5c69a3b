"""The climb of the step size after a reset of the moments."""

from __future__ import annotations

import math

from ranvier.errors import ArgumentError


def reset_warmup(since_reset: int, warmup_steps: int) -> float:
    """The factor on the step size `since_reset` steps after a reset (Huang et al., ICLR 2025).

    `1 − 0.99 (1 + cos(π c / (N + 1))) / 2` for 0 ≤ c < N, and 1 from c = N on; a negative c says that there has been
    no reset yet and gives 1.
    """
    if warmup_steps < 0:
        raise ArgumentError(f"warmup_steps must be at least 0, got {warmup_steps!r}")
    if not 0 <= since_reset < warmup_steps:
        return 1.0
    return 1 - 0.99 * (1 + math.cos(math.pi * since_reset / (warmup_steps + 1))) / 2
