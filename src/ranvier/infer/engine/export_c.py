"""A compiled net as plain C99, for machines without an operating system."""

from __future__ import annotations

import itertools
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import ArgumentError
from ranvier.files import write_bytes
from ranvier.infer.engine.c_kernels import CONSTANTS, KINDS_OF, OWN_KINDS, PRELUDE, SOURCES
from ranvier.infer.engine.codes import FIELDS
from ranvier.infer.engine.engine import Engine
from ranvier.infer.engine.program import Arena
from ranvier.infer.writing import writing

_ARENAS = {"F": "real", "J": "int32_t", "Q": "int8_t", "A": "int32_t", "U": "uint64_t"}


class _Memory:
    """An arena in two: constants, which may lie in read-only memory, and what changes."""

    def __init__(self, kind: str, arena: Arena) -> None:
        self.kind = kind
        self.starts = np.array([at for at, _ in arena.filled], np.int64)
        self.pieces = [values for _, values in arena.filled]
        self.fixed = np.concatenate([[0], np.cumsum([v.size for v in self.pieces])]).astype(np.int64)
        spans = sorted((at, -(-max(1, v.size) // 16) * 16) for at, v in arena.filled)
        self.before = np.array([at for at, _ in spans], np.int64)
        self.removed = np.concatenate([[0], np.cumsum([n for _, n in spans])]).astype(np.int64)
        self.changing = arena.size - 16 - int(self.removed[-1])

    def pointer(self, at: int) -> str:
        """The C expression for the place `at`."""
        inside = np.flatnonzero((self.starts <= at) & (at < self.starts + [max(1, p.size) for p in self.pieces]))
        if inside.size:
            i = int(inside[0])
            return f"{self.kind}_const + {int(self.fixed[i]) + at - int(self.starts[i])}"
        moved = at - 16 - int(self.removed[np.searchsorted(self.before, at)])
        return f"{self.kind} + {moved}"


def export_c(engine: Engine, folder: str | os.PathLike[str], name: str = "net") -> Path:
    """Write `engine` as C99: `NAME.h`, `NAME_weights.h` and `NAME.c`; returns the folder.

    The code needs `string.h` and `math.h`, no heap, and one static copy of its state; weights and tables are `const`,
    so that they may stay in flash. It makes the additions of the engine in the same order: with a compiler that does
    not contract multiplications and additions (`-ffp-contract=off`) the outputs are the same bits.

        void NAME_reset(void);
        void NAME_step(const real *x, real *y);

    Args:
        engine: what `compile` made; layers run as they were chosen.
        folder: where to; made if it does not exist.
        name: a C identifier, the prefix of everything that is visible.

    Raises `ArgumentError` for a name that C does not take.
    """
    if not isinstance(engine, Engine):
        raise ArgumentError(f"engine must be what ranvier.infer.compile made, got {type(engine).__name__}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ArgumentError(f"name must be an identifier of C, got {name!r}")
    program = engine.program
    memory = {
        kind: _Memory(kind, arena)
        for kind, arena in zip(_ARENAS, (program.F, program.I, program.Q, program.A, program.U), strict=True)
    }
    real = "double" if engine.dtype == np.float64 else "float"
    upper = name.upper()
    inputs, outputs = math.prod(engine.input_shape), math.prod(engine.output_shape)
    flash = sum(int(m.fixed[-1]) * _size(kind, real) for kind, m in memory.items())
    ram = sum(m.changing * _size(kind, real) for kind, m in memory.items())
    header = f"""\
/* A spiking net, one step at a time. Made by Ranvier.
   {flash} bytes of constants, {ram} bytes of state. Input {engine.input_shape}, output {engine.output_shape}. */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}

/* Before the first step, and between sequences. */
void {name}_reset(void);
/* One step: {upper}_INPUTS numbers in, {upper}_OUTPUTS numbers out. */
void {name}_step(const {real} *x, {real} *y);

#endif
"""
    target = Path(folder)
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        write_bytes(target / f"{name}.h", header.encode())
        write_bytes(target / f"{name}_weights.h", _constants(memory, real).encode())
        write_bytes(target / f"{name}.c", _source(engine, memory, name, real).encode())
    return target


def _size(kind: str, real: str) -> int:
    return {"F": 8 if real == "double" else 4, "Q": 1, "U": 8}.get(kind, 4)


def _constants(memory: dict[str, _Memory], real: str) -> str:
    lines = ["/* Weights and tables. */"]
    for kind, m in memory.items():
        size = int(m.fixed[-1])
        if not size:
            continue
        values = np.concatenate(m.pieces)
        if kind == "F":
            text = [_literal(v, real) for v in values.tolist()]
        else:
            text = [str(v) for v in values.tolist()]
        lines.append(f"static const {_ARENAS[kind]} {kind}_const[{size}] = {{")
        lines += ["    " + ", ".join(text[i : i + 10]) + "," for i in range(0, size, 10)]
        lines.append("};")
    return "\n".join(lines) + "\n"


def _literal(value: float, real: str) -> str:
    if not math.isfinite(value):
        raise ArgumentError("engine: the net has weights that are not finite")
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return value.hex() + ("f" if real == "float" else "")


def _source(engine: Engine, memory: dict[str, _Memory], name: str, real: str) -> str:
    program, table, reals = engine.program, engine.table, engine.reals
    codes = list(FIELDS)
    used: list[str] = []
    calls: list[str] = []
    for row, op in enumerate(engine.ops):
        code = codes[int(table[row, 0])]
        used += [] if code in used else [code]
        arguments: list[str] = []
        for column, field in enumerate(FIELDS[code]):
            value = int(table[row, 1 + column])
            kind = OWN_KINDS.get((code, field), KINDS_OF.get(field, ""))
            kind = "" if (code, field) == ("popcount", "words") else kind
            absent = field in ("amap", "bmap", "L") and value <= 0
            arguments.append("0" if absent and kind else memory[kind].pointer(value) if kind else str(value))
        arguments += [_literal(float(v), real) for v in reals[row, : CONSTANTS.get(code, 0)]]
        calls.append(f"    k_{code}({', '.join(arguments)}); /* {op.where} */")
    arenas = [f"static {_ARENAS[k]} {k}[{m.changing}];" for k, m in memory.items() if m.changing]
    place = memory["F"].pointer
    reset = [f"    memset({place(at)}, 0, sizeof(real) * {size});" for at, size in program.zeroed]
    reset += [f"    memset({place(op.made.at)}, 0, sizeof(real) * {op.made.size});" for op in program.ops
              if op.code == "max_event" and op.made is not None]  # fmt: skip
    for at, values in program.state:
        start = _literal(float(values[0]), real)
        reset.append(f"    for (j = 0; j < {values.size}; j++) ({place(at)})[j] = {start};")
    reset += [f"    ({memory['J'].pointer(at)})[0] = 0;" for at in (*program.lists, *program.positions)]
    answer = engine._output.tolist()
    in_a_row = all(b == a + 1 for a, b in itertools.pairwise(answer))
    if in_a_row:
        give = [f"    memcpy(y, {place(answer[0])}, sizeof(real) * {len(answer)});"]
    else:
        give = [f"    y[{j}] = *({place(at)});" for j, at in enumerate(answer)]
    kernels = "\n".join(SOURCES[code] for code in used)
    parts = [
        f'#include "{name}.h"', "", "#include <math.h>", "#include <stdint.h>", "#include <string.h>", "",
        f"typedef {real} real;", "", f'#include "{name}_weights.h"', "", *arenas, "", _wanted(kernels), kernels,
        f"void {name}_reset(void) {{", "    int j = 0;", "    (void)j;", *reset, "}", "",
        f"void {name}_step(const real *x, real *y) {{",
        f"    memcpy({place(engine._entry)}, x, sizeof(real) * {math.prod(engine.input_shape)});",
        *calls, *give, "}", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _wanted(kernels: str) -> str:
    """What the kernels call, without the functions that none of them does."""
    comment, *functions = re.split(r"(?=^static void )", PRELUDE, flags=re.MULTILINE)
    called = [f for f in functions if re.search(rf"\b{_name(f)}\(", kernels)]
    return comment + "".join(called)


def _name(function: str) -> str:
    found: Any = re.match(r"static void (\w+)\(", function)
    return found.group(1)
