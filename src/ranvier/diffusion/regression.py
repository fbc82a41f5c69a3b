"""Cascade polynomial regression: compensation ratios for numbers of steps and guidance that were never searched."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.diffusion.ratios import CompensationRatios, read_json
from ranvier.errors import ArgumentError, ConfigError
from ranvier.files import write_bytes
from ranvier.train.files import explained, write_json

NFE_UNIT, CFG_UNIT, STEPS_UNIT = 50.0, 12.0, 8.0
FREE = 2
"""The ratios of the first two transitions are 1: there is nothing to interpolate yet."""
_OFFICIAL_BOX = ((5.0, 20.0), (1.5, 9.0))
Record = CompensationRatios | tuple[Any, ...]


class OutsideFitWarning(UserWarning):
    """Ratios were asked for outside the range that a regression was fitted on; they are 1 there."""


@dataclass(frozen=True)
class _Example:
    nfe: int
    cfg: float
    steps: float
    ratios: tuple[float, ...]


class CascadePolynomialRegression:
    """A polynomial in transition, guidance and number of evaluations that predicts compensation ratios.

    With `n = NFE/50`, `f = CFG/12` and `x = k/NFE` for transition k = 1 .. NFE:
    `ρ = Σ_i x^i Σ_j f^j Σ_l c_ijl n^l` for k > 2, and 1 before. It is linear in its coefficients (36 by default), so it
    is fitted by least squares. For spiking denoisers, `deg_steps` adds the time steps, as T/8, as a fourth input.

    Args:
        deg_x, deg_cfg, deg_nfe, deg_steps: degrees; the published file has 3, 2, 2 (and 0).
        clip: range to which predictions are clipped.
        ridge: weight of the squared coefficients (in an orthonormal-like basis), per example.

    Attributes:
        coefficients: `[deg_x + 1, deg_cfg + 1, deg_nfe + 1, deg_steps + 1]`, ascending powers; None before `fit`.
        box: the fitted ranges of NFE and CFG (and of T), outside which predictions are not to be trusted.

    Source: DC-Solver (arXiv 2409.03755), section 3.3.
    """

    def __init__(
        self, deg_x: int = 3, deg_cfg: int = 2, deg_nfe: int = 2, deg_steps: int = 0,
        clip: tuple[float, float] = (0.4, 1.6), ridge: float = 1e-12,
    ) -> None:  # fmt: skip
        for name, degree in (("deg_x", deg_x), ("deg_cfg", deg_cfg), ("deg_nfe", deg_nfe), ("deg_steps", deg_steps)):
            if isinstance(degree, bool) or not isinstance(degree, int) or degree < 0:
                raise ArgumentError(f"{name} must be an integer >= 0, got {degree!r}")
        if not clip[0] <= 1 <= clip[1]:
            raise ArgumentError(f"clip must be a range around 1, got {clip!r}")
        if not ridge >= 0:
            raise ArgumentError(f"ridge must be >= 0, got {ridge!r}")
        self.degrees = (deg_x, deg_cfg, deg_nfe, deg_steps)
        self.clip = (float(clip[0]), float(clip[1]))
        self.ridge = float(ridge)
        self.coefficients: NDArray[np.float64] | None = None
        self.box: tuple[tuple[float, float], ...] = ()

    def fit(self, records: Iterable[Record]) -> CascadePolynomialRegression:
        """Fit to searched ratios; returns itself.

        A record is a `CompensationRatios` (its steps T from `found["T"]`), or `(nfe, cfg, ratios)`, or
        `(nfe, cfg, ratios, T)`. `ArgumentError` when they cannot determine the polynomial.
        """
        examples = [_example(record) for record in records]
        rows: list[NDArray[np.float64]] = []
        wanted: list[float] = []
        for example in examples:
            for k in range(FREE + 1, example.nfe + 1):
                rows.append(np.array(_inputs(k, example.nfe, example.cfg, example.steps)))
                wanted.append(example.ratios[k - 1])
        if not rows:
            raise ArgumentError(
                f"records must hold ratios of more than {FREE} transitions, got {len(examples)} records"
            )
        inputs, targets = np.stack(rows), np.asarray(wanted)
        low, high = inputs.min(0), inputs.max(0)
        for name, degree, values in zip(("x", "CFG", "NFE", "T"), self.degrees, inputs.T, strict=True):
            if len(np.unique(values)) <= degree:
                raise ArgumentError(
                    f"records have {len(np.unique(values))} different values of {name}, which do not determine a "
                    f"polynomial of degree {degree}; search more, or lower the degree"
                )
        # Each input mapped to −1 .. 1 and expanded in Chebyshev polynomials: there the problem is well conditioned.
        middle, half = (low + high) / 2, np.where(high > low, (high - low) / 2, 1.0)
        design = _tensor([np.polynomial.chebyshev.chebvander((inputs[:, d] - middle[d]) / half[d], degree)
                          for d, degree in enumerate(self.degrees)])  # fmt: skip
        penalty = np.sqrt(self.ridge * len(design)) * np.eye(design.shape[1])
        solved, _, rank, _ = np.linalg.lstsq(
            np.concatenate([design, penalty]), np.concatenate([targets, np.zeros(len(penalty))]), rcond=None
        )
        if self.ridge == 0 and rank < design.shape[1]:
            raise ArgumentError(
                f"records determine {rank} of {design.shape[1]} coefficients; search more, or use ridge"
            )
        self.coefficients = _to_powers(
            np.asarray(solved, np.float64).reshape([d + 1 for d in self.degrees]), middle, half
        )
        nfes, cfgs, steps = ([getattr(e, key) for e in examples] for key in ("nfe", "cfg", "steps"))
        box = [(float(min(nfes)), float(max(nfes))), (min(cfgs), max(cfgs))]
        self.box = tuple(box + ([(min(steps), max(steps))] if self.degrees[3] else []))
        return self

    def raw(self, nfe: int, cfg: float, steps: float = STEPS_UNIT) -> NDArray[np.float64]:
        """The polynomial itself for k = 1 .. nfe, neither clipped nor guarded; 1 for the first two."""
        if self.coefficients is None:
            raise ArgumentError("fit or load the regression before predicting with it")
        values = np.ones(nfe)
        for k in range(FREE + 1, nfe + 1):
            powers = [
                np.power(v, np.arange(d + 1)) for v, d in zip(_inputs(k, nfe, cfg, steps), self.degrees, strict=True)
            ]
            values[k - 1] = np.einsum("ijkl,i,j,k,l->", self.coefficients, *powers)
        return values

    def predict(
        self, nfe: int, cfg: float, steps: float | None = None, outside: Literal["ones", "clamp"] = "ones"
    ) -> tuple[float, ...]:
        """Ratios for `nfe` evaluations at guidance `cfg` (and T = `steps`), clipped to `clip`.

        Outside the fitted `box` they are all 1 with an `OutsideFitWarning` (`outside="ones"`), or those of the nearest
        point of the box ("clamp", same warning).
        """
        if isinstance(nfe, bool) or not isinstance(nfe, int) or nfe < 1:
            raise ArgumentError(f"nfe must be an integer >= 1, got {nfe!r}")
        if self.degrees[3] and steps is None:
            raise ArgumentError("steps (T) is needed: the regression was fitted with it")
        point = [float(nfe), float(cfg), float(STEPS_UNIT if steps is None else steps)]
        nearest = list(point)
        for i, (low, high) in enumerate(self.box):
            nearest[i] = min(max(point[i], low), high)
        if nearest != point:
            warnings.warn(
                f"NFE {nfe}, guidance {cfg:g} is outside the fitted range {self.box}: "
                + ("no compensation" if outside == "ones" else "ratios of the nearest point inside"),
                OutsideFitWarning, stacklevel=2,
            )  # fmt: skip
            if outside == "ones":
                return (1.0,) * nfe
        values = self.raw(nfe, nearest[1], nearest[2]) if nearest[0] == nfe else self._stretched(nfe, nearest)
        clipped = np.clip(values, *self.clip)
        clipped[:FREE] = 1.0
        return tuple(clipped.tolist())

    def _stretched(self, nfe: int, inside: Sequence[float]) -> NDArray[np.float64]:
        """The curve of the nearest fitted NFE, read at the places of `nfe` transitions."""
        fitted = round(inside[0])
        curve = self.raw(fitted, inside[1], inside[2])
        places = np.arange(1, fitted + 1) / fitted
        return np.interp(np.arange(1, nfe + 1) / nfe, places[FREE:], curve[FREE:]) if fitted > FREE else np.ones(nfe)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, or with the ending .npy the published layout (float64, x ascending, f and n descending)."""
        content = io.BytesIO()
        if Path(path).suffix == ".npy":
            np.save(content, self.official())
        with explained(f"write {path}"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            if Path(path).suffix == ".npy":
                write_bytes(Path(path), content.getvalue())
            else:
                write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CascadePolynomialRegression:
        """Read what `save` wrote, or a published .npy file of 36 numbers."""
        if Path(path).suffix != ".npy":
            return cls.from_json(read_json(path), str(path))
        try:
            numbers = np.load(path, allow_pickle=False)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # a broken header ends in whatever Python's own parser raises
            raise ConfigError(f"{path}: not a NumPy file of numbers ({error})") from error
        return cls.from_official(numbers)

    @classmethod
    def from_official(cls, numbers: Any) -> CascadePolynomialRegression:
        """From the published 36 numbers `[x ascending][f², f, 1][n², n, 1]`, fitted on NFE 5–20 and guidance 1.5–9."""
        try:
            values = np.asarray(numbers, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the published layout has 36 finite numbers ({error})") from error
        if values.size != 36 or not np.isfinite(values).all():
            raise ConfigError(f"the published layout has 36 finite numbers, got shape {values.shape}")
        regression = cls()
        regression.coefficients = values.reshape(4, 3, 3)[:, ::-1, ::-1, None].copy()
        regression.box = _OFFICIAL_BOX
        return regression

    def official(self) -> NDArray[np.float64]:
        """The 36 numbers in the published layout; `ArgumentError` for other degrees."""
        if self.coefficients is None or self.degrees != (3, 2, 2, 0):
            raise ArgumentError(f"the published layout needs fitted degrees (3, 2, 2), these are {self.degrees}")
        return self.coefficients[:, ::-1, ::-1, 0].copy().reshape(-1)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": 1, "kind": "cascade_polynomial_regression", "degrees": list(self.degrees),
            "clip": list(self.clip), "ridge": self.ridge, "box": [list(side) for side in self.box],
            "coefficients": None if self.coefficients is None else self.coefficients.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Any, where: str = "regression") -> CascadePolynomialRegression:
        """The inverse of `to_json`; `ConfigError` that names `where` for anything else."""
        if not isinstance(document, dict) or document.get("kind") != "cascade_polynomial_regression":
            raise ConfigError(f"{where}: not a file of a cascade polynomial regression")
        try:
            regression = cls(*document["degrees"], clip=tuple(document["clip"]), ridge=document["ridge"])
            coefficients = document["coefficients"]
            if coefficients is not None:
                regression.coefficients = np.asarray(coefficients, dtype=np.float64)
                if regression.coefficients.shape != tuple(d + 1 for d in regression.degrees):
                    raise ValueError(f"coefficients of shape {regression.coefficients.shape}")
            regression.box = tuple((float(low), float(high)) for low, high in document["box"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: damaged ({error})") from error
        return regression


def _example(record: Record) -> _Example:
    if isinstance(record, CompensationRatios):
        cfg = 1.0 if record.guidance is None else record.guidance
        return _Example(record.nfe, cfg, float(record.found.get("T", STEPS_UNIT)), record.values)
    if len(record) not in (3, 4):
        raise ArgumentError(f"a record must be CompensationRatios, (nfe, cfg, ratios) or with T, got {record!r:.80}")
    nfe, cfg, ratios = int(record[0]), float(record[1]), tuple(float(v) for v in record[2])
    if len(ratios) != nfe:
        raise ArgumentError(f"a record of NFE {nfe} must hold {nfe} ratios, got {len(ratios)}")
    return _Example(nfe, cfg, float(record[3]) if len(record) == 4 else STEPS_UNIT, ratios)


def _inputs(k: int, nfe: int, cfg: float, steps: float) -> tuple[float, float, float, float]:
    return k / nfe, cfg / CFG_UNIT, nfe / NFE_UNIT, steps / STEPS_UNIT


def _tensor(factors: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Row by row, the outer product of the factors' rows, flattened."""
    design = factors[0]
    for factor in factors[1:]:
        design = (design[:, :, None] * factor[:, None, :]).reshape(len(design), -1)
    return design


def _to_powers(
    chebyshev: NDArray[np.float64], middle: NDArray[np.float64], half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients of powers of the inputs from those of Chebyshev polynomials of `(v − middle)/half`."""
    powers = chebyshev
    for axis, size in enumerate(chebyshev.shape):
        scaled = np.polynomial.Polynomial([-middle[axis] / half[axis], 1 / half[axis]])
        change = np.zeros((size, size))
        for j in range(size):
            in_powers = np.polynomial.chebyshev.cheb2poly(np.eye(size)[j][: j + 1])
            expanded = np.polynomial.Polynomial(in_powers)(scaled).coef
            change[: len(expanded), j] = expanded
        powers = np.moveaxis(np.tensordot(change, powers, axes=(1, axis)), 0, axis)
    return powers
