"""Event-driven or dense: measured on real input, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier.errors import ArgumentError
from ranvier.infer.engine.program import Op

if TYPE_CHECKING:
    from ranvier.infer.engine.engine import Engine

MOST_STEPS = 64
REPEATS = 3
MODES = ("auto", "event", "dense")


def calibrate(engine: Engine, x: Any, modes: str | Mapping[str, str]) -> None:
    """Run the sequence `x` `[T, ...]`, time every instruction in each of its variants at every step, and choose.

    `modes` is one of "auto", "event" and "dense", or such a word for places (the start of a module's name).
    """
    asked = {"": modes} if isinstance(modes, str) else dict(modes)
    for place, mode in asked.items():
        if mode not in MODES:
            raise ArgumentError(f"modes must be 'auto', 'event' or 'dense', got {mode!r} for {place!r}")
        if not any(op.where.startswith(place) for op in engine.program.ops):
            known = ", ".join(dict.fromkeys(op.where.split(" ")[0] for op in engine.program.ops))
            raise ArgumentError(f"modes: no layer {place!r}; layers: {known}")
    driver, arenas = engine._driver, engine._arenas
    open_ops = [op for op in engine.program.ops if len(op.variants) > 1]
    for op in open_ops:
        op.choice = "event"
    engine.assemble()
    engine.reset()
    rows = {
        id(op): {name: _row(engine, op, name) for name in op.variants} for op in open_ops
    }  # fmt: skip
    spent = {id(op): dict.fromkeys(op.variants, 0.0) for op in open_ops}
    active: dict[int, list[int]] = {}
    steps = np.ascontiguousarray(x[:MOST_STEPS], dtype=engine.dtype)
    clock = time.perf_counter_ns
    for number in range(-1, len(steps)):  # the first pass warms up
        if number == 0:
            engine.reset()
        engine._input[...] = steps[max(0, number)]
        for i, op in enumerate(engine.ops):
            found = rows.get(id(op))
            if found is None or number < 0:
                driver.drive(*arenas, engine.table, engine.reals, i, i + 1)
            if found is not None:
                for name, (P, S) in found.items():
                    best = 1 << 62
                    for _ in range(REPEATS):
                        start = clock()
                        driver.drive(*arenas, P, S, 0, 1)
                        best = min(best, clock() - start)
                    spent[id(op)][name] += best if number >= 0 else 0
            if number >= 0:
                count = engine.events(op)
                if count is not None:
                    active.setdefault(id(op), []).append(count)
    for op in open_ops:
        op.times = {name: t / 1e3 / len(steps) for name, t in spent[id(op)].items()}
        mode = next((asked[p] for p in sorted(asked, key=len, reverse=True) if op.where.startswith(p)), "auto")
        op.choice = min(op.times, key=lambda name: op.times[name]) if mode == "auto" else mode
        if op.choice not in op.variants:
            op.choice = "event"
    for op in engine.program.ops:
        if id(op) in active and op.source is not None and op.source.size:
            op.density = float(np.mean(active[id(op)])) / op.source.size
    engine.notes["steps"] = len(steps)
    engine.assemble()
    engine.reset()


def _row(engine: Engine, op: Op, name: str) -> tuple[Any, Any]:
    P, S = np.zeros((1, engine.table.shape[1]), np.int64), np.zeros((1, engine.reals.shape[1]), engine.dtype)
    engine.program.encode(op, name, P[0], S[0])
    return P, S
