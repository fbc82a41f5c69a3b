"""Compensation ratios and where they come from, as one JSON file that refuses to be used for anything else."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranvier.diffusion.grid import TimeGrid
from ranvier.diffusion.settings import SolverSettings
from ranvier.errors import ArgumentError, ConfigError
from ranvier.train.files import explained, write_json

FORMAT = 1
_SAME_TIME = 1e-9


@dataclass(frozen=True)
class CompensationRatios:
    """Ratios of one grid, sampler, guidance and model; the result of `search_compensation_ratios`.

    Attributes:
        values: N ratios, one a transition; the first `dc_order` are 1.
        times, grid_kind, schedule: the grid and the fingerprint of its schedule.
        settings: of the sampler.
        guidance: scale, None for an unguided denoiser.
        model: who they are for, a free text ("" unknown).
        found: how they were searched: reference, method, loss, noises, errors to the reference at the end (`error`
            with the ratios, `error_of_ones` without), evaluations, and what else the caller notes (steps T, say).
    """

    values: tuple[float, ...]
    times: tuple[float, ...]
    grid_kind: str
    schedule: str
    settings: SolverSettings
    guidance: float | None = None
    model: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def nfe(self) -> int:
        """Evaluations of the denoiser, N."""
        return len(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Any:
        return iter(self.values)

    def __getitem__(self, index: int) -> float:
        return self.values[index]

    def options(self) -> dict[str, Any]:
        """The settings as keyword arguments of `sample_ode`."""
        s = self.settings
        return {
            "solver": s.solver, "order": s.order, "variant": s.variant, "prediction": s.prediction, "form": s.form,
            "dc_order": s.dc_order, "corrector": s.corrector, "skip_corrector": s.skip_corrector,
            "lower_order_final": s.lower_order_final, "halves": s.halves,
            "thresholding": False if s.threshold is None else s.threshold,
        }  # fmt: skip

    def check(
        self, grid: TimeGrid, settings: SolverSettings | None = None, guidance: float | None = None,
        model: str | None = None,
    ) -> None:  # fmt: skip
        """`ArgumentError` that names the first thing that differs from what the ratios were found for.

        `settings` and `model` are compared when given; `guidance` always, where None and 1 are both no guidance.
        """
        if grid.nfe != self.nfe:
            raise ArgumentError(f"ratios: found for NFE {self.nfe}, the grid has {grid.nfe}; search again for it")
        if grid.schedule.fingerprint() != self.schedule:
            raise ArgumentError(f"ratios: found for another noise schedule than {grid.schedule}")
        for i, (own, other) in enumerate(zip(self.times, grid.times, strict=True)):
            if abs(own - other) > _SAME_TIME * max(1.0, abs(own)):
                raise ArgumentError(
                    f"ratios: found for a grid {self.grid_kind!r} with times[{i}] = {own:g}, this grid "
                    f"({grid.kind!r}) has {other:g}"
                )
        if settings is not None:
            for name in settings.__dataclass_fields__:
                own, other = getattr(self.settings, name), getattr(settings, name)
                if own != other:
                    raise ArgumentError(f"ratios: found with {name}={own!r}, not {other!r}")
        own, other = (1.0 if g is None else g for g in (self.guidance, guidance))
        if own != other:
            raise ArgumentError(f"ratios: found for guidance {own:g}, not {other:g}")
        if model is not None and self.model and model != self.model:
            raise ArgumentError(f"ratios: found for the model {self.model!r}, not {model!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": FORMAT, "kind": "compensation_ratios", "ratios": list(self.values), "times": list(self.times),
            "grid_kind": self.grid_kind, "schedule": self.schedule, "settings": self.settings.to_json(),
            "guidance": self.guidance, "model": self.model, "found": self.found,
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Any, where: str = "ratios") -> CompensationRatios:
        """The inverse of `to_json`; `ConfigError` that names `where` for anything else."""
        if not isinstance(document, dict) or document.get("kind") != "compensation_ratios":
            raise ConfigError(f"{where}: not a file of compensation ratios")
        if document.get("format") != FORMAT:
            raise ConfigError(f"{where}: format {document.get('format')!r}, this version reads {FORMAT}")
        try:
            times = tuple(float(t) for t in document["times"])
            guidance = document["guidance"]
            return cls(
                values=as_ratios(document["ratios"], len(times) - 1), times=times,
                grid_kind=str(document["grid_kind"]), schedule=str(document["schedule"]),
                settings=SolverSettings.from_json(document["settings"]),
                guidance=None if guidance is None else float(guidance), model=str(document["model"]),
                found=dict(document["found"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: damaged ({error})") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, whole or not at all."""
        with explained(f"write {path}"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompensationRatios:
        """Read what `save` wrote; `ConfigError` when it is missing or something else."""
        return cls.from_json(read_json(path), str(path))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Plain data from a JSON file; `ConfigError` when it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from error


def as_ratios(values: Sequence[float], count: int) -> tuple[float, ...]:
    """`values` as `count` finite floats; `ArgumentError` otherwise."""
    ratios = tuple(float(v) for v in values)
    if len(ratios) != count:
        raise ArgumentError(f"ratios must hold one number a transition: {count} for NFE {count}, got {len(ratios)}")
    for i, value in enumerate(ratios):
        if not math.isfinite(value):
            raise ArgumentError(f"ratios[{i}] must be a finite number, got {value!r}")
    return ratios
