"""How the CPU kernels cut time: light enough to import without Numba."""

from __future__ import annotations

CHUNK = 32  # steps between two membranes that forward saves for backward


def chunk_borders(steps: int) -> int:
    """How many membranes forward saves for a backward pass over `steps` steps."""
    return max(steps - 1, 0) // CHUNK
