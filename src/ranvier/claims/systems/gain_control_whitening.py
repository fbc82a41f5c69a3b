"""Adaptive whitening: what slow synapses learn makes fast gains reach further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranvier.claims.claim import Arm, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.figure import Figure, bars, curves
from ranvier.claims.rules import Bound, Order
from ranvier.claims.table import Table

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def context(basis: Tensor, generator: torch.Generator) -> Tensor:
    """Covariance (I + V diag(λ) Vᵀ)², λ uniform in [0, 10] and zero with probability ½."""
    import torch

    size = 10 * torch.rand(2, dtype=torch.float64, generator=generator)
    size = size * (torch.rand(2, generator=generator) < 0.5)
    inner = torch.eye(2, dtype=torch.float64) + (basis * size) @ basis.T
    return inner @ inner


def run(trial: Trial) -> Outcome:
    """Whitening errors over the gain steps of ten contexts that no synapse has seen."""
    import torch

    from ranvier.circuits import MultiTimescaleWhitening, random_frame

    assert trial.arm is not None
    generator = torch.Generator().manual_seed(trial.seed)
    basis, _ = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=generator))
    frame = random_frame(2, 2, generator)
    if trial.arm.settings["start"] == "truth":
        frame = basis.clone()
    rate = float(trial.arm.settings["rate"])
    circuit = MultiTimescaleWhitening(frame, trial.settings["gain_rate"], rate)
    for _ in range(trial.settings["contexts"] if rate else 0):
        circuit.learn_context(context(basis, generator), trial.settings["steps"])
    fresh = torch.Generator().manual_seed(1000 + trial.seed)
    errors = torch.stack(
        [circuit.learn_context(context(basis, fresh), trial.settings["steps"], learn=False) for _ in range(10)]
    ).mean(0)
    unit = circuit.frame / circuit.frame.norm(dim=0)
    overlap = (unit.T @ basis).abs().max(1).values.min()
    return Outcome(
        {"last": float(errors[-1]), "early": float(errors[min(50, len(errors) - 1)]), "overlap": float(overlap)},
        {"error": [(float(i), float(e)) for i, e in list(enumerate(errors))[::10]]},
    )


def _figures(table: Table) -> Sequence[Figure]:
    return (
        curves(table, "error", "Whitening error in a new context", "gain steps", "‖C − I‖² / N²"),
        bars(table, "last"),
        bars(table, "overlap"),
    )


CLAIM = Claim(
    name="gain_control_whitening",
    title="Synapses learned over many contexts let gains whiten new ones",
    system="adaptive gain control",
    paper="Duong, Simoncelli, Chklovskii, Lipshutz (2023), Adaptive whitening with fast gain modulation and slow "
    "synaptic plasticity, NeurIPS 2023, arXiv 2308.13633",
    statement="Where contexts share structure, slow synaptic learning finds it, and fast gains alone then whiten a "
    "context that was never seen.",
    question="With as few interneurons as neurons, is the error in new contexts lower after learning?",
    data="two-dimensional Gaussian contexts that share two directions; their strengths are drawn anew",
    arms=(
        Arm("random", "random synapses, gains adapt", {"start": "random", "rate": 0.0}),
        Arm("learned", "the same synapses after slow learning", {"start": "random", "rate": 1e-3}),
        Arm("shared", "the shared directions themselves", {"start": "truth", "rate": 0.0}),
    ),
    metrics=(
        Metric("last", "Whitening error after the last gain step", higher_is_better=False, digits=4),
        Metric("early", "Whitening error after 50 gain steps", higher_is_better=False, digits=4),
        Metric("overlap", "Cosine of the worst learned direction with a shared one", digits=3),
    ),
    rules=(
        Order("last", ("learned", "random")),
        Order("early", ("learned", "random")),
        Bound("overlap", "learned", at_least=0.95),
    ),
    scales={
        "quick": Scale(
            tuple(range(5)), 3, {"contexts": 60, "steps": 200, "gain_rate": 0.05}, "60 contexts to learn from"
        ),
        "tiny": Scale((0, 1), 0.1, {"contexts": 5, "steps": 60, "gain_rate": 0.05}, "5 contexts: shows nothing"),
    },
    run=run,
    figures=_figures,
)
