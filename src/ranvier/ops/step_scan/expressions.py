"""Scalar expressions of one element and one step: hash-consed, so that equal sub-expressions are one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
LOGICAL = ("and", "or", "xor", "not")
FUNCTIONS = (
    "exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "atan", "erf", "sqrt", "floor", "ceil", "trunc", "rint",
)  # fmt: skip
COSTLY = ("exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "atan", "erf", "pow")


@dataclass(frozen=True, eq=False)
class Value:
    """One node: an operation on earlier values, a named input, or a constant."""

    op: str
    args: tuple[Value, ...]
    name: str
    number: float
    boolean: bool
    index: int


class Expressions:
    """Makes values of one working precision (`np.float32` or `np.float64`), folding what is exact to fold."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype
        self._known: dict[tuple[object, ...], Value] = {}
        self._index = count()

    def _intern(self, op: str, args: tuple[Value, ...], name: str = "", number: float = 0.0) -> Value:
        key = (op, tuple(a.index for a in args), name, number.hex())
        if key not in self._known:
            boolean = op in COMPARISONS or op in LOGICAL or op == "flag" or (op == "select" and args[1].boolean)
            self._known[key] = Value(op, args, name, number, boolean, next(self._index))
        return self._known[key]

    def input(self, name: str, boolean: bool = False) -> Value:
        """An input of the kernel; a boolean one is stored as a number and read as `!= 0`."""
        return self._intern("flag" if boolean else "input", (), name)

    def constant(self, number: float) -> Value:
        """A number, rounded to the working precision as torch rounds a Python scalar."""
        return self._intern("constant", (), "", float(self.dtype(number)))

    def make(self, op: str, *args: Value) -> Value:
        """`op` of `args`, or an equal simpler value."""
        if op not in ("select", *LOGICAL):
            args = tuple(self.number(a) for a in args)
        return self._fold(op, args) or self._intern(op, args)

    def _fold(self, op: str, args: tuple[Value, ...]) -> Value | None:
        a = args[0]
        if op == "neg":
            if a.op == "neg":
                return a.args[0]
            if a.op == "constant":
                return self.constant(-a.number)
        if op == "abs" and a.op in ("neg", "abs"):
            return self.make("abs", a.args[0])
        if op == "select":
            if args[1] is args[2]:
                return args[1]
            if a.op == "not":
                return self.make("select", a.args[0], args[2], args[1])
        if op not in ("add", "sub", "mul", "div"):
            return None
        b = args[1]
        if b.op == "constant" and (
            (op in ("mul", "div") and b.number == 1) or (op == "sub" and b.number.hex() == "0x0.0p+0")
        ):
            return a
        if op == "mul" and a.op == "constant" and a.number == 1:
            return b
        return self._choose_between_constants(op, a, b)

    def _choose_between_constants(self, op: str, a: Value, b: Value) -> Value | None:
        """Arithmetic of a 0/1 mask with a constant is a choice between two constants."""

        def arms(v: Value) -> tuple[Value, Value] | None:
            if v.op == "constant":
                return v, v
            if v.op == "select" and v.args[1].op == v.args[2].op == "constant":
                return v.args[1], v.args[2]
            return None

        left, right = arms(a), arms(b)
        if left is None or right is None or (a.op == b.op == "select" and a.args[0] is not b.args[0]):
            return None
        f: Callable[[np.floating, np.floating], np.floating] = {
            "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide
        }[op]  # fmt: skip
        with np.errstate(all="ignore"):
            results = [f(self.dtype(p.number), self.dtype(q.number)) for p, q in zip(left, right, strict=True)]
        if any(math.isnan(r) for r in results):
            return None
        yes, no = (self.constant(float(r)) for r in results)
        if a.op == b.op == "constant":
            return yes
        return self.make("select", (a if a.op == "select" else b).args[0], yes, no)

    def number(self, v: Value) -> Value:
        """`v` as a number: true is 1, false is 0."""
        return self.make("select", v, self.constant(1), self.constant(0)) if v.boolean else v

    def truth(self, v: Value) -> Value:
        """`v` as a condition: a number is true where it is not 0."""
        if v.boolean:
            return v
        if v.op == "select" and [a.op for a in v.args[1:]] == ["constant"] * 2:
            yes, no = (a.number != 0 for a in v.args[1:])
            if yes and not no:
                return v.args[0]
        return self.make("ne", v, self.constant(0))


def in_order(outputs: Iterable[Value], given: frozenset[int] = frozenset()) -> list[Value]:
    """Everything that `outputs` need, each value after its arguments; nothing else, and nothing behind `given` ones."""
    seen: dict[int, Value] = {}
    stack = list(outputs)
    while stack:
        v = stack.pop()
        if v.index not in seen:
            seen[v.index] = v
            stack.extend(() if v.index in given else v.args)
    return [seen[i] for i in sorted(seen)]
