"""LAMB: Adam's step, scaled layer by layer to the size of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranvier.optim.checks import SPAM_RULES, check_options


class LAMB(Optimizer):
    """LAMB (You et al. 2020, "Large batch optimization for deep learning", Algorithm 2).

    With Adam's bias-corrected moments m and v, r = m / (sqrt(v) + eps) + weight_decay * w, the step of a tensor is
    lr * min(|w| / |r|, 1 if `trust_clip`) * r; the ratio is 1 where a norm is zero. Groups without weight decay take
    Adam's plain step unless `always_adapt`, which is how image models are trained with it.

    Args:
        params: parameters or groups.
        lr: at least 0.
        betas: decay of the first and second moment, in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: at least 0; part of r, so the trust ratio scales it too.
        trust_clip: the ratio is at most 1.
        always_adapt: scale groups without weight decay as well.

    Gradient clipping is the caller's business (`train.clip_norm` of a recipe). Raises `ArgumentError` for a bad option.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        trust_clip: bool = False,
        always_adapt: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "trust_clip": trust_clip, "always_adapt": always_adapt,
        }  # fmt: skip
        check_options(SPAM_RULES, defaults)
        super().__init__(params, defaults)
        for group in self.param_groups:
            check_options(SPAM_RULES, {key: group[key] for key in defaults})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; `closure` computes the loss again where it is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        (first, second), gradient = group["betas"], weight.grad
        assert gradient is not None
        state["step"] += 1
        taken = state["step"].item()
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (state["exp_avg_sq"] / (1 - second**taken)).sqrt_().add_(group["eps"])
        update = (state["exp_avg"] / (1 - first**taken)).div_(scale)
        decay = group["weight_decay"]
        if decay:
            update.add_(weight, alpha=decay)
        if decay or group["always_adapt"]:
            size, length = weight.norm(), update.norm()
            # no branch on values: reading them would make an accelerator wait
            ratio = torch.where((size > 0) & (length > 0), size / length, torch.ones_like(size))
            update.mul_(ratio.clamp(max=1.0) if group["trust_clip"] else ratio)
        weight.add_(update, alpha=-float(group["lr"]))
