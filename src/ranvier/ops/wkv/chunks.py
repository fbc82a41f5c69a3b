"""How the kernels cut time: light enough to import without them."""

from __future__ import annotations

CHUNK = 32  # steps between two states that forward keeps for backward


def chunk_borders(steps: int) -> int:
    """How many states forward keeps for a backward pass over `steps` tokens."""
    return max(steps - 1, 0) // CHUNK
