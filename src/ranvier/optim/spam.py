"""SPAM: Adam that clips gradient spikes against its own second moment and forgets its moments now and then."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranvier.errors import ArgumentError
from ranvier.ops.spam_step import SpamUpdate, spam_step, spam_step_reference
from ranvier.optim.checks import SPAM_RULES, check_options, work_dtype
from ranvier.optim.exact_state import ExactState
from ranvier.optim.finite import NanPolicy, NonFiniteGradientError, anywhere, local, suspicious
from ranvier.optim.masks import MaskStrategy, draw, kept_entries, store_positions, stored_bytes, unpack
from ranvier.optim.warmup import reset_warmup

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


@dataclass(frozen=True)
class _Phase:
    """Steps and steps since the last reset (−1: none yet) at the coming update of a group, and what they imply."""

    step: int
    since_reset: int
    resets: bool
    scale: float
    root: float | None


class SPAM(ExactState, Optimizer):
    """Spike-aware Adam with momentum reset (Huang et al., "SPAM", ICLR 2025, arXiv 2501.06842).

    At update t: every `reset_interval` steps the moments become zero and sparse masks are drawn anew; a gradient with
    g² > θ v (v of the update before) becomes sign(g) √(θ v); then Adam's update, times `reset_warmup`, with decoupled
    weight decay. Gradients are not modified.

    Args:
        params: parameters or groups; every keyword below down to `mask_strategy` may differ from group to group.
        lr, betas, eps, weight_decay: as in AdamW; ε is added to √v before the bias correction.
        threshold: θ ≥ 0 on g² / v; 0 never clips.
        reset_interval: ΔT ≥ 0 optimizer steps between resets; 0 never resets.
        warmup_steps: N ≥ 0 steps of the climb after a reset; should not exceed `reset_interval`.
        grace_steps: steps after the start and after a reset without clipping, while v fills.
        density: share in (0, 1] of the entries of each weight of at least `min_ndim` dimensions that have moments; the
            others do not move (nor decay) until the next reset. See `sparse_param_groups`.
        mask_strategy: "random", "max_weight", "max_gradient", or a function (`ranvier.optim.masks.draw`).
        bias_correction: "global", as published: it does not start again at a reset, so that steps are up to 6.5 times
            the nominal rate after one and 1.9 times on average; "restart" keeps the nominal rate (0.85 times on
            average), for a rate tuned with Adam.
        guard_zero_v: do not clip coordinates with v = 0. Without it (as published) a coordinate that is silent during
            the grace steps, such as a weight of a silent neuron, is clipped to 0 and stays dead until a reset.
        state_dtype: of the moments; None is that of the parameter, float32 for half-precision ones.
        nan_policy: for NaN and for infinities that nothing clips: "raise" `NonFiniteGradientError`, "skip" the step, or
            "zero" those entries.
        foreach: True forces the multi-tensor form, False one tensor at a time, both in plain torch; None takes the
            fused kernels where they exist.
        maximize: ascend.
        seed: of the random masks, which depend on it, the parameter's number and the number of resets alone, so that
            every process draws the same.
        clip_mode: "clip", or "zero" to drop spikes instead.
        threshold_on: compare with v as it is stored ("raw"), or bias-corrected since the last reset ("corrected").
        min_ndim: fewest dimensions of a weight that `density` applies to.
        compat: the published code's behaviour where it differs: no guard, no weight decay of masked weights.

    Raises `ArgumentError` for a value out of range. With sharded (FSDP2) parameters masks are drawn per shard.
    """

    counters = ("steps", "since_reset", "resets")
    options = (
        "bias_correction", "guard_zero_v", "state_dtype", "nan_policy", "foreach", "maximize", "seed", "clip_mode",
        "threshold_on", "compat", "_clipped", "_totals",
    )  # fmt: skip

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        threshold: float = 5000.0,
        reset_interval: int = 500,
        warmup_steps: int = 150,
        grace_steps: int = 20,
        density: float = 1.0,
        mask_strategy: MaskStrategy = "random",
        bias_correction: Literal["global", "restart"] = "global",
        guard_zero_v: bool = True,
        state_dtype: torch.dtype | None = None,
        nan_policy: NanPolicy = "raise",
        foreach: bool | None = None,
        maximize: bool = False,
        seed: int = 0,
        clip_mode: Literal["clip", "zero"] = "clip",
        threshold_on: Literal["raw", "corrected"] = "raw",
        min_ndim: int = 2,
        compat: bool = False,
    ) -> None:
        self.bias_correction, self.guard_zero_v = bias_correction, guard_zero_v and not compat
        self.state_dtype, self.nan_policy, self.foreach, self.maximize = state_dtype, nan_policy, foreach, maximize
        self.seed, self.clip_mode, self.threshold_on, self.compat = seed, clip_mode, threshold_on, compat
        check_options(SPAM_RULES, {
            "bias_correction": bias_correction, "nan_policy": nan_policy, "clip_mode": clip_mode,
            "threshold_on": threshold_on, "seed": seed, "state_dtype": state_dtype,
        })  # fmt: skip
        self._clipped: list[list[tuple[Tensor | int, int]]] = []
        self._totals: list[list[Tensor | int]] = []
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "threshold": threshold,
            "reset_interval": reset_interval, "warmup_steps": warmup_steps, "grace_steps": grace_steps,
            "density": density, "min_ndim": min_ndim, "mask_strategy": mask_strategy,
        }  # fmt: skip
        super().__init__(params, {**defaults, "steps": 0, "since_reset": -1, "resets": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, also in the middle of training: it joins the clock of the first group."""
        if self.param_groups:
            first = self.param_groups[0]
            param_group = {**param_group, **{name: first[name] for name in self.counters}}
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_options(SPAM_RULES, group)
        for p in group["params"]:
            if p.is_complex():
                raise ArgumentError("SPAM does not take complex parameters; split them into real and imaginary parts")
        if 0 < group["reset_interval"] < group["warmup_steps"]:
            warnings.warn(
                f"warmup_steps {group['warmup_steps']} exceeds reset_interval {group['reset_interval']}: the step size "
                "never reaches the learning rate after a reset",
                stacklevel=3,
            )
        self._clipped.append([])
        self._totals.append([0, 0])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update; returns what `closure` returns (it may call backward)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        phases = [self._phase(group) for group in self.param_groups]
        grads = self._gradients(phases)
        if grads is None:
            return loss
        for number, (group, phase) in enumerate(zip(self.param_groups, phases, strict=True)):
            if phase.resets:
                self._reset(number, grads)
            group["steps"], group["since_reset"] = phase.step, phase.since_reset
            self._update(number, phase, grads)
            if phase.since_reset >= 0:
                group["since_reset"] += 1
        return loss

    @torch.no_grad()
    def reset_momentum(self) -> None:
        """Forget the moments, draw new masks and climb again, now (at a change of task, say)."""
        for number, group in enumerate(self.param_groups):
            self._reset(number, {p: local(p.grad) for p in group["params"] if p.grad is not None})
            group["since_reset"] = 0

    def spike_stats(self) -> dict[str, list[dict[str, float]]]:
        """Clipped coordinates of each group: counts and shares in the last step and since the last reset."""
        groups: list[dict[str, float]] = []
        for last, (clipped, seen) in zip(self._clipped, self._totals, strict=True):
            now, of = sum(int(c) for c, _ in last), sum(n for _, n in last)
            total, all_seen = int(clipped), int(seen)
            groups.append({
                "last": now, "last_share": now / of if of else 0.0, "since_reset": total,
                "since_reset_share": total / all_seen if all_seen else 0.0,
            })  # fmt: skip
        return {"groups": groups}

    def state_bytes(self) -> int:
        """Bytes of the moments and masks that exist now (not of the step counters)."""
        return sum(
            t.numel() * t.element_size()
            for state in self.state.values()
            for name, t in state.items()
            if isinstance(t, Tensor) and name != "step"
        )

    def planned_state(self) -> dict[str, int]:
        """What the optimiser will hold once every parameter has had a gradient; works on meta tensors.

        `elements` of the moments (2 (P − P_sparse) + 2 round(d · entries) of each sparse weight), their `bytes`, and
        `mask_bytes` (bits, or indices where these are smaller).
        """
        elements = size = masks = 0
        for group in self.param_groups:
            for p in group["params"]:
                total = local(p).numel()
                kept = kept_entries(total, group["density"]) if self._sparse(p, group) else total
                elements += 2 * kept
                size += 2 * kept * work_dtype(p, self.state_dtype).itemsize
                masks += stored_bytes(kept, total) if self._sparse(p, group) else 0
        return {"elements": elements, "bytes": size, "mask_bytes": masks}

    def _phase(self, group: dict[str, Any]) -> _Phase:
        step, interval = group["steps"] + 1, group["reset_interval"]
        resets = interval > 0 and step % interval == 0
        since = 0 if resets else group["since_reset"]
        grace = group["grace_steps"]
        clips = group["threshold"] > 0 and step >= grace and (since < 0 or since >= grace)
        root = math.sqrt(group["threshold"]) if clips else None
        return _Phase(step, since, resets, reset_warmup(since, group["warmup_steps"]), root)

    def _gradients(self, phases: list[_Phase]) -> dict[Tensor, Tensor] | None:
        """The (local) gradients with the non-finite ones dealt with; None to skip the step."""
        grads: dict[Tensor, Tensor] = {}
        where: list[tuple[int, Tensor]] = []
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise ArgumentError("SPAM does not take sparse gradients; use torch.optim.SparseAdam for them")
                grads[p] = local(p.grad)
                where.append((number, p))
        bad: dict[Tensor, Tensor] = {}
        for i in suspicious(list(grads.values())):
            number, p = where[i]
            spoilt = self._harmful(p, grads[p], phases[number])
            if bool(spoilt.any()):
                bad[p] = spoilt
        if self.nan_policy == "zero":
            return grads | {p: grads[p].masked_fill(spoilt, 0) for p, spoilt in bad.items()}
        if not anywhere(bool(bad), [p for _, p in where]):
            return grads
        if self.nan_policy == "skip":
            return None
        places = [i for i, p in enumerate(p for g in self.param_groups for p in g["params"]) if p in bad]
        named = f"parameter number {places[0]} of shape {tuple(next(iter(bad)).shape)}" if places else "another process"
        count = sum(int(spoilt.sum()) for spoilt in bad.values())
        raise NonFiniteGradientError(
            f"step {phases[0].step}: {count} gradient entries are NaN or infinite, first in {named}; nothing was "
            'changed. Find the cause, or use nan_policy="skip" or "zero"'
        )

    def _harmful(self, p: Tensor, g: Tensor, phase: _Phase) -> Tensor:
        """Entries that would spoil the moments: NaN, and infinities that are not clipped."""
        state = self.state[p]
        if phase.root is None or "exp_avg_sq" not in state or phase.resets:
            return ~g.isfinite()
        v = local(state["exp_avg_sq"])
        chosen = self._positions(p)
        clipped = torch.ones_like(g, dtype=torch.bool)
        if self.guard_zero_v:
            if chosen is None:
                clipped = v > 0
            else:
                clipped.view(-1)[chosen] = v > 0
        return g.isnan() | (g.isinf() & ~clipped)

    def _reset(self, number: int, grads: dict[Tensor, Tensor]) -> None:
        group = self.param_groups[number]
        group["resets"] += 1
        self._totals[number] = [0, 0]
        for p in group["params"]:
            state = self.state.get(p)
            if not state:
                continue
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()
            if self.bias_correction == "restart":
                state["step"].zero_()
            if self._sparse(p, group):
                self._choose(p, group, grads.get(p))

    def _update(self, number: int, phase: _Phase, grads: dict[Tensor, Tensor]) -> None:
        group = self.param_groups[number]
        present = [p for p in group["params"] if p in grads]
        self._clipped[number] = []
        for sparse in (False, True):
            members = [p for p in present if self._sparse(p, group) == sparse]
            if members:
                self._update_alike(number, members, sparse, phase, grads)
        for clipped, seen in self._clipped[number]:
            self._totals[number][0] += clipped
            self._totals[number][1] += seen

    def _update_alike(
        self, number: int, members: list[Tensor], sparse: bool, phase: _Phase, grads: dict[Tensor, Tensor]
    ) -> None:
        """Update parameters of one group that are all dense or all sparse."""
        group = self.param_groups[number]
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        weights: list[Tensor] = []
        used: list[Tensor] = []
        sizes: list[float] = []
        chosen: dict[Tensor, Tensor] = {}
        for p in members:
            state = self._state_of(p, group, grads[p])
            state["step"] += 1
            k = state["step"].item()
            sizes.append(lr * phase.scale * math.sqrt(1 - beta2**k) / (1 - beta1**k))
            weight, grad, positions = local(p), grads[p], self._positions(p)
            if positions is not None:
                chosen[p] = positions
                weight, grad = weight.reshape(-1)[positions], grad.reshape(-1)[positions]
            weights.append(weight)
            used.append(grad)
        decay = 0.0 if sparse and self.compat else lr * group["weight_decay"]
        update = SpamUpdate(
            beta1, beta2, group["eps"], decay, self._root(group, phase), self.guard_zero_v, self.clip_mode == "zero",
            self.maximize,
        )  # fmt: skip
        first, second = ([local(self.state[p][name]) for p in members] for name in ("exp_avg", "exp_avg_sq"))
        counts = self._apply(weights, used, first, second, sizes, update)
        self._clipped[number] += [(c, t.numel()) for c, t in zip(counts, used, strict=True)]
        for p, weight in zip(chosen, weights if chosen else [], strict=True):
            whole = local(p)
            flat = whole.view(-1) if whole.is_contiguous() else whole.reshape(-1)
            flat[chosen[p]] = weight
            if not whole.is_contiguous():
                whole.copy_(flat.view_as(whole))

    def _apply(
        self, p: list[Tensor], g: list[Tensor], m: list[Tensor], v: list[Tensor], sizes: list[float], update: SpamUpdate
    ) -> list[Tensor | int]:
        if self.foreach is None:
            return spam_step(p, g, m, v, sizes, update)
        groups = [range(len(p))] if self.foreach else [[i] for i in range(len(p))]
        counts: list[Tensor | int] = []
        for members in groups:
            pp, gg, mm, vv = ([t[i] for i in members] for t in (p, g, m, v))
            counts += spam_step_reference(pp, gg, mm, vv, [sizes[i] for i in members], update)
        return counts or [0] * len(p)

    def _root(self, group: dict[str, Any], phase: _Phase) -> float | None:
        """√θ, with the bias correction of v in it where that is asked for."""
        if phase.root is None or self.threshold_on == "raw":
            return phase.root
        seen = phase.step - 1 if phase.since_reset < 0 else phase.since_reset
        return phase.root / math.sqrt(1 - group["betas"][1] ** seen) if seen else None

    @staticmethod
    def _sparse(p: Tensor, group: dict[str, Any]) -> bool:
        return group["density"] < 1 and p.dim() >= group["min_ndim"]

    def _state_of(self, p: Tensor, group: dict[str, Any], grad: Tensor) -> dict[str, Any]:
        state = self.state[p]
        if state:
            return state
        dtype = work_dtype(p, self.state_dtype)
        state["step"] = torch.zeros((), dtype=torch.float32)
        if self._sparse(p, group):
            count = kept_entries(local(p).numel(), group["density"])
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros(count, dtype=dtype, device=local(p).device)
            self._choose(p, group, grad)
        else:
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(p, dtype=dtype)
        return state

    def _choose(self, p: Tensor, group: dict[str, Any], grad: Tensor | None) -> None:
        """A new mask for `p`, of the reset that its group is at."""
        weight, state = local(p), self.state[p]
        seeds = (self.seed, self._number_of(p), group["resets"])
        if weight is not p and torch.distributed.is_initialized():
            seeds = (*seeds, torch.distributed.get_rank())  # each process has another part
        count = kept_entries(weight.numel(), group["density"])
        name, stored = store_positions(
            draw(group["mask_strategy"], weight, grad, count, seeds), weight.numel()
        )  # fmt: skip
        state[name] = stored

    def _positions(self, p: Tensor) -> Tensor | None:
        """The entries of `p` that have moments (None: all of them)."""
        state = self.state[p]
        if "bits" in state:
            return unpack(state["bits"])
        return state["index"].long() if "index" in state else None

    def _number_of(self, p: Tensor) -> int:
        return next(i for i, q in enumerate(q for g in self.param_groups for q in g["params"]) if q is p)
