"""Which entries of a weight have moments: exact counts, drawn from numbers alone, stored as bits or as indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError

Chooser = Callable[[Tensor, Tensor | None, int], Tensor]
MaskStrategy = Literal["random", "max_weight", "max_gradient"] | Chooser
STRATEGIES = ("random", "max_weight", "max_gradient")
_BITS_PER_INDEX = 32


def kept_entries(total: int, density: float) -> int:
    """How many of `total` entries a mask of this density selects: the rounded share, at least one."""
    return max(1, round(density * total)) if total else 0


def draw(
    strategy: MaskStrategy, weight: Tensor, grad: Tensor | None, count: int, seeds: tuple[int, ...]
) -> Tensor:  # fmt: skip
    """Sorted int64 positions of `count` entries of the flattened `weight`, on its device.

    Args:
        strategy: "random" (depends on `seeds` alone, not on the device nor on any global generator), "max_weight" or
            "max_gradient" (the largest magnitudes; without a gradient at hand random), or a function of the flat
            weight, its flat gradient (or None) and the count that returns positions.
    """
    if callable(strategy):
        chosen = torch.as_tensor(strategy(weight.reshape(-1), None if grad is None else grad.reshape(-1), count))
        valid = chosen.dim() == 1 and not chosen.is_floating_point() and chosen.dtype != torch.bool
        chosen = chosen.to(weight.device, torch.int64) if valid else chosen
        if (
            not valid
            or len(chosen.unique()) != count
            or not 0 <= int(chosen.min()) <= int(chosen.max()) < weight.numel()
        ):
            raise ArgumentError(
                f"mask_strategy must return {count} different positions below {weight.numel()}, got a tensor of shape "
                f"{tuple(chosen.shape)} and {chosen.dtype}"
            )
        return chosen.sort().values
    if strategy == "max_weight" or (strategy == "max_gradient" and grad is not None):
        source = weight if strategy == "max_weight" else grad
        assert source is not None
        return source.reshape(-1).abs().topk(count, sorted=False).indices.sort().values
    words = np.random.SeedSequence(seeds).generate_state(2)
    generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
    chosen = torch.randperm(weight.numel(), generator=generator)[:count]
    return chosen.sort().values.to(weight.device)


def store_positions(positions: Tensor, total: int) -> tuple[str, Tensor]:
    """`("bits", uint8)` or `("index", int32)`, whichever takes less memory for these positions of `total` entries."""
    if len(positions) * _BITS_PER_INDEX < total and total < 2**31:
        return "index", positions.to(torch.int32)
    return "bits", pack(positions, total)


def stored_bytes(count: int, total: int) -> int:
    """Bytes that `store_positions` takes for `count` of `total` entries."""
    return 4 * count if count * _BITS_PER_INDEX < total and total < 2**31 else -(-total // 8)


def pack(positions: Tensor, total: int) -> Tensor:
    """Positions as a bit map of `ceil(total / 8)` bytes, the lowest bit first."""
    mask = torch.zeros(-(-total // 8) * 8, dtype=torch.uint8, device=positions.device)
    mask[positions] = 1
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=positions.device)
    return (mask.view(-1, 8) * weights).sum(1, dtype=torch.uint8)


def unpack(bits: Tensor) -> Tensor:
    """The sorted positions of a bit map (int64)."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(np.unpackbits(bits.numpy(), bitorder="little")))
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits.unsqueeze(1) >> shifts) & 1).reshape(-1).nonzero().squeeze(1)
