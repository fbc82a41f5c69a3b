"""Which sampler: every choice that changes its numbers, checked once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, cast

from ranvier.diffusion.coefficients import Form, Variant, check_form, check_order, check_variant
from ranvier.diffusion.prediction import Prediction, Threshold, prediction_named, threshold_named
from ranvier.errors import ArgumentError, nearest

Solver = Literal["dc", "unipc", "unip", "dpmpp_2m", "ddim"]
SOLVERS = ("dc", "unipc", "unip", "dpmpp_2m", "ddim")
_FIXED_ORDER = {"ddim": 1, "dpmpp_2m": 2}


@dataclass(frozen=True)
class SolverSettings:
    """The settings of `sample_ode`, which explains them; equal settings give equal numbers."""

    solver: Solver = "dc"
    order: int = 2
    variant: Variant = "bh2"
    form: Form = "data"
    prediction: Prediction = "epsilon"
    dc_order: int = 2
    corrector: bool = True
    skip_corrector: tuple[int, ...] = ()
    lower_order_final: bool = True
    halves: bool = True
    threshold: Threshold | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["skip_corrector"] = list(self.skip_corrector)
        values["threshold"] = None if self.threshold is None else [self.threshold.ratio, self.threshold.largest]
        return values

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SolverSettings:
        """The inverse of `to_json`, checked."""
        threshold = document["threshold"]
        values: dict[str, Any] = {key: value for key, value in document.items() if key != "threshold"}
        return settle(**values, thresholding=False if threshold is None else Threshold(*threshold))


def settle(
    solver: Solver = "dc",
    order: int = 2,
    variant: str = "bh2",
    prediction: str = "epsilon",
    form: str = "data",
    dc_order: int = 2,
    corrector: bool = True,
    skip_corrector: Collection[int] = (),
    lower_order_final: bool = True,
    halves: bool = True,
    thresholding: bool | Threshold = False,
) -> SolverSettings:
    """Checked settings; the solver decides the order and the corrector where it has only one."""
    if solver not in SOLVERS:
        raise ArgumentError(f"solver must be a sampler, got {solver!r}{nearest(str(solver), SOLVERS)}")
    check_order(order)
    check_variant(variant)
    check_form(form)
    if isinstance(dc_order, bool) or not isinstance(dc_order, int) or not 1 <= dc_order <= 8:
        raise ArgumentError(f"dc_order must be an integer in 1 .. 8, got {dc_order!r}")
    skipped = tuple(sorted({int(i) for i in skip_corrector}))
    if skipped and skipped[0] < 0:
        raise ArgumentError(f"skip_corrector must hold transitions counted from 0, got {skipped[0]}")
    corrects = bool(corrector) and solver in ("dc", "unipc")
    return SolverSettings(
        solver=solver, order=_FIXED_ORDER.get(solver, order), variant=cast("Variant", variant),
        form=cast("Form", form), prediction=prediction_named(prediction), dc_order=dc_order, corrector=corrects,
        skip_corrector=skipped if corrects else (), lower_order_final=bool(lower_order_final), halves=bool(halves),
        threshold=threshold_named(thresholding),
    )  # fmt: skip
