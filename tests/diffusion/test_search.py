"""The search: methods agree, compensation helps, results carry and check where they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ranvier.diffusion import (
    CompensationRatios,
    Counted,
    GaussianMixture,
    Guided,
    NoiseSchedule,
    SearchOptions,
    custom_grid,
    reference_trajectory,
    sample_ode,
    search_compensation_ratios,
    time_grid,
)
from ranvier.errors import ArgumentError, ConfigError, ShapeError

Noise = Callable[..., Tensor]


@pytest.fixture(scope="module")
def guided() -> Guided:
    """The conditional field of table 6.3's kind: two of eight components, guidance 7.5."""
    whole = GaussianMixture.random(8, 8, 0.25, NoiseSchedule.vp_linear(), seed=0)
    return Guided(whole.part([0, 1]), whole, 7.5)


def _error(found: Tensor, wanted: Tensor) -> float:
    return (found - wanted).square().mean().sqrt().item()


@pytest.mark.parametrize("nfe", [3, 5])
def test_methods_agree_without_corrector(mixture, noise: Noise, schedule, nfe: int) -> None:
    grid = time_grid(schedule, nfe)
    options = SearchOptions(golden=30, iterations=400, lr=0.02, weight_decay=0.0)
    found = [
        search_compensation_ratios(mixture, noise(10), grid, method=method, corrector=False, options=options)
        for method in ("grid", "adamw", "closed_form")
    ]
    for other in found[1:]:
        assert other.values == pytest.approx(found[0].values, abs=1e-3)
    assert found[0].values[:2] == (1.0, 1.0)
    assert found[0].values[2] != 1.0


def test_last_step_is_closed_form_by_default(mixture, noise: Noise, schedule) -> None:
    grid = time_grid(schedule, 4)
    options = SearchOptions(golden=30)
    auto, plain = (
        search_compensation_ratios(mixture, noise(10), grid, method=method, options=options)
        for method in ("auto", "grid")
    )  # fmt: skip
    assert auto.values == pytest.approx(plain.values, abs=1e-4)
    assert auto.found["evaluations"] < plain.found["evaluations"] + 1
    with pytest.raises(ArgumentError, match="transition 2 has a corrector"):
        search_compensation_ratios(mixture, noise(4), grid, method="closed_form")


@pytest.mark.parametrize("nfe,share", [(5, 0.8), (8, 0.6)])
def test_compensation_helps_on_other_noises(guided: Guided, noise: Noise, nfe: int, share: float) -> None:
    grid = time_grid(NoiseSchedule.vp_linear(), nfe)
    found = search_compensation_ratios(guided, noise(10, 8, seed=7), grid)
    x = noise(128, 8, seed=8)
    exact = reference_trajectory(guided, x, grid)[-1]
    plain = _error(sample_ode(guided, x, grid, "unipc"), exact)
    assert _error(sample_ode(guided, x, grid, ratios=found), exact) <= share * plain
    assert found.found["error"] < found.found["error_of_ones"]
    assert found.guidance == 7.5


def test_predictor_only_plug_in(guided: Guided, noise: Noise) -> None:
    grid = time_grid(NoiseSchedule.vp_linear(), 6)
    x = noise(64, 8, seed=9)
    exact = reference_trajectory(guided, x, grid)[-1]
    for solver in ("ddim", "dpmpp_2m"):
        found = search_compensation_ratios(guided, noise(10, 8, seed=7), grid, solver=solver)
        better = _error(sample_ode(guided, x, grid, solver, ratios=found), exact)
        assert better < _error(sample_ode(guided, x, grid, solver), exact)


def test_corrector_auto_keeps_the_better(guided: Guided, noise: Noise) -> None:
    grid, x = time_grid(NoiseSchedule.vp_linear(), 5), noise(10, 8, seed=7)
    both = [search_compensation_ratios(guided, x, grid, corrector=c) for c in (True, False)]
    auto = search_compensation_ratios(guided, x, grid, corrector="auto")
    assert auto.found["error"] == min(r.found["error"] for r in both)
    assert torch.isfinite(sample_ode(guided, x, grid, ratios=auto, **auto.options())).all()


def test_refining_together_ends_nearer(guided: Guided, noise: Noise) -> None:
    grid, x = time_grid(NoiseSchedule.vp_linear(), 5), noise(16, 8, seed=7)
    greedy = search_compensation_ratios(guided, x, grid)
    together = search_compensation_ratios(guided, x, grid, options=SearchOptions(rounds=1))
    assert together.found["error"] < greedy.found["error"]
    assert together.values[:2] == (1.0, 1.0)


def test_given_reference(mixture, noise: Noise, schedule) -> None:
    grid = time_grid(schedule, 4)
    states = reference_trajectory(mixture, noise(8), grid)
    a = search_compensation_ratios(mixture, noise(8), grid, reference=states)
    assert a.values == search_compensation_ratios(mixture, noise(8), grid).values
    with pytest.raises(ShapeError, match="reference"):
        search_compensation_ratios(mixture, noise(8), grid, reference=states[1:])


@pytest.mark.parametrize("loss", ["huber", "median"])
def test_robust_losses_ignore_an_outlier(mixture, noise: Noise, schedule, loss) -> None:
    grid, x = time_grid(schedule, 5), noise(9)
    states = reference_trajectory(mixture, x, grid)
    spoilt = states.clone()
    spoilt[:, 0] += 50 * torch.arange(6).view(6, 1)
    options = SearchOptions(golden=20)
    clean, robust, naive = (
        search_compensation_ratios(mixture, x, grid, reference=r, loss=name, options=options, corrector=False)
        for r, name in ((states, loss), (spoilt, loss), (spoilt, "mse"))
    )
    away = [max(abs(a - b) for a, b in zip(r.values, clean.values, strict=True)) for r in (robust, naive)]
    assert away[0] < 0.5 * away[1]


def test_not_differentiable_denoiser(noise: Noise, schedule) -> None:
    """A staircase: derivatives are zero, the search works all the same."""
    whole = GaussianMixture.random(4, 4, 0.25, schedule, seed=2)
    coarse = Counted(lambda x, t: (whole(x, t) * 16).round() / 16)
    grid = time_grid(schedule, 6)
    exact = reference_trajectory(whole, noise(48), grid)
    found = search_compensation_ratios(coarse, noise(48), grid, reference=exact)
    assert found.found["error"] < found.found["error_of_ones"]


def test_ratios_survive_a_file_and_know_what_they_are_for(mixture, noise: Noise, schedule, tmp_path: Path) -> None:
    grid = time_grid(schedule, 4)
    found = search_compensation_ratios(mixture, noise(6), grid, order=2, model="mixture")
    path = tmp_path / "ratios.json"
    found.save(path)
    loaded = CompensationRatios.load(path)
    assert loaded == found
    assert torch.equal(
        sample_ode(mixture, noise(), grid, ratios=loaded), sample_ode(mixture, noise(), grid, ratios=found)
    )
    refused = {
        "NFE 4": lambda: sample_ode(mixture, noise(), time_grid(schedule, 5), ratios=loaded),
        "grid": lambda: sample_ode(mixture, noise(), time_grid(schedule, 4, "logsnr"), ratios=loaded),
        "order=2": lambda: sample_ode(mixture, noise(), grid, order=3, ratios=loaded),
        "variant": lambda: sample_ode(mixture, noise(), grid, variant="bh1", ratios=loaded),
        "guidance": lambda: sample_ode((mixture.part([0]), mixture), noise(), grid, guidance=2.0, ratios=loaded),
        "schedule": lambda: sample_ode(
            mixture, noise(), custom_grid(NoiseSchedule.cosine(), [0.99, 0.7, 0.5, 0.2, 0.1]), ratios=loaded
        ),
        "model": lambda: loaded.check(grid, model="another"),
    }
    for what, attempt in refused.items():
        with pytest.raises(ArgumentError, match=what):
            attempt()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: "{",
        lambda d: "[]",
        lambda d: json.dumps({**d, "format": 9}),
        lambda d: json.dumps({**d, "ratios": d["ratios"][:-1]}),
        lambda d: json.dumps({**d, "settings": {**d["settings"], "order": 0}}),
        lambda d: json.dumps({k: v for k, v in d.items() if k != "times"}),
    ],
)
def test_damaged_files(mixture, noise: Noise, schedule, tmp_path: Path, spoil) -> None:
    found = search_compensation_ratios(mixture, noise(3), time_grid(schedule, 3))
    path = tmp_path / "ratios.json"
    path.write_text(spoil(found.to_json()))
    with pytest.raises(ConfigError, match=r"ratios\.json"):
        CompensationRatios.load(path)
    with pytest.raises(ConfigError, match=r"nothing\.json"):
        CompensationRatios.load(tmp_path / "nothing.json")


def test_refuses(mixture, noise: Noise, schedule) -> None:
    grid = time_grid(schedule, 3)
    for arguments, what in (
        ({"method": "newton"}, "method"), ({"loss": "mae"}, "loss"), ({"reference": "euler"}, "reference"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=what):
            search_compensation_ratios(mixture, noise(2), grid, **arguments)
    with pytest.raises(ArgumentError, match="range"):
        SearchOptions(low=1.5)
    assert math.isfinite(search_compensation_ratios(mixture, noise(2), time_grid(schedule, 1)).values[0])
