"""Gains that follow single stimuli: the exact rule, the two-phase rule, and the local one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ranvier.circuits.objective import GainObjective
from ranvier.errors import ArgumentError, ShapeError

Rule = Literal["exact", "two_phase", "local"]


def gain_step(objective: GainObjective, g: Tensor, drive: Tensor, rule: Rule = "exact") -> Tensor:
    """Minus half the (approximate) gradient of the objective at one stimulus or a batch, `[..., N]`.

    `exact` is f ∘ (Mᵀ (Dᵀ(Dr − f) + αr)) + γ(g − 1). `two_phase` gets Mᵀe by letting the transposed circuit settle
    with the error e as its input. `local` is f² ∘ (g − 1) + α f ∘ r + γ(g − 1): a product of a neuron's own drive and
    its own response, which takes D = M⁻¹ and Mᵀ ≈ I. `g` and `drive` are `[..., N]`.
    """
    n = objective.circuit.neurons
    if drive.dim() == 0 or drive.shape[-1] != n:
        raise ShapeError(f"drive must be [..., {n}], got shape {tuple(drive.shape)}")
    r = objective.circuit.steady_state(objective.gains(g) * drive)
    rest = objective.gamma * (g - 1)
    if rule == "local":
        return -(drive * drive * (g - 1) + objective.alpha * drive * r + rest)
    if rule not in ("exact", "two_phase"):
        raise ArgumentError(f"rule must be 'exact', 'two_phase' or 'local', got {rule!r}")
    error = (r @ objective.decoder.T - drive) @ objective.decoder + objective.alpha * r
    if rule == "exact":
        back = error @ objective.matrix
    else:
        from ranvier.circuits.recurrent import LinearRecurrent

        circuit = objective.circuit
        back = LinearRecurrent(circuit.weights.detach().T, circuit.tau, circuit.scale).settle(error)
    return -(drive * back + rest)


def adapt(
    objective: GainObjective, p: Tensor, start: Tensor, steps: int, rate: float, rule: Rule = "exact",
    batch: int | None = None, generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Gains `[N]` after `steps` online updates under the ensemble `p` (`[S]`).

    Each step averages the rule over `batch` stimuli drawn from `p`, or over all of them weighted by `p` (None).
    """
    if not (isinstance(rate, int | float) and rate > 0):
        raise ArgumentError(f"rate must be a positive number, got {rate!r}")
    p = objective.probabilities(p)
    g = objective.gains(start).clone()
    for _ in range(steps):
        if batch is None:
            g = g + rate * (p.unsqueeze(1) * gain_step(objective, g, objective.drive, rule)).sum(0)
        else:
            drawn = torch.multinomial(p, batch, replacement=True, generator=generator)
            g = g + rate * gain_step(objective, g, objective.drive[drawn], rule).mean(0)
    return g
