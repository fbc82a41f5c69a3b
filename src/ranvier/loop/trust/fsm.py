"""From alarms to behaviour: nominal, suspect, degraded, safe stop, and the way back."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.trust.verdict import DEGRADED, NOMINAL, SAFE_STOP, SUSPECT


class FallbackFSM:
    """States of many agents at a time.

    NOMINAL → SUSPECT on an alarm; SUSPECT → DEGRADED when it lasts `confirm_s`, else back; DEGRADED → SAFE_STOP when
    the path has been uncertain for `blind_s`, and back when it is not; DEGRADED → NOMINAL after `calm_s` without alarm.

    Args:
        confirm_s, blind_s, calm_s: seconds.
        tick_s: length of a tick.
    """

    def __init__(self, confirm_s: float = 0.3, blind_s: float = 1.0, calm_s: float = 1.0, tick_s: float = 0.1) -> None:
        if min(confirm_s, blind_s, calm_s) < 0 or not tick_s > 0:
            raise ArgumentError("times must not be negative, tick_s must be positive")
        self._confirm, self._blind, self._calm = (round(t / tick_s) for t in (confirm_s, blind_s, calm_s))

    def reset(self, rows: int) -> None:
        """Everybody nominal."""
        self.mode = torch.zeros(rows, dtype=torch.int64)
        self._in_mode = torch.zeros(rows, dtype=torch.int64)
        self._quiet = torch.zeros(rows, dtype=torch.int64)
        self._dark = torch.zeros(rows, dtype=torch.int64)

    def step(self, alarm: Tensor, uncertain: Tensor) -> Tensor:
        """One tick; returns the modes, int64 `[N]`.

        Args:
            alarm: bool `[N]`; uncertain: the path ahead cannot be relied on, bool `[N]`.
        """
        mode = self.mode
        self._quiet = torch.where(alarm, 0, self._quiet + 1)
        self._dark = torch.where(uncertain, self._dark + 1, 0)
        new = mode.clone()
        new = torch.where((mode == NOMINAL) & alarm, SUSPECT, new)
        ripe = self._in_mode + 1 >= self._confirm
        new = torch.where((mode == SUSPECT) & alarm & ripe, DEGRADED, new)
        new = torch.where((mode == SUSPECT) & ~alarm & ripe, NOMINAL, new)
        new = torch.where((mode == DEGRADED) & (self._dark > self._blind), SAFE_STOP, new)
        new = torch.where((mode == DEGRADED) & (self._quiet >= self._calm), NOMINAL, new)
        new = torch.where((mode == SAFE_STOP) & ~uncertain, DEGRADED, new)
        self._in_mode = torch.where(new == mode, self._in_mode + 1, 0)
        self.mode = new
        return new
