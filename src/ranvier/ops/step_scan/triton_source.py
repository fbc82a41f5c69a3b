"""Print a divided step as Triton source: one program a block of columns, time as a loop inside, states in registers.

Backward recomputes the states of a chunk of 32 steps from those that forward saved, into a scratch buffer, and walks
back through it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.expressions import Value, in_order
from ranvier.ops.step_scan.partition import Leaf, Parts

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_CALLS = {
    "abs": "tl.abs", "sqrt": "tl.sqrt", "floor": "tl.floor", "ceil": "tl.ceil", "trunc": "trunc", "rint": "rint",
    "select": "tl.where", "log": "tl.log", "log1p": "log1p", "expm1": "expm1", "sin": "tl.sin", "cos": "tl.cos",
    "erf": "tl.erf", "exp": "tl.exp", "tanh": "tanh",
}  # fmt: skip
_SINGLE = {"div": "tl.div_rn", "sqrt": "tl.sqrt_rn"}  # correctly rounded, as torch's; in float64 the plain ones are


def _text(v: Value) -> str:
    return f"t{v.index}"


def _line(v: Value, single: bool) -> str:
    if v.op == "constant":
        finite = v.number - v.number == 0
        number = repr(v.number) if finite else f'float("{"nan" if math.isnan(v.number) else v.number}")'
        return f"tl.full([BLOCK], {number}, WORK)"
    if v.op in ("input", "flag"):
        return v.name + (" != 0" if v.op == "flag" else "")
    args = [_text(a) for a in v.args]
    if single and v.op in _SINGLE:
        return f"{_SINGLE[v.op]}({', '.join(args)})"
    if v.op in _INFIX:
        return f"{args[0]} {_INFIX[v.op]} {args[1]}"
    if v.op == "neg":
        return f"-{args[0]}"
    if v.op == "not":
        return f"{args[0]} == 0"
    if v.op not in _CALLS:
        raise CannotFuse(f"no Triton rule for {v.op}")
    return f"{_CALLS[v.op]}({', '.join(args)})"


def _body(results: Mapping[str, Value], single: bool) -> list[str]:
    lines = [f"{_text(v)} = {_line(v, single)}" for v in in_order(results.values())]
    return lines + [key.replace("{}", _text(v)) for key, v in results.items()]


def _indent(lines: Iterable[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]


def _load(name: str, pointer: str, other: float = 0.0) -> str:
    return f"{name} = tl.load({pointer}, inside, other={other}).to(WORK)"


def _leaf(leaf: Leaf) -> str:
    return _load(leaf.name, f"{leaf.name}_ptr + column" + (" * 0" if leaf.uniform else ""), 1.0)  # a divisor, often


_HEAD = [
    "column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)",
    "inside = column < size",
]


def _forward(parts: Parts, single: bool) -> list[str]:
    states = range(len(parts.new_states))
    count = len(parts.new_states)
    pointers = [*(f"i{k}_ptr" for k in states), *(f"{leaf.name}_ptr" for leaf in parts.leaves)]
    step = _body({"spike = {}": parts.spike} | {f"n{k} = {{}}": v for k, v in enumerate(parts.new_states)}, single)
    store = "tl.store({} + {} * size + column, s{}, inside)"
    return [
        "@triton.jit",
        f"def forward_kernel({', '.join(['x_ptr', *pointers])}, s_ptr, last_ptr, borders_ptr, steps, saved, size,",
        "                   KEEP: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr):",
        *_indent([
            *_HEAD, *(_load(f"s{k}", f"i{k}_ptr + column") for k in states), *map(_leaf, parts.leaves),
            "at = column", "border = column", "for t in range(steps):",
        ], 1),
        *_indent([
            _load("x", "x_ptr + at"), *step,
            "tl.store(s_ptr + at, spike.to(s_ptr.dtype.element_ty), inside)", *(f"s{k} = n{k}" for k in states),
            "at += size",
        ], 2),
        *([f"        if ((t + 1) % {CHUNK} == 0) & ((t + 1) // {CHUNK} <= saved):", *_indent([
            line for k in states for line in (f"tl.store(borders_ptr + border, s{k}, inside)", "border += size")
        ], 3), "    if KEEP:", *_indent([store.format("last_ptr", k, k) for k in states], 2)] if count else []),
    ]  # fmt: skip


def _backward(parts: Parts, single: bool) -> list[str]:
    assert parts.gx is not None
    states, sums = range(len(parts.new_states)), range(len(parts.sums))
    leaves = [f"{leaf.name}_ptr" for leaf in parts.leaves]
    results = [*(f"gi{k}_ptr" for k in states), *(f"a{k}_ptr" for k in sums)]
    again = _body({f"n{k} = {{}}": v for k, v in enumerate(parts.new_states)}, single)
    back = _body(
        {"gx = {}": parts.gx}
        | {f"m{k} = {{}}": v for k, v in enumerate(parts.gstates)}
        | {f"a{k} += {{}}": v for k, v in enumerate(parts.sums)},
        single,
    )
    where = [f"+ {k} * size" for k in states]
    zero = "tl.zeros([BLOCK], WORK)"
    return [
        "@triton.jit",
        f"def backward_kernel({', '.join(['x_ptr', 'starts_ptr', *leaves])}, gs_ptr, glast_ptr, h_ptr, gx_ptr,",
        f"                    {', '.join([*results, ''])}steps, chunks, size, row_stride, chunk_stride, last_at,",
        "                    last_start, GLAST: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr):",
        *_indent([
            *_HEAD, *map(_leaf, parts.leaves), *(f"q{k} = {zero}" for k in states), *(f"a{k} = {zero}" for k in sums),
            *(["if GLAST:"] if states else []),
            *_indent((_load(f"q{k}", f"glast_ptr + column {where[k]}") for k in states), 1),
            "chunk_at = column + last_at", "start = column + last_start", f"rows = steps - (chunks - 1) * {CHUNK}",
            "for c in range(chunks):",
        ], 1),
        *_indent([
            *(_load(f"s{k}", f"starts_ptr + start {where[k]}") for k in states),
            *(f"tl.store(h_ptr + column {where[k]}, s{k}, inside)" for k in states),
            "at = chunk_at", "h_at = column", "for t in range(rows - 1):",
        ], 2),
        *_indent([
            _load("x", "x_ptr + at"), *again, *(f"s{k} = n{k}" for k in states), "at += size", "h_at += row_stride",
            *(f"tl.store(h_ptr + h_at {where[k]}, s{k}, inside)" for k in states),
        ], 3),
        *_indent(["tl.debug_barrier()", "for t in range(rows):"], 2),
        *_indent([
            _load("x", "x_ptr + at"), _load("g", "gs_ptr + at"),
            *(_load(f"s{k}", f"h_ptr + h_at {where[k]}") for k in states), *back,
            "tl.store(gx_ptr + at, gx.to(gx_ptr.dtype.element_ty), inside)", *(f"q{k} = m{k}" for k in states),
            "at -= size", "h_at -= row_stride",
        ], 3),
        *_indent([
            "tl.debug_barrier()", "chunk_at -= chunk_stride", "start -= row_stride", f"rows = steps * 0 + {CHUNK}",
        ], 2),
        *_indent([
            *(f"tl.store(gi{k}_ptr + column, q{k}, inside)" for k in states),
            *(f"tl.store(a{k}_ptr + column, a{k}, inside)" for k in sums),
        ], 1),
    ]  # fmt: skip


def triton_source(parts: Parts, single: bool) -> str:
    """The source of a module with `forward_kernel` and, for a trace with gradients, `backward_kernel`."""
    head = [
        "import triton", "import triton.language as tl", "",
        "from ranvier.ops.step_scan.triton_math import expm1, log1p, rint, tanh, trunc", "",
        "",
    ]  # fmt: skip
    lines = [*head, *_forward(parts, single)]
    if parts.gx is not None:
        lines += ["", "", *_backward(parts, single)]
    return "\n".join(lines) + "\n"
