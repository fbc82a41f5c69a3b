"""Every energy model by name: one count, one block of figures for each, never one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ranvier.errors import ArgumentError, nearest
from ranvier.measure.energy.as_built import as_built
from ranvier.measure.energy.bit_serial import bit_serial
from ranvier.measure.energy.estimate import Estimate
from ranvier.measure.energy.lemaire import lemaire2022
from ranvier.measure.energy.paper import paper
from ranvier.measure.report import Report


@dataclass(frozen=True)
class Setting:
    """What the models share: number format, memory (preset or pJ a bit), width of the bit-serial twin."""

    compute: str = "fp32"
    memory: str | float = "step"
    bits: int = 4


ENERGY_MODELS: dict[str, Callable[[Report, Setting], Estimate]] = {
    "paper": lambda report, _: paper(report),
    "event": lambda report, s: as_built(report, s.compute, memory=s.memory, flow="event"),
    "tiled": lambda report, s: as_built(report, s.compute, memory=s.memory, flow="tiled"),
    "lemaire2022": lambda report, _: lemaire2022(report),
    "bit_serial": lambda report, s: bit_serial(report, s.bits, compute=s.compute, memory=s.memory),
}
"""The recipe of publications; the platform's own model, event by event and tiled; Lemaire et al. 2022; the quantised,
bit-serial twin."""

ENERGY_MODEL_TITLES: dict[str, str] = {
    "paper": "recipe of publications: 4.6 pJ a MAC, 0.9 pJ an AC",
    "event": "as built with memory, event by event",
    "tiled": "as built with memory, ideal reuse",
    "lemaire2022": "Lemaire et al. 2022, every access",
    "bit_serial": "quantised formal twin, bit-serial",
}
"""Each of `ENERGY_MODELS` in a few words."""


def all_models(
    report: Report,
    models: Sequence[str] | None = None,
    *,
    compute: str = "fp32",
    memory: str | float = "step",
    bits: int = 4,
) -> dict[str, Estimate]:
    """Estimates of one inference by each of `models` (default: all of `ENERGY_MODELS`), by name.

    They answer different questions with different constants: compare nets within one model, not models.

    Args:
        report: of `ranvier.measure.count(..., activation_bits=bits)`.
        compute: number format of the platform's model and of the bit-serial additions.
        memory: preset or pJ a bit of both; "step" is the 3.12 pJ of Shen et al. (STEP, 2025).
        bits: width of the bit-serial twin.

    Raises `ArgumentError` for an unknown model.
    """
    chosen = list(ENERGY_MODELS) if models is None else list(models)
    for name in chosen:
        if name not in ENERGY_MODELS:
            known = ", ".join(ENERGY_MODELS)
            raise ArgumentError(f"models: unknown energy model {name!r}{nearest(name, ENERGY_MODELS)}; known: {known}")
    setting = Setting(compute, memory, bits)
    return {name: ENERGY_MODELS[name](report, setting) for name in chosen}
