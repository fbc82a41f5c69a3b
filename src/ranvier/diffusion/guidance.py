"""Denoisers: functions of a noisy sample and its time, counted, guided, or made of a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ranvier.diffusion.schedule import NoiseSchedule
from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import Stateful, carry

Denoiser: TypeAlias = Callable[[Tensor, float], Tensor]
"""`denoiser(x, t)`: a sample `[B, ...]` and its time (a Python number of the schedule) to a prediction like `x`."""


class Guided:
    """Classifier-free guidance `s · conditional + (1 − s) · unconditional` (Ho and Salimans, 2021), one evaluation.

    Args:
        conditional, unconditional: denoisers.
        scale: s; 1 is no guidance, and then only the conditional one is evaluated.
    """

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, scale: float) -> None:
        self.conditional, self.unconditional = conditional, unconditional
        self.guidance = guidance_scale(scale)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        if self.guidance == 1:
            return self.conditional(x, t)
        return torch.lerp(self.unconditional(x, t), self.conditional(x, t), self.guidance)


class NetworkDenoiser:
    """A denoising network as a function of sample and time.

    The network is called as `net(x, label)` or `net(x, label, classes)` with a label `[B]` per sample, in evaluation
    mode and without gradients unless `differentiable`. Guided, both halves share one pass of twice the batch. Carried
    neuron state never enters an evaluation, even inside `ranvier.carry`.

    Args:
        net: the network.
        schedule: gives the label of a time (`NoiseSchedule.label`).
        classes: int64 `[B]`, or None for an unconditional net.
        guidance: scale of classifier-free guidance, None or 1 for none.
        null: the label of "no class", needed for guidance.
        differentiable: keep the graph, for a search by gradient.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: NoiseSchedule,
        classes: Tensor | None = None,
        guidance: float | None = None,
        null: int | None = None,
        differentiable: bool = False,
    ) -> None:
        self.net, self.schedule, self.classes, self.null = net, schedule, classes, null
        self.guidance = None if guidance is None else guidance_scale(guidance)
        if self.guidance not in (None, 1.0) and (classes is None or null is None):
            raise ArgumentError("guidance needs classes and the label of no class (null)")
        self.differentiable = differentiable
        self._stateful = [module for module in net.modules() if isinstance(module, Stateful)]

    def __call__(self, x: Tensor, t: float) -> Tensor:
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            training = self.net.training
            self.net.eval()
            try:
                return self._evaluate(x, self.schedule.label(t))
            finally:
                self.net.train(training)

    def _evaluate(self, x: Tensor, label: float) -> Tensor:
        guided = self.guidance not in (None, 1.0)
        if self.classes is None:
            return self._call(x, torch.full((len(x),), label, device=x.device))
        if len(self.classes) != len(x):
            raise ShapeError(f"classes holds {len(self.classes)} labels for a batch of {len(x)} samples")
        if not guided:
            return self._call(x, torch.full((len(x),), label, device=x.device), self.classes)
        null = torch.full_like(self.classes, self.null or 0)
        labels = torch.full((2 * len(x),), label, device=x.device)
        both = self._call(torch.cat([x, x]), labels, torch.cat([null, self.classes]))
        free, conditional = both.chunk(2)
        return torch.lerp(free, conditional, self.guidance or 1.0)

    def _call(self, *inputs: Tensor) -> Tensor:
        if any(module._carried is not None for module in self._stateful):
            with carry(self.net):  # a memory of its own: every evaluation starts from the initial state
                return self.net(*inputs)
        return self.net(*inputs)


class Counted:
    """A denoiser that counts how often it was evaluated (`.calls`)."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.calls = denoiser, 0
        self.guidance = guidance_of(denoiser)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.calls += 1
        return self.denoiser(x, t)


def guidance_scale(scale: float) -> float:
    """`scale` as a number; `ArgumentError` unless it is finite and not negative."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale) or scale < 0:
        raise ArgumentError(f"guidance must be a finite number >= 0, got {scale!r}")
    return float(scale)


def guidance_of(denoiser: object) -> float | None:
    """The guidance scale that a denoiser says it has, else None."""
    return getattr(denoiser, "guidance", None)


def resolve(denoiser: Denoiser | tuple[Denoiser, Denoiser], guidance: float | None) -> Denoiser:
    """The one function to evaluate: a pair (conditional, unconditional) is guided by `guidance`."""
    if isinstance(denoiser, tuple):
        if len(denoiser) != 2 or guidance is None:
            raise ArgumentError("a tuple of denoisers must be (conditional, unconditional) and needs guidance")
        return Guided(denoiser[0], denoiser[1], guidance)
    if not callable(denoiser):
        raise ArgumentError(f"denoiser must be a function of (x, t), got {type(denoiser).__name__}")
    own = guidance_of(denoiser)
    if guidance is not None and own != guidance_scale(guidance):
        raise ArgumentError(
            f"guidance {guidance:g} was asked for, but the denoiser has {'none' if own is None else f'{own:g}'}; pass "
            "a pair (conditional, unconditional) or a denoiser with that guidance"
        )
    return denoiser
