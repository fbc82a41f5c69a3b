"""When to stop: criteria that look at the output accumulated so far, all behind one interface.

A criterion gives each sample a score at each step; the sample is finished at the first step whose score exceeds the
threshold, and at the last step in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import State


def _number(name: str, value: float, low: float = -math.inf, strict: bool = False) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if not fits or value < low or (strict and value == low):
        expected = "a number" if low == -math.inf else f"a number {'>' if strict else '>='} {low:g}"
        raise ArgumentError(f"{name} must be {expected}, got {value!r}")
    return float(value)


class Criterion:
    """Base of the criteria.

    Attributes:
        threshold: a score above it ends a sample.
    """

    threshold: float = 0.0

    def begin(self, indices: Tensor, x: Tensor | None = None) -> State:
        """State of samples that start: a tuple of tensors with one row a sample.

        `indices` `[N]` number the samples of the data set, so that what is drawn for a sample does not depend on the
        batch; `x` are the samples themselves, for criteria that look at them.
        """
        del indices, x
        return ()

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        """Scores `[N]` after step `t` (`[N]`, from 1) of the sums of logits `[N, K]` so far, and the new state."""
        raise ArgumentError(f"{type(self).__name__} does not define score")

    def scores(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        """Scores `[T, N]` of recorded per-step logits `[T, N, K]`; sample n has the index n."""
        steps, samples, _ = logits.shape
        state, total, found = self.begin(torch.arange(samples), x), torch.zeros_like(logits[0]), []
        for t in range(steps):
            total = total + logits[t]
            score, state = self.score(total, torch.full((samples,), t + 1), state)
            found.append(score)
        return torch.stack(found)


def _work(accumulated: Tensor) -> Tensor:
    return accumulated.float() if accumulated.dtype in (torch.float16, torch.bfloat16) else accumulated


class DynamicConfidence(Criterion):
    """max softmax(U_t / α) > threshold (Li, Jones, Furber, ICCV 2023).

    U_t is the *sum* of the logits of t steps, so early confidence is damped. α = 30 and 0.6 are those of the published
    demo; `calibrate` chooses the threshold.
    """

    def __init__(self, threshold: float = 0.6, alpha: float = 30.0) -> None:
        self.threshold, self.alpha = _number("threshold", threshold), _number("alpha", alpha, 0.0, strict=True)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        return torch.softmax(_work(accumulated) / self.alpha, -1).amax(-1), state


class Entropy(Criterion):
    """1 − H(softmax(U_t / α)) / ln K > threshold (as in DT-SNN; SEENN with entropy)."""

    def __init__(self, threshold: float = 0.8, alpha: float = 1.0) -> None:
        self.threshold, self.alpha = _number("threshold", threshold), _number("alpha", alpha, 0.0, strict=True)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        log = torch.log_softmax(_work(accumulated) / self.alpha, -1)
        return 1 + (log.exp() * log).sum(-1) / math.log(max(log.shape[-1], 2)), state


class Gap(Criterion):
    """U_(1) − U_(2) > threshold: the lead of the best class, in accumulated logits.

    `per_step` gives a bound for each step instead (Top-K cutoff); steps beyond it use the last.
    """

    def __init__(self, threshold: float = 1.0, per_step: Sequence[float] | None = None) -> None:
        self.threshold = 0.0 if per_step is not None else _number("threshold", threshold)
        self.per_step = None if per_step is None else torch.tensor([_number("per_step", b) for b in per_step])
        if self.per_step is not None and self.per_step.numel() == 0:
            raise ArgumentError("per_step must hold at least one bound")

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        best = _work(accumulated).topk(min(2, accumulated.shape[-1]), -1).values
        lead = best[..., 0] - best[..., -1]
        if self.per_step is None:
            return lead, state
        return lead - self.per_step.to(lead)[(t - 1).clamp(max=len(self.per_step) - 1).to(lead.device)], state

    @classmethod
    def cutoff(cls, logits: Tensor, labels: Tensor, accuracy: float) -> Gap:
        """Bounds per step such that the calibration samples that leave at a step reach `accuracy` (Top-K cutoff).

        Each bound is the smallest lead above which at least that share of all samples is right; infinite where none is.
        """
        check_recorded(logits, labels)
        gap, bounds = cls(), []
        leads, right = gap.scores(logits), (logits.cumsum(0).argmax(-1) == labels)
        for lead, good in zip(leads, right, strict=True):
            order = lead.argsort(descending=True)
            share = good[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
            fits = (share >= accuracy).nonzero().flatten()
            bounds.append(
                math.inf
                if not len(fits)
                else float(torch.nextafter(lead[order[fits[-1]]], torch.tensor(-math.inf).to(lead)))
            )
        return cls(per_step=bounds)


class Patience(Criterion):
    """The prediction has been the same for `steps` steps."""

    def __init__(self, steps: int = 2) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
        self.threshold = steps - 0.5

    def begin(self, indices: Tensor, x: Tensor | None = None) -> State:
        return torch.full_like(indices, -1), torch.zeros_like(indices)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        last, run = state
        now = accumulated.argmax(-1)
        run = torch.where(now == last, run + 1, torch.ones_like(run))
        return run.to(_work(accumulated).dtype), (now, run)


class FixedSteps(Criterion):
    """Every sample takes `steps` steps: the control that any criterion has to beat."""

    def __init__(self, steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
        self.threshold = steps - 0.5

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        return t.to(_work(accumulated).dtype), state


class RandomLike(Criterion):
    """Each sample stops at a step drawn from `histogram` (weights of the steps 1..T): the other control.

    The draw depends on `seed` and the index of the sample only.
    """

    threshold = 0.0

    def __init__(self, histogram: Sequence[float], seed: int = 0) -> None:
        weights = np.asarray(histogram, dtype=np.float64)
        if (
            weights.ndim != 1
            or not len(weights)
            or not np.isfinite(weights).all()
            or weights.min() < 0
            or weights.sum() == 0
        ):
            raise ArgumentError("histogram must hold a weight >= 0 for each step, not all zero")
        self.seed, self._cumulative = seed, np.cumsum(weights / weights.sum())

    def begin(self, indices: Tensor, x: Tensor | None = None) -> State:
        draws = [np.random.default_rng((self.seed, int(i))).random() for i in indices]
        steps = np.minimum(np.searchsorted(self._cumulative, draws, side="right"), len(self._cumulative) - 1) + 1
        return (torch.as_tensor(steps, device=indices.device),)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        return (t - state[0]).to(_work(accumulated).dtype) + 0.5, state


class Conformal(Criterion):
    """The conformal prediction set has at most `size` classes (SpikeCP).

    Each step has a quantile of the calibration samples' −log p(y), at level 1 − miss/T (Bonferroni over T steps), so
    that the set of the step a sample stops at holds the right class with probability at least 1 − `miss`, whatever
    the model, for exchangeable data. `sets` gives the sets.
    """

    def __init__(self, quantiles: Tensor, size: int = 1, alpha: float = 1.0) -> None:
        if quantiles.dim() != 1 or quantiles.numel() == 0 or bool(torch.isnan(quantiles).any()):
            raise ArgumentError(f"quantiles must be one number a step, got shape {tuple(quantiles.shape)}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"size must be an integer >= 1, got {size!r}")
        self.quantiles, self.alpha = quantiles, _number("alpha", alpha, 0.0, strict=True)
        self.threshold = -(size + 0.5)

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor, miss: float = 0.1, size: int = 1, alpha: float = 1.0) -> Conformal:
        """Quantiles from calibration logits `[T, N, K]` and labels `[N]`, for a coverage of 1 − `miss`."""
        check_recorded(logits, labels)
        if not (isinstance(miss, float) and 0 < miss < 1):
            raise ArgumentError(f"miss must be a probability between 0 and 1, got {miss!r}")
        steps, samples, _ = logits.shape
        log = torch.log_softmax(_work(logits).cumsum(0) / alpha, -1)
        strange = -log.gather(-1, labels.view(1, -1, 1).expand(steps, samples, 1)).squeeze(-1)
        rank = math.ceil((samples + 1) * (1 - miss / steps))
        if rank > samples:  # too few samples for that coverage: every class belongs to the set
            return cls(torch.full((steps,), math.inf, dtype=strange.dtype), size, alpha)
        return cls(strange.sort(1).values[:, rank - 1], size, alpha)

    def sets(self, accumulated: Tensor, t: Tensor) -> Tensor:
        """Boolean `[N, K]`: the classes in each sample's set after step `t`."""
        log = torch.log_softmax(_work(accumulated) / self.alpha, -1)
        bound = self.quantiles.to(log)[(t - 1).clamp(max=len(self.quantiles) - 1).to(log.device)]
        return -log <= bound.unsqueeze(-1)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        return -self.sets(accumulated, t).sum(-1).to(_work(accumulated).dtype), state


class LearnedPolicy(Criterion):
    """A small net looks at the input once and names the step to stop at (SEENN-II).

    `net` maps samples to logits over the steps 1..T; `train_policy` trains it.
    """

    threshold = 0.0

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    @torch.no_grad()
    def begin(self, indices: Tensor, x: Tensor | None = None) -> State:
        if x is None:
            raise ArgumentError("x: a learned policy needs the samples themselves")
        return (self.net(x).argmax(-1) + 1,)

    def score(self, accumulated: Tensor, t: Tensor, state: State) -> tuple[Tensor, State]:
        return (t - state[0]).to(_work(accumulated).dtype) + 0.5, state


def train_policy(
    net: nn.Module, x: Tensor, logits: Tensor, labels: Tensor, beta: float = 1.0, epochs: int = 20, lr: float = 1e-3,
    batch: int = 64,
) -> LearnedPolicy:  # fmt: skip
    """Train a policy net `x → [N, T]` on samples whose per-step logits `[T, N, K]` are recorded (SEENN-II's loss).

    With p = softmax(net(x)), the loss of a sample is w Σ_k p_k (β (1 − right_k) − 2^−k right_k), k from 0; samples that
    the first step gets right have w = 1, the others are weighted to balance them.
    """
    check_recorded(logits, labels)
    _number("beta", beta, 0.0, strict=True)
    right = (logits.cumsum(0).argmax(-1) == labels).T.float()
    first = float(right[:, 0].mean().clamp(0.01, 0.99))
    weight = torch.where(right[:, 0] > 0, 1.0, first / (1 - first))
    value = beta * (1 - right) - 0.5 ** torch.arange(right.shape[1]) * right
    optimizer = torch.optim.Adam(net.parameters(), lr)
    net.train()
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            (weight[part] * (torch.softmax(net(x[part]), -1) * value[part]).sum(-1)).mean().backward()
            optimizer.step()
    net.eval()
    return LearnedPolicy(net)


def check_recorded(logits: Any, labels: Any = None) -> None:
    """Raise for logits that are not finite `[T, N, K]` with T, N, K >= 1, or labels that do not go with them."""
    if not isinstance(logits, Tensor) or logits.dim() != 3 or 0 in logits.shape or not logits.is_floating_point():
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ShapeError(f"logits must be [T, N, K] with at least one step, sample and class, got {shape}")
    if not bool(torch.isfinite(logits).all()):
        raise ArgumentError("logits hold NaN or infinity; no step of such a net can be trusted")
    if labels is None:
        return
    samples, classes = logits.shape[1:]
    if not isinstance(labels, Tensor) or tuple(labels.shape) != (samples,) or labels.is_floating_point():
        raise ShapeError(f"labels must be integers [{samples}], got {getattr(labels, 'shape', labels)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ArgumentError(f"labels must be 0 .. {classes - 1}, got {int(labels.min())} to {int(labels.max())}")
