"""Cascade polynomial regression: recovery, the published layout, and its limits."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from ranvier.diffusion import CascadePolynomialRegression, OutsideFitWarning
from ranvier.errors import ArgumentError, ConfigError

NFES, CFGS = (5, 6, 8, 10, 12, 15), (1.5, 3.0, 5.0, 7.5, 9.0)
TABLE = {
    (5, 7.5): [1, 1, 1.03, 0.74, 1.23],
    (5, 3.0): [1, 1, 1.00, 0.82, 1.37],
    (6, 7.5): [1, 1, 1.02, 0.94, 0.75, 1.21],
    (8, 7.5): [1, 1, 0.69, 1.04, 1.01, 0.85, 0.83, 1.19],
    (10, 7.5): [1, 1, 0.44, 0.90, 1.06, 1.04, 0.94, 0.86, 0.91, 1.18],
    (10, 1.5): [1, 1, 1.07, 1.04, 1.07, 1.14, 1.22, 1.30, 1.34, 1.33],
}


@pytest.fixture
def synthetic() -> CascadePolynomialRegression:
    regression = CascadePolynomialRegression()
    regression.coefficients = np.random.default_rng(0).normal(size=(4, 3, 3, 1))
    regression.box = ((5.0, 15.0), (1.5, 9.0))
    return regression


@pytest.fixture
def fitted(synthetic: CascadePolynomialRegression) -> CascadePolynomialRegression:
    records = [(n, f, synthetic.raw(n, f)) for n in NFES for f in CFGS]
    return CascadePolynomialRegression().fit(records)


def test_recovers_its_own_predictions(synthetic, fitted) -> None:
    for nfe in range(5, 16):
        for cfg in (1.5, 2.0, 6.0, 9.0):
            np.testing.assert_allclose(fitted.raw(nfe, cfg), synthetic.raw(nfe, cfg), atol=1e-8)
    assert fitted.coefficients is not None
    assert fitted.coefficients.size == 36
    assert fitted.box == ((5.0, 15.0), (1.5, 9.0))


def test_published_layout(fitted, tmp_path: Path) -> None:
    """x ascending, then f², f, 1, then n², n, 1."""
    numbers = fitted.official().reshape(4, 3, 3)
    n, f, nfe = 8 / 50, 3.0 / 12, 8
    for k in (3, 8):
        x = k / nfe
        by_hand = sum(
            x**i * sum(numbers[i, j] @ [n**2, n, 1] * w for j, w in enumerate((f**2, f, 1))) for i in range(4)
        )
        assert fitted.raw(8, 3.0)[k - 1] == pytest.approx(by_hand, rel=1e-12)
    fitted.save(tmp_path / "c.npy")
    loaded = CascadePolynomialRegression.load(tmp_path / "c.npy")
    np.testing.assert_array_equal(loaded.official(), fitted.official())


def test_published_coefficients_give_the_table(ranvier_data: Path) -> None:
    path = ranvier_data / "dc_solver" / "sd2.1.npy"
    if not path.exists():
        pytest.skip(f"the published coefficient file is not at {path}")
    regression = CascadePolynomialRegression.load(path)
    for (nfe, cfg), ratios in TABLE.items():
        np.testing.assert_allclose(regression.predict(nfe, cfg), ratios, atol=0.0051)
    assert regression.raw(25, 12.0).max() == pytest.approx(3.77, abs=0.01)


def test_clipped_and_guarded(fitted) -> None:
    values = fitted.predict(10, 5.0)
    assert values[:2] == (1.0, 1.0)
    assert all(0.4 <= v <= 1.6 for v in values)
    for nfe, cfg in ((25, 5.0), (10, 12.0), (3, 5.0)):
        with pytest.warns(OutsideFitWarning):
            assert fitted.predict(nfe, cfg) == (1.0,) * nfe
    with pytest.warns(OutsideFitWarning):
        assert fitted.predict(10, 12.0, outside="clamp") == fitted.predict(10, 9.0)
    with pytest.warns(OutsideFitWarning):
        assert len(fitted.predict(25, 5.0, outside="clamp")) == 25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(5, 1.5)


def test_time_steps_as_fourth_input(tmp_path: Path) -> None:
    def ratios(nfe: int, cfg: float, steps: int) -> list[float]:
        return [1.0, 1.0] + [1 + 0.1 * k / nfe + 0.02 * cfg - 0.03 * steps for k in range(3, nfe + 1)]

    records = [(n, f, ratios(n, f, T), T) for n in NFES for f in CFGS for T in (4, 8)]
    fitted = CascadePolynomialRegression(deg_steps=1, clip=(0.1, 3.0)).fit(records)
    fitted.save(tmp_path / "c.json")
    loaded = CascadePolynomialRegression.load(tmp_path / "c.json")
    np.testing.assert_allclose(loaded.predict(9, 2.0, steps=6), ratios(9, 2.0, 6), atol=1e-7)
    with pytest.raises(ArgumentError, match="steps"):
        loaded.predict(9, 2.0)


def test_refuses(fitted, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="CFG"):
        CascadePolynomialRegression().fit([(n, 3.0, [1.0] * n) for n in NFES])
    with pytest.raises(ArgumentError, match="must hold 5 ratios"):
        CascadePolynomialRegression().fit([(5, 3.0, [1.0] * 4)])
    with pytest.raises(ArgumentError, match="records"):
        CascadePolynomialRegression().fit([])
    with pytest.raises(ArgumentError, match="fit or load"):
        CascadePolynomialRegression().raw(5, 3.0)
    with pytest.raises(ArgumentError, match="nfe"):
        fitted.predict(0, 3.0)
    with pytest.raises(ConfigError, match="36"):
        CascadePolynomialRegression.from_official(np.zeros(35))
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"bad\.npy"):
        CascadePolynomialRegression.load(tmp_path / "bad.npy")
    (tmp_path / "bad.json").write_text('{"kind": "cascade_polynomial_regression", "degrees": [3]}')
    with pytest.raises(ConfigError, match=r"bad\.json"):
        CascadePolynomialRegression.load(tmp_path / "bad.json")
