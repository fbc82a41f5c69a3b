"""What an objective does unless it says otherwise."""

from __future__ import annotations

from typing import Any

from torch import nn

from ranvier.data import Samples


class PlainObjective:
    """Base of the objectives: trains the net itself, on the samples as they are."""

    def network(self, net: nn.Module) -> nn.Module:
        """What is trained, around `net` or `net` itself; parameters and buffers of its own are kept in checkpoints,
        not in the weights of the run."""
        return net

    def samples(self, train: Samples) -> Samples:
        """What the batches of the training part are taken from."""
        return train

    def begin_update(self, step: int, steps: int) -> None:
        """Called before update `step` (from 0) of `steps`."""

    def notes(self) -> dict[str, Any]:
        """What the line of an epoch says besides the usual."""
        return {}
