"""Print a divided step as Numba source: modules with a forward and with a backward kernel over blocks of columns.

Time runs outside, columns inside, so that the inner loop is vector code; each is a function of its own (see
`ranvier.ops.direct_loops`). Forward keeps the states of a block in the first-level cache and saves them at every 32nd
step. Backward recomputes the states of a chunk from there, with the exponentials and the like that the way back needs
again, and walks back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.expressions import COSTLY, Value, in_order
from ranvier.ops.step_scan.partition import Leaf, Parts

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_CALLS = {
    "abs": "abs", "sqrt": "m.sqrt", "floor": "m.floor", "ceil": "m.ceil", "trunc": "m.trunc", "rint": "m.rint",
    "select": "m.select", "log": "m.log", "log1p": "m.log1p", "expm1": "m.expm1", "sin": "m.sin", "cos": "m.cos",
    "atan": "m.atan", "erf": "m.erf", "pow": "m.power", "exp": "m.exp", "tanh": "m.tanh",
}  # fmt: skip
_SINGLE = {"exp": "exp32", "tanh": "tanh32"}
MAX_ARRAYS = 64
_NUMBERS = ("start", "at", "row", "size")  # what an index is made of
_NAME = re.compile(r"\b[a-z]\w*\b")


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
        self.numbers: dict[int, int] = {}

    def _text(self, v: Value) -> str:
        if v.op == "constant":
            return f"F({v.number!r})" if math.isfinite(v.number) else f'F("{v.number}")'
        # Counted as they come: the same equations have the same text, whatever else was traced with them.
        return f"t{self.numbers.setdefault(v.index, len(self.numbers))}"

    def _line(self, v: Value) -> str:
        if v.index in self.given:
            return self.given[v.index]
        if v.op in ("input", "flag"):
            return self.sources[v.name] + (" != 0.0" if v.op == "flag" else "")
        args = [self._text(a) for a in v.args]
        if v.op in _INFIX:
            return f"{args[0]} {_INFIX[v.op]} {args[1]}"
        if v.op == "neg":
            return f"-{args[0]}"
        if v.op == "not":
            return f"~{args[0]}"
        name = _SINGLE.get(v.op) if self.single else None
        return f"{name or _CALLS[v.op]}({', '.join(args)})"

    def lines(self, results: Mapping[str, Value]) -> list[str]:
        """Assignments of everything needed, then one line a result: its key with `{}` filled in."""
        out: list[str] = []
        for v in in_order(results.values(), frozenset(self.given)):
            if v.op != "constant":
                line = self._line(v)
                out.append(f"{self._text(v)} = {line}")
        return out + [key.replace("{}", self._text(v)) for key, v in results.items()]


class _Loops:
    """The inner loops of one kernel, each a function that is compiled into it."""

    def __init__(self, kernel: str, arrays: list[str], numbers: Iterable[str]) -> None:
        if len(arrays) > MAX_ARRAYS:
            raise CannotFuse(f"{len(arrays)} arrays in one kernel, at most {MAX_ARRAYS}")
        self.kernel, self.names = kernel, [*arrays, *numbers]
        self.functions: list[str] = []
        self._count = 0

    def __call__(self, lines: list[str], levels: int) -> list[str]:
        """The call of a new loop over the columns j from 0 to n − 1."""
        used = set(_NAME.findall("\n".join(lines)))
        arguments = ", ".join(name for name in self.names if name in used)
        name = f"{self.kernel}_{self._count}"
        self._count += 1
        self.functions += ["@m.loop", f"def {name}(F, j, {arguments}):", *_indent(lines, 1), "", ""]
        return ["    " * levels + f"{name}(n, {arguments})"]


def _indent(lines: Iterable[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]


def forward_leaves(parts: Parts) -> list[int]:
    """Which of the leaves the forward kernel reads; it takes no others."""
    read = {v.name for v in in_order([parts.spike, *parts.new_states]) if v.op in ("input", "flag")}
    return [i for i, leaf in enumerate(parts.leaves) if leaf.name in read]


def _leaves(leaves: Sequence[Leaf]) -> tuple[list[str], dict[str, str]]:
    """Loads before the loops for uniform leaves, loads inside for the others."""
    first = [f"{leaf.name}_ = {leaf.name}[0]" for leaf in leaves if leaf.uniform]
    inner = {leaf.name: f"{leaf.name}[start + j]" for leaf in leaves if not leaf.uniform}
    return first, {**inner, **{leaf.name: f"{leaf.name}_" for leaf in leaves if leaf.uniform}}


def _forward(parts: Parts, single: bool) -> list[str]:
    states = range(len(parts.new_states))
    leaves = [parts.leaves[i] for i in forward_leaves(parts)]
    names = ["x", *(f"i{k}" for k in states), *(leaf.name for leaf in leaves), "s", "last", "borders"]
    scratch = [f"v{k}" for k in states]
    loop = _Loops("forward", [*names, *scratch], [*_NUMBERS, *(f"{leaf.name}_" for leaf in leaves)])
    first, sources = _leaves(leaves)
    sources |= {"x": "x[at + j]"} | {f"s{k}": f"v{k}[j]" for k in states}
    body = _Body(single, sources).lines(
        {"s[at + j] = {}": parts.spike} | {f"v{k}[j] = {{}}": v for k, v in enumerate(parts.new_states)}
    )
    begin = [f"v{k}[j] = i{k}[start + j]" for k in states]

    def leave(to: str) -> list[str]:
        return [f"{to}[row + {k} * size + start + j] = v{k}[j]" for k in states]

    lines = [
        "@numba.njit(nogil=True, cache=True, error_model=\"numpy\", no_cfunc_wrapper=True)",
        f"def forward({', '.join(names)}, first, active, saved, lo, hi):",
        *_indent([
            "steps = first.size", *(f"{v} = np.empty(W, F)" for v in scratch), *first,
            "for start in range(lo, hi, W):",
        ], 1),
        *_indent(["width = min(W, hi - start)", "n = width"], 2),
        *(loop(begin, 2) if states else []),
        *_indent([
            "for t in range(steps):", "    if active[t] <= start:", "        break",
            "    n = min(width, active[t] - start)", "    at = first[t] + start",
        ], 2),
        *loop(body, 3),
        *(["            if (t + 1) % C == 0 and (t + 1) // C <= saved.size:",
           "                n = max(min(width, active[t + 1] - start), 0)",
           f"                row = saved[(t + 1) // C - 1] * {len(states)}",
           "                size = active[t + 1]", *loop(leave("borders"), 4),
           "        if last.size > 0:", "            n, row, size = width, 0, active[0]",
           *loop(leave("last"), 3)] if states else []),
    ]  # fmt: skip
    return [*loop.functions, *lines]


def _backward(parts: Parts, single: bool) -> list[str]:
    assert parts.gx is not None
    states = range(len(parts.new_states))
    sums = range(len(parts.sums))
    names = ["x", *(f"i{k}" for k in states), *(leaf.name for leaf in parts.leaves), "borders", "gs", "glast", "gx"]
    names += [*(f"gi{k}" for k in states), *(f"a{k}" for k in sums)]
    kept = _kept(parts)
    rows = [*(f"h{k}" for k in states), *(f"e{k}" for k in range(len(kept)))]
    scratch = [*rows, *(f"q{k}" for k in states)]
    loop = _Loops("backward", [*names, *scratch], [*_NUMBERS, *(f"{leaf.name}_" for leaf in parts.leaves)])
    first, sources = _leaves(parts.leaves)
    sources |= {"x": "x[at + j]", "g": "gs[at + j]"}
    sources |= {f"s{k}": f"h{k}[row + j]" for k in states} | {f"q{k}": f"q{k}[j]" for k in states}
    again = _Body(single, sources).lines(
        {f"h{k}[row + W + j] = {{}}": v for k, v in enumerate(parts.new_states)}
        | {f"e{k}[row + j] = {{}}": v for k, v in enumerate(kept)}
    )
    given = {v.index: f"e{k}[row + j]" for k, v in enumerate(kept)}
    back = _Body(single, sources, given).lines(
        {"gx[at + j] = {}": parts.gx}
        | {f"q{k}[j] = {{}}": v for k, v in enumerate(parts.gstates)}
        | {f"a{k}[start + j] += {{}}": v for k, v in enumerate(parts.sums)}
    )

    def enter(source: str, to: str) -> list[str]:
        return [f"{to}{k}[j] = {source}[row + {k} * size + start + j]" for k in states]

    zero = [f"a{k}[start + j] = F(0.0)" for k in sums]
    clear = [f"q{k}[j] = F(0.0)" for k in states]
    initial = [f"h{k}[j] = i{k}[start + j]" for k in states]
    step = [
        "n = max(min(width, active[begin + t] - start), 0)", "at = first[begin + t] + start", "row = t * W",
    ]  # fmt: skip
    finish = [f"gi{k}[start + j] = q{k}[j]" for k in states]
    lines = [
        "@numba.njit(nogil=True, cache=True, error_model=\"numpy\", no_cfunc_wrapper=True)",
        f"def backward({', '.join(names)}, first, active, saved, lo, hi):",
        *_indent([
            "steps = first.size",
            *(f"{row} = np.empty((min(steps, C) + 1) * W, F)" for row in rows),
            *(f"q{k} = np.empty(W, F)" for k in states),
            *first, "for start in range(lo, hi, W):",
        ], 1),
        *_indent(["width = min(W, hi - start)", "n, row, size = width, 0, active[0]"], 2),
        *(loop(zero, 2) if sums else []),
        *(["        if glast.size > 0:", *loop(enter("glast", "q"), 3), "        else:", *loop(clear, 3)]
          if states else []),
        "        for c in range((steps - 1) // C, -1, -1):",
        *_indent([
            "begin = c * C", "if active[begin] <= start:", "    continue", "rows = min(C, steps - begin)",
        ], 3),
        *(["            n, size = min(width, active[begin] - start), active[begin]",
           "            if c == 0:", *loop(initial, 4), "            else:",
           f"                row = saved[c - 1] * {len(states)}", *loop(enter("borders", "h"), 4),
           f"            for t in range({'rows' if kept else 'rows - 1'}):",
           *_indent(step, 4), *loop(again, 4)] if states else []),
        "            for t in range(rows - 1, -1, -1):",
        *_indent(step, 4),
        *loop(back, 4),
        *(["        n = width", *loop(finish, 2)] if states else []),
    ]  # fmt: skip
    return [*loop.functions, *lines]


def _module(lines: list[str], rows: int, single: bool) -> str:
    head = [
        "import numba", "import numpy as np", "",
        "from ranvier.ops import direct_loops as m",
        "from ranvier.ops.vector_math import exp32, tanh32", "",
        f"F = np.{'float32' if single else 'float64'}", f"W = {_width(rows)}", f"C = {CHUNK}", "", "",
    ]  # fmt: skip
    return "\n".join([*head, *lines]) + "\n"


def forward_source(parts: Parts, single: bool) -> str:
    """The source of a module with `forward`: the same for a trace with gradients and for one without."""
    return _module(_forward(parts, single), len(parts.new_states), single)


def backward_source(parts: Parts, single: bool) -> str:
    """The source of a module with `backward`; empty for a trace without gradients."""
    if parts.gx is None:
        return ""
    return _module(_backward(parts, single), len(parts.new_states) + len(_kept(parts)), single)
