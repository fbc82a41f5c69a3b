"""Kinds of energy figures that cannot be mixed: as built, by a publication's recipe or model, of a quantised twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from ranvier.errors import ArgumentError

OpClass = Literal["AC", "MAC"]


@dataclass(frozen=True)
class LayerEnergy:
    """One layer's share, in pJ: `ops` operations of class `op_class`, then everything by kind (`parts`)."""

    name: str
    op_class: OpClass
    ops: float
    parts: dict[str, float]

    @property
    def total_pj(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class _Estimate:
    """Energy of one inference in pJ: by layer, with the constants and assumptions that it rests on."""

    kind: ClassVar[str] = ""

    layers: tuple[LayerEnergy, ...]
    constants: dict[str, float | str]
    assumptions: tuple[str, ...]

    @property
    def breakdown(self) -> dict[str, float]:
        """pJ by part, summed over the layers; the parts sum to the total."""
        parts: dict[str, float] = {}
        for layer in self.layers:
            for name, value in layer.parts.items():
                parts[name] = parts.get(name, 0.0) + value
        return parts

    @property
    def total_pj(self) -> float:
        """Energy of one inference."""
        return sum(layer.total_pj for layer in self.layers)

    @property
    def macs(self) -> float:
        """Multiply-accumulates that were charged."""
        return sum(layer.ops for layer in self.layers if layer.op_class == "MAC")

    @property
    def acs(self) -> float:
        """Accumulations that were charged."""
        return sum(layer.ops for layer in self.layers if layer.op_class == "AC")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "kind": self.kind,
            "total_pj": self.total_pj,
            "macs": self.macs,
            "acs": self.acs,
            "breakdown": self.breakdown,
            "constants": dict(self.constants),
            "assumptions": list(self.assumptions),
            "layers": [{**asdict(layer), "total_pj": layer.total_pj} for layer in self.layers],
        }

    def __add__(self, other: object) -> Any:
        raise ArgumentError("energy estimates are not summed: count both nets in one report instead")

    __radd__ = __add__


@dataclass(frozen=True)
class AsBuiltEnergy(_Estimate):
    """What the code really computes. `traffic_bits` holds the bits moved, by data flow and kind.

    The total includes the memory energy only where a memory was given.
    """

    kind: ClassVar[str] = "as_built"

    traffic_bits: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "traffic_bits": {flow: dict(bits) for flow, bits in self.traffic_bits.items()}}


@dataclass(frozen=True)
class PaperEnergy(_Estimate):
    """What a publication's recipe prints for the same net."""

    kind: ClassVar[str] = "paper"


@dataclass(frozen=True)
class LemaireEnergy(_Estimate):
    """By the analytical model of Lemaire et al. (2022): operations, addressing and every access to a memory."""

    kind: ClassVar[str] = "lemaire2022"


@dataclass(frozen=True)
class BitSerialEnergy(_Estimate):
    """Of the quantised, formal twin of a net on bit-serial hardware: one pass, no time."""

    kind: ClassVar[str] = "bit_serial"


Estimate = AsBuiltEnergy | PaperEnergy | LemaireEnergy | BitSerialEnergy
"""Any of the estimates; each kind answers a question of its own."""

E = TypeVar("E", AsBuiltEnergy, PaperEnergy, LemaireEnergy, BitSerialEnergy)


@dataclass(frozen=True)
class EnergyTable(Generic[E]):
    """Estimates of one kind, side by side."""

    kind: str
    estimates: dict[str, E]

    def rows(self) -> list[tuple[str, float, float, float]]:
        """(name, MACs, ACs, total in pJ), the cheapest first."""
        shown = [(name, e.macs, e.acs, e.total_pj) for name, e in self.estimates.items()]
        return sorted(shown, key=lambda row: row[3])


def table(estimates: Mapping[str, E]) -> EnergyTable[E]:
    """Put estimates of one kind in a table.

    Raises `ArgumentError` when figures of different kinds meet, for they answer different questions, or when figures of
    one kind rest on different constants.
    """
    if not estimates:
        raise ArgumentError("an energy table needs at least one estimate")
    for name, estimate in estimates.items():
        if not isinstance(estimate, _Estimate):
            raise ArgumentError(
                f"estimate {name!r} must come from a model of ranvier.measure.energy, got {type(estimate).__name__}"
            )
    kinds = {estimate.kind for estimate in estimates.values()}
    if len(kinds) > 1:
        raise ArgumentError(
            "energy estimates of different kinds, as built and by a paper's recipe say, never share a table; got "
            + ", ".join(f"{name}: {estimate.kind}" for name, estimate in estimates.items())
        )
    first, *others = estimates.items()
    for name, estimate in others:
        if estimate.constants != first[1].constants:
            raise ArgumentError(f"the estimates {first[0]!r} and {name!r} rest on different constants")
    return EnergyTable(kinds.pop(), dict(estimates))
