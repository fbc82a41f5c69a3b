"""Stable-SPAM: adaptive clipping, adaptive gradient norm and momentum reset around Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranvier.errors import ArgumentError
from ranvier.optim.checks import STABLE_RULES, check_options, work_dtype
from ranvier.optim.exact_state import ExactState
from ranvier.optim.finite import NanPolicy, NonFiniteGradientError, anywhere, local, suspicious
from ranvier.optim.spam import ParamsT

_STATISTICS = ("max", "norm", "square")


class StableSPAM(ExactState, Optimizer):
    """Stable-SPAM (Huang et al., "Stable-SPAM", 2025, arXiv 2502.17055).

    For every parameter tensor, before Adam: entries above T̂, the bias-corrected mean of max |g| (rate γ₃), are scaled
    by T̂ / max |g| (AdaClip); then g is divided by its norm and multiplied by mean norm / root mean square norm (rates
    γ₁, γ₂; AdaGN). Every `reset_interval` steps the moments and Adam's bias correction start anew; there is no climb
    after it. Gradients are not modified.

    Args:
        params, lr, betas, eps, weight_decay, state_dtype, nan_policy, maximize: as in `SPAM`; ε = 1e-8 is added after
            the bias correction, and the weight decay comes before the update.
        gamma1, gamma2, gamma3: rates of the mean norm, the mean squared norm and the mean maximum, in [0, 1).
        reset_interval: steps between resets; 0 never resets.
        total_steps: when given, β₁ and γ₁ fall as a cosine from their value to `eta_min` times it during so many steps.
        clip, norm: leave AdaClip or AdaGN out with False.
        foreach: accepted for symmetry; tensors are processed one at a time.
        compat: the published code's behaviour. There a reset also restarts the bias corrections of the three
            statistics, which over-corrects them (T̂ is 500 times too large just after it), and the step at the reset
            still uses the old moments, as if they were one step old, after which they are dropped together with its
            gradient. Here the statistics keep a counter of their own and the reset comes first.

    Raises `ArgumentError` for a value out of range.
    """

    counters = ("steps",)
    options = ("clip", "norm", "state_dtype", "nan_policy", "maximize", "compat", "foreach")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        gamma1: float = 0.7,
        gamma2: float = 0.9,
        gamma3: float = 0.999,
        reset_interval: int = 1000,
        total_steps: int | None = None,
        eta_min: float = 0.5,
        clip: bool = True,
        norm: bool = True,
        state_dtype: torch.dtype | None = None,
        nan_policy: NanPolicy = "raise",
        foreach: bool | None = None,
        maximize: bool = False,
        compat: bool = False,
    ) -> None:
        self.clip, self.norm, self.state_dtype, self.nan_policy = clip, norm, state_dtype, nan_policy
        self.maximize, self.compat, self.foreach = maximize, compat, foreach
        check_options(STABLE_RULES, {"nan_policy": nan_policy, "state_dtype": state_dtype})
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "gamma1": gamma1, "gamma2": gamma2,
            "gamma3": gamma3, "reset_interval": reset_interval, "total_steps": total_steps, "eta_min": eta_min,
        }  # fmt: skip
        super().__init__(params, {**defaults, "steps": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, also in the middle of training: it joins the clock of the first group."""
        if self.param_groups:
            param_group = {**param_group, "steps": self.param_groups[0]["steps"]}
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_options(STABLE_RULES, group)
        for p in group["params"]:
            if p.is_complex():
                raise ArgumentError("StableSPAM does not take complex parameters; split them")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update; returns what `closure` returns (it may call backward)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = self._gradients()
        if grads is None:
            return loss
        for group in self.param_groups:
            group["steps"] += 1
            scale = _cosine(group["steps"], group["total_steps"], group["eta_min"])
            for p in group["params"]:
                if p in grads:
                    self._update(p, grads[p], group, scale)
        return loss

    def _gradients(self) -> dict[Tensor, Tensor] | None:
        present = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad is not None and p.grad.is_sparse for p in present):
            raise ArgumentError("StableSPAM does not take sparse gradients; use torch.optim.SparseAdam for them")
        grads: dict[Tensor, Tensor] = {p: p.grad for p in present if p.grad is not None}
        parts = [local(g) for g in grads.values()]
        bad = [i for i in suspicious(parts) if not bool(parts[i].isfinite().all())]
        if self.nan_policy == "zero":
            for i in bad:
                grads[present[i]] = torch.nan_to_num(grads[present[i]], 0.0, 0.0, 0.0)
            return grads
        if not anywhere(bool(bad), present):
            return grads
        if self.nan_policy == "skip":
            return None
        named = f"a parameter of shape {tuple(present[bad[0]].shape)}" if bad else "another process"
        raise NonFiniteGradientError(
            f"step {self.param_groups[0]['steps'] + 1}: gradient entries of {named} are NaN or infinite; nothing was "
            'changed. Find the cause, or use nan_policy="skip" or "zero"'
        )

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any], scale: float) -> None:
        state = self.state[p]
        dtype = work_dtype(p, self.state_dtype)
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["seen"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(p, dtype=dtype) for _ in range(2))
            for name in _STATISTICS:
                state[name] = torch.zeros((), dtype=dtype, device=p.device)
        state["step"] += 1
        state["seen"] += 1
        seen = (state["step"] if self.compat else state["seen"]).item()
        g = grad.to(dtype)
        if self.maximize:
            g = -g
        if self.clip:
            g = _clipped(g, state["max"], group["gamma3"], seen)
        g = local(g)
        if self.norm:
            g = self._normalised(g, grad, state, group, scale, seen)
        weight = local(p)
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        weight.mul_(1 - lr * group["weight_decay"])
        beta1 *= scale
        m, v = local(state["exp_avg"]), local(state["exp_avg_sq"])
        resets = group["reset_interval"] > 0 and group["steps"] % group["reset_interval"] == 0
        if resets:
            state["step"].fill_(1)
            if not self.compat:
                m.zero_()
                v.zero_()
        k = state["step"].item()
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        below = v.sqrt().div_(math.sqrt(1 - beta2**k)).add_(group["eps"])
        size = lr / (1 - beta1**k)
        if weight.dtype == m.dtype:
            weight.addcdiv_(m, below, value=-size)
        else:
            weight.copy_(torch.addcdiv(weight.to(m.dtype), m, below, value=-size))
        if resets and self.compat:
            m.zero_()
            v.zero_()

    def _normalised(
        self, g: Tensor, whole: Tensor, state: dict[str, Any], group: dict[str, Any], scale: float, seen: float
    ) -> Tensor:
        """AdaGN: `g` with its norm replaced by mean norm over root mean square norm."""
        square = g.square().sum()
        if whole is not local(whole):
            square = _over_mesh(square, whole, torch.distributed.ReduceOp.SUM)
        norm = square.sqrt()
        rate1, rate2 = group["gamma1"] * scale, group["gamma2"]
        state["norm"].mul_(rate1).add_(norm, alpha=1 - rate1)
        state["square"].mul_(rate2).add_(square, alpha=1 - rate2)
        target = state["norm"] / (1 - rate1**seen) / ((state["square"] / (1 - rate2**seen)).sqrt() + group["eps"])
        return g * torch.where(norm > 0, target / norm, torch.ones_like(norm))


def _clipped(g: Tensor, mean: Tensor, rate: float, seen: float) -> Tensor:
    """AdaClip: entries above the bias-corrected mean of the largest magnitude, scaled down to it at the largest."""
    part = local(g)
    largest = part.abs().amax() if part.numel() else part.new_zeros(())
    if part is not g:
        largest = _over_mesh(largest, g, torch.distributed.ReduceOp.MAX)
    mean.mul_(rate).add_(largest, alpha=1 - rate)
    limit = mean / (1 - rate**seen)
    return torch.where(part.abs() > limit, part / largest * limit, part)


def _over_mesh(value: Tensor, sharded: Any, op: Any) -> Tensor:
    mesh = sharded.device_mesh
    for dim in range(mesh.ndim):
        if sharded.placements[dim].is_shard():
            torch.distributed.all_reduce(value, op=op, group=mesh.get_group(dim))
    return value


def _cosine(step: int, total: int | None, least: float) -> float:
    """1 at step 0, falling as a cosine to `least` at step total + 1, and back up after it."""
    if total is None:
        return 1.0
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * step / (total + 1)))
