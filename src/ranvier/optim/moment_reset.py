"""SPAM's reset for any Adam-like optimiser."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranvier.errors import ArgumentError
from ranvier.optim.warmup import reset_warmup

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer")


class MomentumReset:
    """Zeroes the moments of `optimizer` every so many steps and climbs back to its learning rate (`reset_warmup`).

    It hooks itself to the optimiser, which is used as before, with its schedulers. A reset happens before step
    `interval`, 2 `interval`, ... as in SPAM.

    Args:
        optimizer: Adam, AdamW, NAdam, SGD with momentum, ...: its state's moments carry their usual names.
        interval: steps between resets, at least 1.
        warmup_steps: steps of the climb after a reset.
        bias_correction: "global" leaves Adam's step counters as they are, "restart" sets them back to 0.

    `state_dict` and `load_state_dict` hold the counters; `remove()` takes the hooks off.
    """

    def __init__(
        self, optimizer: Optimizer, interval: int = 500, warmup_steps: int = 150,
        bias_correction: Literal["global", "restart"] = "global",
    ) -> None:  # fmt: skip
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        for name, value, least in (("interval", interval, 1), ("warmup_steps", warmup_steps, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
        if bias_correction not in ("global", "restart"):
            raise ArgumentError(f"bias_correction must be 'global' or 'restart', got {bias_correction!r}")
        self.optimizer, self.interval, self.warmup_steps = optimizer, interval, warmup_steps
        self.bias_correction = bias_correction
        self.steps, self.since_reset = 0, -1
        self._rates: list[Any] = []
        self._hooks = [
            optimizer.register_step_pre_hook(self._before), optimizer.register_step_post_hook(self._after),
        ]  # fmt: skip

    @torch.no_grad()
    def reset(self) -> None:
        """Zero every moment now and begin the climb."""
        for state in self.optimizer.state.values():
            for name in MOMENTS:
                if isinstance(state.get(name), Tensor):
                    state[name].zero_()
            if self.bias_correction == "restart" and isinstance(state.get("step"), Tensor):
                state["step"].zero_()
        self.since_reset = 0

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"steps": self.steps, "since_reset": self.since_reset}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Put back what `state_dict` returned."""
        self.steps, self.since_reset = int(state["steps"]), int(state["since_reset"])

    def remove(self) -> None:
        """Leave the optimiser alone from now on."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, *_: Any) -> None:
        self.steps += 1
        if self.steps % self.interval == 0:
            self.reset()
        scale = reset_warmup(self.since_reset, self.warmup_steps)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * scale

    def _after(self, *_: Any) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        if self.since_reset >= 0:
            self.since_reset += 1
