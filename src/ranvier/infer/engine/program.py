"""A flat program while it is being built, and the arenas that it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.infer.engine.codes import CODES, FIELDS, REALS, WIDTH

Index = NDArray[np.int64]
BLOCK = 2048  # of `numba_neuron`


@dataclass(frozen=True)
class Counts:
    """What is known about the values of a buffer: whole numbers 0..`levels`, times `unit`."""

    unit: float
    levels: int

    @property
    def binary(self) -> bool:
        """Whether they are zeros and ones."""
        return self.levels == 1 and self.unit == 1.0


@dataclass
class Buffer:
    """Numbers that an instruction makes: `size` of them at `at` in F, with the list of their events at `events`."""

    at: int
    size: int
    counts: Counts | None
    events: int = 0
    maker: Op | None = None
    keeper: Op | None = None  # the instruction that writes the list
    readers: list[Op] = field(default_factory=list["Op"])  # those that read it when they run event-driven
    movable: tuple[Op, dict[str, Any], dict[str, Any], Index] | None = None


@dataclass
class Op:
    """An instruction with its variants: "event", "dense", or "only" where there is no choice.

    `where` is the module that it belongs to. `choice` is the variant in use; `when` says whether it is needed at all.
    """

    where: str
    variants: dict[str, dict[str, Any]]
    choice: str
    source: Buffer | None = None
    made: Buffer | None = None
    work: float = 0.0  # additions for one event of the source
    note: str = ""
    density: float | None = None  # measured share of the source that is not zero
    times: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def code(self) -> str:
        return str(self.variants[self.choice]["code"])

    @property
    def needed(self) -> bool:
        """A list that nobody reads need not be made."""
        buffer = self.source
        if self.code != "events" or buffer is None:
            return True
        if buffer.keeper is not self:
            return False
        own = buffer.maker is not None and buffer.maker.code == "max_event"
        return not own and any(r.choice != "dense" for r in buffer.readers)


class Arena:
    """Pieces of one array, laid out before it exists; every piece starts at a multiple of 16 elements."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.size = 16  # nothing lies at offset 0, so that 0 can mean "none"
        self.filled: list[tuple[int, NDArray[Any]]] = []

    def reserve(self, n: int) -> int:
        at = self.size
        self.size += -(-max(1, n) // 16) * 16
        return at

    def put(self, values: Any) -> int:
        array = np.ascontiguousarray(values, dtype=self.dtype).ravel()
        at = self.reserve(array.size)
        self.filled.append((at, array))
        return at

    def build(self) -> NDArray[Any]:
        made = np.zeros(self.size, self.dtype)
        for at, array in self.filled:
            made[at : at + array.size] = array
        return made


class Program:
    """Instructions and arenas; `assemble` makes the tables that the driver reads."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.F, self.Q, self.I = Arena(dtype), Arena(np.int8), Arena(np.int32)
        self.A, self.U = Arena(np.int32), Arena(np.uint64)
        self.ops: list[Op] = []
        self.state: list[tuple[int, NDArray[Any]]] = []  # what `reset` writes into F
        self.lists: list[int] = []  # lists of events that must be empty after a reset
        self.zeroed: list[tuple[int, int]] = []  # ranges of F that a reset clears
        self.positions: list[int] = []  # counters of delay windows

    def buffer(self, size: int, counts: Counts | None = None) -> Buffer:
        return Buffer(self.F.reserve(size), size, counts)

    def add(self, op: Op) -> Op:
        self.ops.append(op)
        if op.made is not None:
            op.made.maker = op
        return op

    def events_of(self, buffer: Buffer, where: str) -> int:
        """The list of events of `buffer`; whoever makes it is told, or an instruction that looks for them is added."""
        if not buffer.events:
            buffer.events = self.I.reserve(buffer.size + 2)
            self.lists.append(buffer.events)
            maker = buffer.maker
            if maker is not None and maker.code in ("lif", "int_lif"):
                buffer.keeper = maker
            else:
                row = {"code": "events", "x": buffer.at, "n": buffer.size, "L": buffer.events}
                buffer.keeper = self.add(Op(where, {"only": row}, "only", buffer))
        return buffer.events

    def assemble(self) -> tuple[Index, NDArray[Any], list[Op]]:
        """The tables of the instructions as they are chosen now, and the instructions row by row."""
        used = [op for op in self.ops if op.needed]
        P = np.zeros((max(1, len(used)), WIDTH), np.int64)
        S = np.zeros((max(1, len(used)), REALS), self.dtype)
        P[0, 0] = -1
        for row, op in enumerate(used):
            self.encode(op, op.choice, P[row], S[row])
        return P, S, used

    def encode(self, op: Op, variant: str, p: Index, s: NDArray[Any]) -> None:
        """One row of the tables."""
        given = dict(op.variants[variant])
        if given["code"] in ("lif", "int_lif"):
            made = op.made
            assert made is not None
            wanted = made.keeper is op and any(r.choice != "dense" for r in made.readers)
            given["L"] = made.events if wanted else 0
        if given["code"] == "max_event":
            assert op.made is not None
            given["M"] = op.made.events
        p[0] = CODES[given["code"]]
        for column, name in enumerate(FIELDS[given["code"]]):
            p[1 + column] = int(given[name])
        for column, value in enumerate(given.get("reals", ())):
            s[column] = value
