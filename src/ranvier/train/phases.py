"""What parts of a net do at fixed points of a training: a module that has the method is called.

`begin_epoch(epoch, epochs)` before an epoch (from 0): schedules of its own, a pure function of the two numbers, so that
a resumed run needs no state. `after_update()` after every update: constraints on its parameters.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def begin_epoch(net: nn.Module, epoch: int, epochs: int) -> None:
    """Tell every module that wants to know that `epoch` of `epochs` begins."""
    for module in net.modules():
        method: Any = getattr(module, "begin_epoch", None)
        if callable(method):
            method(epoch, epochs)


def constrained(net: nn.Module) -> list[Any]:
    """The `after_update` methods of the modules that have one."""
    found = (getattr(module, "after_update", None) for module in net.modules())
    return [method for method in found if callable(method)]
