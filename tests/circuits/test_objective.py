"""Gains by closed form, by descent, online; the reference table of effects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ranvier.circuits import (
    GainObjective,
    LinearRecurrent,
    TunedPopulation,
    adapt,
    effects,
    gain_step,
    orientation_ensemble,
    orientation_network,
    stimulus_grid,
    tuning_shift,
    uniform_ensemble,
    width,
)
from ranvier.errors import ArgumentError, ShapeError

POPULATION = TunedPopulation()
DRIVE = POPULATION.drive(stimulus_grid())
UNIFORM = uniform_ensemble()


def made(excitation: float = 4.0, alpha: Any = 10.0, gamma: Any = 0.3, decoder: Any = "inverse") -> GainObjective:
    inhibition = -0.3 if excitation else 0.0
    return GainObjective(orientation_network(POPULATION, excitation, 12.0, inhibition), DRIVE, alpha, gamma, decoder)


def at(degrees: float) -> int:
    return round((degrees + 90) / 180 * 126) % 126


REFERENCE = [
    # w_E, alpha, gamma, g0, gain ratio at 0/30/90, max ratio at 0/90, change of minimum at 0, shift, CV, covariance
    (0, 10, 0.3, 0.3144, (0.594, 1.156, 1.158), (0.5938, 1.1584), 0.0, 0.0, (0.4733, 0.1845), (0.3781, 0.1472)),
    (4, 10, 0.3, 0.2598, (0.5436, 1.1906, 1.1733), (0.5753, 1.1733), -0.0166, 1.11, (0.6382, 0.2241), (0.2982, 0.1138)),
    (5, 3, 0.1, 0.3168, (0.7664, 1.1303, 1.1124), (0.7741, 1.1124), -0.0192, 1.01, (0.7162, 0.4302), (0.2548, 0.0969)),
    (5, 10, 0.3, 0.2252, (0.5164, 1.2124, 1.1829), (0.5640, 1.1829), -0.0312, 2.30, (0.7162, 0.2354), (0.2548, 0.1050)),
]


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: f"w{row[0]}-a{row[1]}")
def test_reference_effects(row: Any) -> None:
    excitation, alpha, gamma, g0, ratios, maxima, minimum, shift, cv, covariance = row
    objective, biased = made(excitation, alpha, gamma, "ridge"), orientation_ensemble(0.35)
    before, after = objective.solve(UNIFORM), objective.solve(biased)
    assert float(before[0]) == pytest.approx(g0, rel=2e-3)
    for degrees, ratio in zip((0, 30, 90), ratios, strict=True):
        assert float((after / before)[at(degrees)]) == pytest.approx(ratio, rel=2e-3)
    found = effects(objective.responses(before), objective.responses(after), biased, UNIFORM)
    for degrees, ratio in zip((0, 90), maxima, strict=True):
        assert float(found.maximum_ratio[at(degrees)]) == pytest.approx(ratio, rel=2e-3)
    assert float(found.minimum_change[at(0)]) == pytest.approx(minimum, abs=2e-4)
    assert float(found.shift.max()) == pytest.approx(shift, abs=1e-2)
    assert (found.variation_before, found.variation_after) == pytest.approx(cv, rel=2e-3)
    assert (found.covariance_before, found.covariance_after) == pytest.approx(covariance, rel=2e-3)


@pytest.mark.parametrize(
    ("p", "peak", "shift", "cv"), [(0.30, 0.6213, 0.91, (0.4862, 0.1705)), (0.50, 0.4901, 1.73, (1.0943, 0.3958))]
)
def test_reference_adapter_probabilities(p: float, peak: float, shift: float, cv: tuple[float, float]) -> None:
    objective, biased = made(decoder="ridge"), orientation_ensemble(p)
    curves = [objective.responses(objective.solve(e)) for e in (UNIFORM, biased)]
    found = effects(*curves, biased, UNIFORM)
    assert float(found.maximum_ratio[at(0)]) == pytest.approx(peak, rel=2e-3)
    assert float(found.shift.max()) == pytest.approx(shift, abs=1e-2)
    assert (found.variation_before, found.variation_after) == pytest.approx(cv, rel=2e-3)


def test_widths_of_the_responses() -> None:
    for excitation, expected in ((0, 20.0), (4, 27.0), (5, 33.6)):
        objective = made(excitation)
        assert width(objective.responses(torch.ones(126, dtype=torch.float64))[:, 63]) == pytest.approx(
            expected, abs=0.1
        )


def test_closed_form_is_the_minimum() -> None:
    objective, p = made(decoder="ridge"), orientation_ensemble(0.35)
    best = objective.solve(p)
    assert float(objective.grad(best, p).abs().max()) < 1e-10
    least = float(objective.loss(best, p))
    assert least == pytest.approx(35.076, rel=1e-4)
    assert float(objective.loss(torch.ones_like(best), p)) == pytest.approx(137.72, rel=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        others = best + torch.randn(20, 126, dtype=torch.float64, generator=generator)
        assert bool((objective.loss(others, p) >= least).all())
    eigenvalues = torch.linalg.eigvalsh(objective.system(p)[0])
    assert float(eigenvalues[0]) == pytest.approx(0.5186, rel=1e-3)
    assert float(eigenvalues[-1]) == pytest.approx(2.7265, rel=1e-3)
    torch.testing.assert_close(objective.descend(p, 300), best, rtol=0, atol=1e-8)


def test_the_gradient_is_that_of_the_loss() -> None:
    objective, p = made(), orientation_ensemble(0.5, centre=30)
    g = torch.randn(126, dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(objective.loss(g, p), g)
    torch.testing.assert_close(objective.grad(g.detach(), p), by_autograd, rtol=1e-9, atol=1e-9)


def test_without_recurrence_the_gains_have_a_formula() -> None:
    drive = torch.rand(30, 5, dtype=torch.float64)
    p = torch.softmax(torch.randn(30, dtype=torch.float64), 0)
    objective = GainObjective(LinearRecurrent(torch.zeros(5, 5, dtype=torch.float64)), drive, 2.0, 0.1)
    c = (p.unsqueeze(1) * drive.square()).sum(0)
    torch.testing.assert_close(objective.solve(p), (c + 0.1) / (c * 3 + 0.1), rtol=0, atol=1e-12)


def test_without_recurrence_nothing_shifts() -> None:
    objective, p = made(0), orientation_ensemble(0.35)
    curves = [objective.responses(objective.solve(e)) for e in (UNIFORM, p)]
    assert float(tuning_shift(*curves).abs().max()) < 1e-9


def test_symmetries() -> None:
    objective = made()
    even = objective.solve(UNIFORM)
    torch.testing.assert_close(even, even[:1].expand(126), rtol=0, atol=1e-10)
    # 10 stimuli of 420 are 3 neurons of 126
    turned = objective.solve(torch.roll(orientation_ensemble(0.35), 10))
    torch.testing.assert_close(turned, torch.roll(objective.solve(orientation_ensemble(0.35)), 3), rtol=0, atol=1e-10)


def test_limits() -> None:
    p = orientation_ensemble(0.35)
    assert float((made(gamma=1e9).solve(p) - 1).abs().max()) < 1e-6
    assert float((made(alpha=0.0).solve(p) - 1).abs().max()) < 1e-9


def test_more_adapter_and_dearer_activity_lower_the_peak_more() -> None:
    def ratio(p: float, alpha: float) -> float:
        objective = made(alpha=alpha)
        curves = [objective.responses(objective.solve(e)) for e in (UNIFORM, orientation_ensemble(p))]
        return float(effects(*curves, orientation_ensemble(p), UNIFORM).maximum_ratio[at(0)])

    assert ratio(0.3, 10) > ratio(0.4, 10) > ratio(0.5, 10)
    assert ratio(0.35, 2) > ratio(0.35, 5) > ratio(0.35, 10)


def test_contexts_are_solved_in_one_batch() -> None:
    objective = made()
    contexts = torch.stack([orientation_ensemble(p, c) for p, c in ((0.3, 0), (0.5, 30), (0.35, -60))]).unsqueeze(0)
    gains = objective.solve(contexts)
    assert gains.shape == (1, 3, 126)
    torch.testing.assert_close(gains[0, 1], objective.solve(contexts[0, 1]))
    assert objective.loss(gains, contexts).shape == (1, 3)
    assert objective.responses(gains).shape == (1, 3, 420, 126)


def test_gains_are_differentiable_in_everything() -> None:
    weights = 0.1 * torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    drive = torch.rand(7, 3, dtype=torch.float64)
    p = torch.full((7,), 1 / 7, dtype=torch.float64)

    def gains(w: Tensor, alpha: Tensor, gamma: Tensor, f: Tensor) -> Tensor:
        return GainObjective(LinearRecurrent(w), f, alpha, gamma).solve(p)

    inputs = [weights, torch.tensor(2.0).double(), torch.tensor(0.3).double(), drive]
    assert torch.autograd.gradcheck(gains, [x.requires_grad_() for x in inputs])


def test_nonnegative_gains() -> None:
    # two neurons that inhibit each other strongly, with a decoder that wants one of them negative
    circuit = LinearRecurrent(torch.tensor([[0.0, 0.9], [0.9, 0.0]], dtype=torch.float64))
    drive = torch.tensor([[1.0, 0.8], [0.6, 1.0], [1.0, 1.0]], dtype=torch.float64)
    objective = GainObjective(circuit, drive, 5.0, 0.01, decoder=torch.tensor([[1.0, -1.0], [0.0, 0.1]]).double())
    p = torch.full((3,), 1 / 3, dtype=torch.float64)
    free, bounded = objective.solve(p), objective.solve(p, nonnegative=True)
    assert float(free.min()) < 0 <= float(bounded.min())
    gradient = objective.grad(bounded, p)  # optimality: no gradient where the gain is free, none downwards at 0
    assert bool((gradient[bounded > 0].abs() < 1e-8).all()) and bool((gradient[bounded == 0] >= 0).all())
    torch.testing.assert_close(made().solve(UNIFORM, nonnegative=True), made().solve(UNIFORM))


def test_online_rules() -> None:
    objective, p = made(), orientation_ensemble(0.35)
    g = torch.rand(126, dtype=torch.float64)
    mean = (p.unsqueeze(1) * gain_step(objective, g, DRIVE)).sum(0)
    torch.testing.assert_close(-2 * mean, objective.grad(g, p), rtol=1e-9, atol=1e-9)
    some = DRIVE[::60]
    torch.testing.assert_close(
        gain_step(objective, g, some, "two_phase"), gain_step(objective, g, some), rtol=1e-6, atol=1e-7
    )
    exact = adapt(objective, p, torch.ones(126).double(), 400, 0.5)
    torch.testing.assert_close(exact, objective.solve(p), rtol=0, atol=1e-6)


def test_the_local_rule_does_nearly_as_well() -> None:
    objective, p = made(), orientation_ensemble(0.35)
    gains = [adapt(objective, e, torch.ones(126).double(), 600, 0.5, "local") for e in (UNIFORM, p)]
    assert float(gains[1][at(0)] / gains[0][at(0)]) == pytest.approx(0.571, abs=2e-3)
    found = effects(*(objective.responses(g) for g in gains), p, UNIFORM)
    assert float(found.maximum_ratio[at(0)]) == pytest.approx(0.601, abs=2e-3)
    assert found.variation_after == pytest.approx(0.247, abs=2e-3)
    assert float(found.shift.max()) == pytest.approx(0.98, abs=1e-2)


def test_stochastic_adaptation_lowers_the_loss() -> None:
    objective, p = made(), orientation_ensemble(0.5)
    start = objective.solve(UNIFORM)
    g = adapt(objective, p, start, 300, 0.1, batch=64, generator=torch.Generator().manual_seed(0))
    losses = [float(objective.loss(x, p)) for x in (start, g, objective.solve(p))]
    assert losses[2] <= losses[1] < 0.35 * losses[0] + 0.65 * losses[2]


def test_mistakes_are_named() -> None:
    objective = made()
    with pytest.raises(ArgumentError, match="sum of 1"):
        objective.solve(UNIFORM * 2)
    with pytest.raises(ShapeError, match=r"p must be \[\.\.\., 420\]"):
        objective.solve(UNIFORM[:10])
    with pytest.raises(ArgumentError, match="alpha"):
        made(alpha=-1)
    with pytest.raises(ArgumentError, match="decoder"):
        made(decoder="best")
    with pytest.raises(ArgumentError, match="gains must be finite"):
        objective.loss(torch.full((126,), float("nan")), UNIFORM)
    silent = DRIVE.clone()
    silent[:, 5] = 0
    with pytest.raises(ArgumentError, match="never driven needs gamma"):
        GainObjective(orientation_network(), silent, 1.0, 0.0).solve(UNIFORM)
    with pytest.raises(ArgumentError, match="p_adapt"):
        orientation_ensemble(1.2)
    with pytest.raises(ArgumentError, match="rule"):
        gain_step(objective, torch.ones(126).double(), DRIVE[0], "best")  # pyright: ignore[reportArgumentType]


def test_the_ensemble_has_its_probability_in_three_bins() -> None:
    for p in (0.3, 3 / 21, 0.5):
        e = orientation_ensemble(p)
        assert float(e.sum()) == pytest.approx(1)
        assert float(e[200:220].sum()) == pytest.approx(p / 2)
        assert float(e[180:240].sum()) == pytest.approx(p)
    torch.testing.assert_close(orientation_ensemble(3 / 21)[0], UNIFORM[0])
    torch.testing.assert_close(orientation_ensemble(0.3, centre=90), torch.roll(orientation_ensemble(0.3), 210))
