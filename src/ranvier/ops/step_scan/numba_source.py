"""Print a divided step as Numba source: a forward and a backward kernel over blocks of columns.

Time runs outside, columns inside, so that the inner loop is vector code. Forward keeps the states of a block in the
first-level cache and saves them at every 32nd step. Backward recomputes the states of a chunk from there, with the
exponentials and the like that the way back needs again, and walks back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.expressions import COSTLY, Value, in_order
from ranvier.ops.step_scan.partition import Parts

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_CALLS = {
    "abs": "abs", "sqrt": "math.sqrt", "floor": "np.floor", "ceil": "np.ceil", "trunc": "np.trunc", "rint": "np.rint",
    "select": "select", "log": "math.log", "log1p": "math.log1p", "expm1": "math.expm1", "sin": "math.sin",
    "cos": "math.cos", "atan": "math.atan", "erf": "math.erf", "pow": "math.pow", "exp": "math.exp",
    "tanh": "math.tanh",
}  # fmt: skip
_SINGLE = {"exp": "exp32", "tanh": "tanh32"}
MAX_ARRAYS = 64


def _width(rows: int) -> int:
    """Columns a block, such that `rows` numbers a column and step of a chunk stay in the second-level cache."""
    width = 1024
    while width > 128 and width * rows > 1536:
        width //= 2
    return width


def _backward_results(parts: Parts) -> list[Value]:
    assert parts.gx is not None
    return [parts.gx, *parts.gstates, *parts.sums]


def _kept(parts: Parts) -> list[Value]:
    """Costly values that the recomputation of the states and the way back both need."""
    if parts.gx is None:
        return []
    back = {v.index for v in in_order(_backward_results(parts))}
    return [v for v in in_order(parts.new_states) if v.op in COSTLY and v.index in back]


class _Body:
    """Lines of one inner loop."""

    def __init__(self, single: bool, sources: Mapping[str, str], given: Mapping[int, str] | None = None) -> None:
        self.single, self.sources, self.given = single, sources, given or {}

    def _text(self, v: Value) -> str:
        if v.op == "constant":
            if v.number - v.number != 0:
                return {math.inf: "INF", -math.inf: "(-INF)"}.get(v.number, "NAN")
            return f"F({v.number!r})"
        return f"t{v.index}"

    def _line(self, v: Value) -> str:
        if v.index in self.given:
            return self.given[v.index]
        if v.op in ("input", "flag"):
            return self.sources[v.name] + (" != F(0.0)" if v.op == "flag" else "")
        args = [self._text(a) for a in v.args]
        if v.op in _INFIX:
            return f"{args[0]} {_INFIX[v.op]} {args[1]}"
        if v.op == "neg":
            return f"-{args[0]}"
        if v.op == "not":
            return f"not {args[0]}"
        name = _SINGLE.get(v.op) if self.single else None
        return f"{name or _CALLS[v.op]}({', '.join(args)})"

    def lines(self, results: Mapping[str, Value]) -> list[str]:
        """Assignments of everything needed, then one line a result: its key with `{}` filled in."""
        out: list[str] = []
        for v in in_order(results.values(), frozenset(self.given)):
            if v.op != "constant":
                out.append(f"t{v.index} = {self._line(v)}")
        return out + [key.replace("{}", self._text(v)) for key, v in results.items()]


class _Arrays:
    """Numbers the arrays of one kernel and writes the accesses."""

    def __init__(self, names: Iterable[str]) -> None:
        self.number = {name: i for i, name in enumerate(names)}
        if len(self.number) > MAX_ARRAYS:
            raise CannotFuse(f"{len(self.number)} arrays in one kernel, at most {MAX_ARRAYS}")

    def load(self, name: str, index: str) -> str:
        return f"load({name}, {index}, {self.number[name]}, {len(self.number)})"

    def store(self, name: str, index: str, value: str = "{}") -> str:
        return f"store({name}, {index}, {value}, {self.number[name]}, {len(self.number)})"


def _indent(lines: Iterable[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]


def _loop(lines: Iterable[str], levels: int) -> list[str]:
    return ["    " * levels + "for j in range(n):", *_indent(lines, levels + 1)]


def _leaves(parts: Parts, arrays: _Arrays) -> tuple[list[str], dict[str, str]]:
    """Loads before the loops for uniform leaves, loads inside for the others."""
    first = [f"{leaf.name}_ = {leaf.name}[0]" for leaf in parts.leaves if leaf.uniform]
    inner = {leaf.name: arrays.load(leaf.name, "base + j") for leaf in parts.leaves if not leaf.uniform}
    return first, {**inner, **{leaf.name: f"{leaf.name}_" for leaf in parts.leaves if leaf.uniform}}


def _forward(parts: Parts, single: bool) -> list[str]:
    states = range(len(parts.new_states))
    names = ["x", *(f"i{k}" for k in states), *(leaf.name for leaf in parts.leaves), "s", "last", "borders"]
    scratch = [f"v{k}" for k in states]
    arrays = _Arrays([*names, *scratch])
    first, sources = _leaves(parts, arrays)
    sources |= {"x": arrays.load("x", "at + j")} | {f"s{k}": arrays.load(f"v{k}", "j") for k in states}
    body = _Body(single, sources).lines(
        {arrays.store("s", "at + j"): parts.spike}
        | {arrays.store(f"v{k}", "j"): v for k, v in enumerate(parts.new_states)}
    )
    begin = [arrays.store(f"v{k}", "j", arrays.load(f"i{k}", "base + j")) for k in states]

    def leave(to: str, row: str, size: str) -> list[str]:
        return [arrays.store(to, f"{row} + U({k}) * {size} + base + j", arrays.load(f"v{k}", "j")) for k in states]

    return [
        "@numba.njit(nogil=True, cache=True, error_model=\"numpy\")",
        f"def forward({', '.join(names)}, first, active, saved, lo, hi):",
        *_indent([
            "steps = first.size", *(f"{v} = np.empty(W, F)" for v in scratch), *first,
            "for start in range(lo, hi, W):",
        ], 1),
        *_indent(["base = U(start)", "width = min(W, hi - start)", "n = U(width)"], 2),
        *(_loop(begin, 2) if states else []),
        *_indent([
            "for t in range(steps):", "    if active[t] <= start:", "        break",
            "    n = U(min(width, active[t] - start))", "    at = U(first[t]) + base",
        ], 2),
        *_loop(body, 3),
        *(["            if (t + 1) % C == 0 and (t + 1) // C <= saved.size:",
           "                n = U(max(min(width, active[t + 1] - start), 0))",
           f"                row = U(saved[(t + 1) // C - 1] * {len(states)})",
           "                stride = U(active[t + 1])", *_loop(leave("borders", "row", "stride"), 4),
           "        if last.size > 0:", "            n, size = U(width), U(active[0])",
           *_loop(leave("last", "U(0)", "size"), 3)] if states else []),
    ]  # fmt: skip


def _backward(parts: Parts, single: bool) -> list[str]:
    assert parts.gx is not None
    states = range(len(parts.new_states))
    sums = range(len(parts.sums))
    names = ["x", *(f"i{k}" for k in states), *(leaf.name for leaf in parts.leaves), "borders", "gs", "glast", "gx"]
    names += [*(f"gi{k}" for k in states), *(f"a{k}" for k in sums)]
    kept = _kept(parts)
    rows = [*(f"h{k}" for k in states), *(f"e{k}" for k in range(len(kept)))]
    scratch = [*rows, *(f"q{k}" for k in states)]
    arrays = _Arrays([*names, *scratch])
    first, sources = _leaves(parts, arrays)
    sources |= {"x": arrays.load("x", "at + j"), "g": arrays.load("gs", "at + j")}
    sources |= {f"s{k}": arrays.load(f"h{k}", "row + j") for k in states}
    sources |= {f"q{k}": arrays.load(f"q{k}", "j") for k in states}
    again = _Body(single, sources).lines(
        {arrays.store(f"h{k}", "row + U(W) + j"): v for k, v in enumerate(parts.new_states)}
        | {arrays.store(f"e{k}", "row + j"): v for k, v in enumerate(kept)}
    )
    given = {v.index: arrays.load(f"e{k}", "row + j") for k, v in enumerate(kept)}
    back = _Body(single, sources, given).lines(
        {arrays.store("gx", "at + j"): parts.gx}
        | {arrays.store(f"q{k}", "j"): v for k, v in enumerate(parts.gstates)}
        | {arrays.store(f"a{k}", "base + j", arrays.load(f"a{k}", "base + j") + " + {}"): v
           for k, v in enumerate(parts.sums)}
    )  # fmt: skip

    def enter(source: str, to: str, row: str) -> list[str]:
        index = f"{row} + U({{}}) * size + base + j"
        return [arrays.store(f"{to}{k}", "j", arrays.load(source, index.format(k))) for k in states]

    zero = [arrays.store(f"a{k}", "base + j", "F(0.0)") for k in sums]
    clear = [arrays.store(f"q{k}", "j", "F(0.0)") for k in states]
    initial = [arrays.store(f"h{k}", "j", arrays.load(f"i{k}", "base + j")) for k in states]
    step = [
        "n = U(max(min(width, active[begin + t] - start), 0))", "at = U(first[begin + t]) + base", "row = U(t * W)",
    ]  # fmt: skip
    finish = [arrays.store(f"gi{k}", "base + j", arrays.load(f"q{k}", "j")) for k in states]
    return [
        "@numba.njit(nogil=True, cache=True, error_model=\"numpy\")",
        f"def backward({', '.join(names)}, first, active, saved, lo, hi):",
        *_indent([
            "steps = first.size",
            *(f"{row} = np.empty((min(steps, C) + 1) * W, F)" for row in rows),
            *(f"q{k} = np.empty(W, F)" for k in states),
            *first, "for start in range(lo, hi, W):",
        ], 1),
        *_indent(["base = U(start)", "width = min(W, hi - start)", "n, size = U(width), U(active[0])"], 2),
        *(_loop(zero, 2) if sums else []),
        *(["        if glast.size > 0:", *_loop(enter("glast", "q", "U(0)"), 3), "        else:", *_loop(clear, 3)]
          if states else []),
        "        for c in range((steps - 1) // C, -1, -1):",
        *_indent([
            "begin = c * C", "if active[begin] <= start:", "    continue", "rows = min(C, steps - begin)",
        ], 3),
        *(["            n, size = U(min(width, active[begin] - start)), U(active[begin])",
           "            if c == 0:", *_loop(initial, 4), "            else:",
           f"                kept = U(saved[c - 1] * {len(states)})", *_loop(enter("borders", "h", "kept"), 4),
           f"            for t in range({'rows' if kept else 'rows - 1'}):",
           *_indent(step, 4), *_loop(again, 4)] if states else []),
        "            for t in range(rows - 1, -1, -1):",
        *_indent(step, 4),
        *_loop(back, 4),
        *(["        n = U(width)", *_loop(finish, 2)] if states else []),
    ]  # fmt: skip


def numba_source(parts: Parts, single: bool) -> str:
    """The source of a module with `forward` and, for a trace with gradients, `backward`."""
    width = _width(len(parts.new_states) + len(_kept(parts)))
    head = [
        "import math", "", "import numba", "import numpy as np", "",
        "from ranvier.ops.array_access import load, store",
        "from ranvier.ops.vector_math import exp32, select, tanh32", "",
        f"F = np.{'float32' if single else 'float64'}", "U = np.uint64", f"W = {width}",
        f"C = {CHUNK}", "INF = F(math.inf)", "NAN = F(math.nan)", "", "",
    ]  # fmt: skip
    lines = [*head, *_forward(parts, single)]
    if parts.gx is not None:
        lines += ["", "", *_backward(parts, single)]
    return "\n".join(lines) + "\n"
