"""From recorded operations to instructions: where every tensor lies, and what makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ranvier.infer.engine.program import Buffer, Counts, Index, Op, Program
from ranvier.infer.engine.trace import Node, NotCompilableError, Ref, Trace

Rule = Callable[["Lowering", Node], None]
RULES: dict[str, Rule] = {}
LEAF_RULES: list[tuple[type, Rule]] = []


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers how operations are lowered."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[f"aten.{name}"] = function
        return function

    return register


def leaf_rule(*types: type) -> Callable[[Rule], Rule]:
    """Registers how modules that are taken whole are lowered."""

    def register(function: Rule) -> Rule:
        LEAF_RULES.extend((kind, function) for kind in types)
        return function

    return register


class Lowering:
    """Makes a `Program` of a `Trace`.

    A storage of the trace lies in a buffer: element i of it is element `perm[i]` of the buffer. So views cost nothing,
    and images may keep their channels together although the net keeps them apart.
    """

    def __init__(self, trace: Trace, dtype: Any) -> None:
        self.trace = trace
        self.program = Program(dtype)
        self.placed: dict[int, tuple[Buffer, Index]] = {}
        self.moved: dict[tuple[int, bytes], Buffer] = {}
        self.uses: dict[int, int] = {}
        for node in trace.nodes:
            for ref in refs(node):
                self.uses[ref.storage] = self.uses.get(ref.storage, 0) + 1
        self.uses[trace.output.storage] = self.uses.get(trace.output.storage, 0) + 1
        self.skip: set[int] = set()  # nodes that went into another

    def run(self) -> Program:
        """The program; raises `NotCompilableError` that lists everything that cannot be lowered."""
        trace, problems = self.trace, dict(self.trace.problems)
        entry = self.program.buffer(trace.sizes[trace.input.storage])
        self.entry = entry
        self.placed[trace.input.storage] = (entry, np.arange(entry.size))
        broken: set[int] = set()
        for number, node in enumerate(trace.nodes):
            if number in self.skip:
                continue
            if node.where in trace.problems:
                broken.add(node.out.storage)
                continue
            if any(ref.storage in broken or ref.storage not in self.placed for ref in refs(node)):
                broken.add(node.out.storage)  # already explained
                if node.op != "leaf" and node.op not in RULES:
                    _note(problems, node.where, node.op.replace("aten.", ""))
                continue
            self.number = number
            try:
                self.lower(node)
            except NotCompilableError as error:
                _note(problems, node.where, str(error))
                broken.add(node.out.storage)
        if problems:
            listing = "\n".join(f"  {where}: {what}" for where, what in problems.items())
            raise NotCompilableError(
                f"model: the engine has no instructions for {len(problems)} of its parts\n{listing}"
            )
        return self.program

    def lower(self, node: Node) -> None:
        if node.op == "leaf":
            for kind, function in LEAF_RULES:
                if isinstance(node.module, kind):
                    function(self, node)
                    return
            raise NotCompilableError("no instructions for it")
        if node.op not in RULES:
            raise NotCompilableError(node.op.replace("aten.", ""))
        RULES[node.op](self, node)

    # --- where things lie

    def buffer(self, ref: Ref) -> Buffer:
        return self.placed[ref.storage][0]

    def positions(self, ref: Ref) -> Index:
        """For every element of a view, in its shape, its place in the buffer."""
        return self.placed[ref.storage][1][offsets(ref)]

    def place(self, out: Ref, buffer: Buffer, positions: Index) -> None:
        """Says where the elements of a new tensor lie."""
        perm = np.full(self.trace.sizes[out.storage], -1, np.int64)
        perm[offsets(out)] = positions.reshape(out.shape)
        self.placed[out.storage] = (buffer, perm)

    def counts(self, ref: Ref) -> Counts | None:
        return self.buffer(ref).counts

    # --- making operands lie as an instruction needs them

    def arranged(self, ref: Ref, wanted: Index, where: str) -> tuple[Buffer, int]:
        """A buffer and the offset in it where the elements `wanted` (places in the buffer of `ref`) lie in a row."""
        buffer = self.buffer(ref)
        wanted = wanted.ravel()
        if wanted.size and (np.diff(wanted) == 1).all():
            return buffer, int(wanted[0])
        key = (id(buffer), wanted.tobytes())
        if key not in self.moved:
            made = self.program.buffer(wanted.size, buffer.counts)
            row = {"code": "copy", "x": buffer.at, "y": made.at, "n": wanted.size, "map": self.program.I.put(wanted)}
            self.program.add(Op(where, {"only": row}, "only", buffer, made))
            self.moved[key] = made
        return self.moved[key], 0

    def whole(self, ref: Ref, wanted: Index, where: str) -> Buffer:
        """As `arranged`, and nothing else is in the buffer: its events are those of the operand."""
        buffer, at = self.arranged(ref, wanted, where)
        if at == 0 and buffer.size == wanted.size:
            return buffer
        made = self.program.buffer(wanted.size, buffer.counts)
        row = {
            "code": "copy", "x": buffer.at, "y": made.at, "n": wanted.size,
            "map": self.program.I.put(np.arange(at, at + wanted.size)),
        }  # fmt: skip
        self.program.add(Op(where, {"only": row}, "only", buffer, made))
        return made

    def flat(self, ref: Ref, where: str) -> tuple[int, Index, Buffer]:
        """Where an operand lies in a row, in any order: its offset in F, the order (element to place), its buffer."""
        positions = self.positions(ref)
        buffer = self.buffer(ref)
        order = positions.ravel()
        low = int(order.min())
        if order.size == order.max() - low + 1 and np.bincount(order - low).max() == 1:
            return buffer.at + low, positions - low, buffer
        buffer, at = self.arranged(ref, positions, where)
        return buffer.at + at, np.arange(order.size).reshape(positions.shape), buffer

    def reads(self, op: Op, buffer: Buffer) -> None:
        """Notes that `op` reads the events of `buffer` where it runs event-driven."""
        buffer.readers.append(op)

    def channels(self, values: Tensor, order: Index, shape: tuple[int, ...]) -> tuple[Any, int]:
        """`values`, broadcast to `shape`, in the order of a flat operand, as one period of C numbers: (numbers, C)."""
        spread = np.broadcast_to(values.detach().cpu().numpy(), shape)
        lying = np.empty(order.size, spread.dtype)
        lying[order.ravel()] = spread.ravel()
        return period(lying)


def period(lying: Any) -> tuple[Any, int]:
    """The shortest repeating piece that is at least 64 long (or all of it)."""
    n = lying.size
    for size in (s for s in range(1, n + 1) if n % s == 0 and s >= min(n, 64)):
        if (lying.reshape(-1, size) == lying[:size]).all():
            return lying[:size], size
    return lying, n


def offsets(ref: Ref) -> Index:
    """For every element of a view, in its shape, its place in the storage."""
    flat = np.full((1,) * len(ref.shape), ref.offset, np.int64)
    for axis, (n, stride) in enumerate(zip(ref.shape, ref.strides, strict=True)):
        flat = flat + (np.arange(n) * stride).reshape([-1 if a == axis else 1 for a in range(len(ref.shape))])
    return flat


def refs(node: Node) -> list[Ref]:
    """The operands that depend on the input."""
    found: list[Ref] = []

    def look(tree: Any) -> None:
        if isinstance(tree, Ref):
            found.append(tree)
        elif isinstance(tree, tuple | list):
            for item in tree:
                look(item)
        elif isinstance(tree, dict):
            look(list(tree.values()))

    look((node.args, node.kwargs))
    return found


def _note(problems: dict[str, str], where: str, what: str) -> None:
    before = problems.get(where, "")
    if what not in before.split(", "):
        problems[where] = f"{before}, {what}" if before else what
