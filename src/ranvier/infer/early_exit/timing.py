"""Wall-clock of several ways to run the same samples, taken in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def take_turns(
    ways: Mapping[str, Callable[[Tensor], object]], x: Tensor, batch: int | None = None, rounds: int = 5, axis: int = 0
) -> dict[str, list[float]]:
    """Seconds of each of `ways` on the samples `x`, once a round; what else the machine does hits all of them alike.

    Args:
        ways: functions of a batch, by name.
        x: samples along `axis` (0 for static inputs, 1 for sequences).
        batch: samples a call (None: all at once). Ways alternate from batch to batch, in another order each time.
        rounds: passes over `x`, after one batch each that is not counted.
    """
    for name, value in (("batch", batch if batch is not None else 1), ("rounds", rounds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
    if not ways:
        raise ArgumentError("ways: nothing to time")
    parts = list(x.split(batch or x.shape[axis], axis))
    order = list(ways)
    for name in order:
        ways[name](parts[0])
    spent: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        sums = dict.fromkeys(order, 0.0)
        for part in parts:
            for name in order:
                start = time.perf_counter()
                ways[name](part)
                if part.is_cuda:
                    torch.cuda.synchronize(part.device)
                sums[name] += time.perf_counter() - start
            order = order[1:] + order[:1]
        for name, seconds in sums.items():
            spent[name].append(seconds)
    return spent
