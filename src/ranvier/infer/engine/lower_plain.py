"""Copies, arithmetic, sums and pools."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.infer.engine.codes import KINDS, UNARY
from ranvier.infer.engine.lower import Lowering, rule
from ranvier.infer.engine.lower_synapse import affine_map, plane
from ranvier.infer.engine.program import Buffer, Counts, Index, Op
from ranvier.infer.engine.trace import Node, NotCompilableError, Ref


@rule("clone", "_to_copy", "contiguous", "alias", "detach", "_unsafe_view", "view", "_reshape_copy", "native_dropout",
      "dropout", "lift_fresh")  # fmt: skip
def _same(low: Lowering, node: Node) -> None:
    """The same numbers in another order: nothing is moved."""
    x = node.args[0]
    low.place(node.out, low.buffer(x), low.positions(x))


@rule("cat", "stack")
def _join(low: Lowering, node: Node) -> None:
    parts = list(node.args[0])
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    program = low.program
    known = {low.counts(p) if isinstance(p, Ref) else None for p in parts}
    units = {c.unit for c in known if c is not None}
    counts = None
    if None not in known and len(units) == 1:
        counts = Counts(units.pop(), max(c.levels for c in known if c is not None))
    made = program.buffer(int(np.prod(node.out.shape)), counts)
    at = 0
    lying: list[Index] = []
    for part in parts:
        size = part.numel() if isinstance(part, Tensor) else int(np.prod(part.shape))
        if isinstance(part, Tensor):
            start, order = program.F.put(part.numpy()), np.arange(size).reshape(part.shape)
            source = Buffer(start, size, None)
        else:
            start, order, source = low.flat(part, node.where)
        row = {"code": "copy", "x": start, "y": made.at + at, "n": size, "map": program.I.put(np.arange(size))}
        program.add(Op(node.where, {"only": row}, "only", source, made))
        lying.append(order + at)
        at += size
    join = np.concatenate if node.op == "aten.cat" else np.stack
    low.place(node.out, made, join(lying, axis=axis))


@rule("add", "sub", "mul", "div", "rsub")
def _arithmetic(low: Lowering, node: Node) -> None:
    kind = node.op.removeprefix("aten.")
    if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("rounding_mode") is not None:
        raise NotCompilableError(f"{kind} with {', '.join(node.kwargs)}")
    a, b = node.args[:2]
    if not isinstance(a, Ref):
        if kind in ("add", "mul"):
            a, b = b, a
        elif kind == "sub":
            a, b, kind = b, a, "rsub"
        else:
            raise NotCompilableError("a constant divided by the input")
    number = _number(b)
    if number is None and not isinstance(b, Ref) and tuple(node.out.shape) == a.shape:
        found = affine_map(node)
        if found is not None:
            _affine(low, node, *found)
            return
    binary_op(low, node, a, b, number, kind)


def binary_op(low: Lowering, node: Node, a: Ref, b: Any, number: float | None, kind: str) -> None:
    """`a kind b` element by element with broadcasting."""
    program, shape = low.program, node.out.shape
    base, order, left = low.flat(a, node.where)
    n = int(np.prod(shape))
    row: dict[str, Any] = {"code": "binary", "amap": -1, "b": 0, "bmode": 1, "bmap": 0, "kind": KINDS[kind], "n": n}
    swapped = isinstance(b, Ref) and a.shape != shape and b.shape == shape and kind in ("add", "mul")
    if swapped:
        return binary_op(low, node, b, a, None, kind)
    if a.shape == shape:
        out = order
    else:
        out = np.arange(n).reshape(shape)
        row["amap"] = program.I.put(np.broadcast_to(order, shape))
    row["a"] = base
    if number is not None:
        row["reals"] = (number,)
    else:
        if isinstance(b, Ref):
            start, right, _ = low.flat(b, node.where)
        else:
            start, right = program.F.put(b.detach().numpy()), np.arange(b.numel()).reshape(b.shape)
        row["b"] = start
        lying = np.empty(n, np.int64)
        lying[out.ravel()] = np.broadcast_to(right, shape).ravel()
        if np.array_equal(lying, np.arange(n)):
            row["bmode"] = 0
        else:
            row |= {"bmode": 2, "bmap": program.I.put(lying)}
    made = program.buffer(n, _counts_of(kind, low.counts(a), low.counts(b) if isinstance(b, Ref) else None, number))
    row["y"] = made.at
    program.add(Op(node.where, {"only": row}, "only", left, made))
    low.place(node.out, made, out)


def _counts_of(kind: str, a: Counts | None, b: Counts | None, number: float | None) -> Counts | None:
    if a is None:
        return None
    if number is not None:
        if kind == "mul" and number > 0:
            return Counts(a.unit * number, a.levels)
        if kind == "div" and number > 0:
            return Counts(a.unit / number, a.levels)
        return a if kind == "rsub" and number == 1 and a.binary else None
    if b is None:
        return None
    if kind == "add" and a.unit == b.unit:
        return Counts(a.unit, a.levels + b.levels)
    return Counts(a.unit * b.unit, a.levels * b.levels) if kind == "mul" else None


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "batch_norm")
def _norm(low: Lowering, node: Node) -> None:
    found = affine_map(node)
    if found is None:
        raise NotCompilableError("a batch norm that is in training, or keeps no statistics")
    _affine(low, node, *found)


def _affine(low: Lowering, node: Node, x: Ref, a: Tensor, b: Tensor) -> None:
    base, order, source = low.flat(x, node.where)
    n = order.size
    both = torch.stack([a.expand(x.shape), b.expand(x.shape)])
    factor, first = low.channels(both[0], order, x.shape)
    shift, second = low.channels(both[1], order, x.shape)
    C = min(n, math.lcm(first, second))
    made = low.program.buffer(n)
    row = {
        "code": "affine", "x": base, "y": made.at, "n": n, "C": C,
        "a": low.program.F.put(np.resize(factor, C)), "b": low.program.F.put(np.resize(shift, C)),
    }  # fmt: skip
    low.program.add(Op(node.where, {"only": row}, "only", source, made))
    low.place(node.out, made, order)


@rule("relu", "neg", "abs", "sigmoid", "tanh")
def _unary(low: Lowering, node: Node) -> None:
    x = node.args[0]
    base, order, source = low.flat(x, node.where)
    kind = node.op.removeprefix("aten.")
    made = low.program.buffer(order.size, source.counts if kind in ("relu", "abs") else None)
    row = {"code": "unary", "x": base, "y": made.at, "n": order.size, "kind": UNARY[kind]}
    low.program.add(Op(node.where, {"only": row}, "only", source, made))
    low.place(node.out, made, order)


def sums(low: Lowering, node: Node, x: Ref, groups: list[Index], scale: Any, counts: Counts | None) -> None:
    """Output i is `scale[i]` times the sum over the places `groups[i]` of the buffer of x."""
    program = low.program
    source = low.buffer(x)
    made = program.buffer(len(groups), counts)
    members = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    owner = np.repeat(np.arange(len(groups)), [g.size for g in groups])
    by_place = np.argsort(members, kind="stable")
    row: dict[str, Any] = {"x": source.at, "y": made.at, "m": len(groups), "scale": program.F.put(scale)}
    dense = {
        "code": "sum_dense", **row, "idx": program.I.put(members),
        "ptr": program.I.put(np.concatenate([[0], np.cumsum([g.size for g in groups])])),
    }  # fmt: skip
    event = {
        "code": "sum_event", **row, "idx": program.I.put(owner[by_place]),
        "ptr": program.I.put(np.concatenate([[0], np.cumsum(np.bincount(members, minlength=source.size))])),
    }  # fmt: skip
    spikes = source.counts is not None
    if spikes:
        event["L"] = program.events_of(source, node.where)
    op = Op(node.where, {"event": event, "dense": dense} if spikes else {"only": dense},
            "event" if spikes else "only", source, made)  # fmt: skip
    program.add(op)
    if spikes:
        op.work = max(1, members.size / source.size)
        low.reads(op, source)
    low.place(node.out, made, np.arange(len(groups)).reshape(node.out.shape))


@rule("mean", "sum")
def _reduce(low: Lowering, node: Node) -> None:
    x = node.args[0]
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = tuple(range(len(x.shape))) if axes is None or axes == [] else (axes,) if isinstance(axes, int) else axes
    axes = tuple(a % len(x.shape) for a in axes)
    lying = low.positions(x)
    if all(x.shape[a] == 1 for a in axes):
        low.place(node.out, low.buffer(x), lying)
        return
    rest = [a for a in range(len(x.shape)) if a not in axes]
    grouped = lying.transpose([*rest, *axes]).reshape(math.prod(x.shape[a] for a in rest), -1)
    size = grouped.shape[1]
    counts = low.counts(x)
    unit = 1 / size if node.op == "aten.mean" else 1.0
    if counts is not None:
        counts = Counts(counts.unit * unit, counts.levels * size)
    sums(low, node, x, list(grouped), np.full(len(grouped), unit), counts)


def _windows(node: Node, settings: Any, dims: int) -> tuple[tuple[int, int], ...]:
    kernel, stride, padding = settings
    return plane(kernel, dims, 1), plane(stride or kernel, dims, 1), plane(padding, dims, 0)


def _image(low: Lowering, x: Ref, dims: int) -> tuple[Index, int, int, int]:
    """Places of a one-sample image as `[channel, row, column]`, and its size."""
    lead = x.shape[:-dims]
    C = math.prod(lead)
    H, W = x.shape[-2:] if dims == 2 else (1, x.shape[-1])
    return low.positions(x).reshape(C, H, W), C, H, W


@rule("max_pool2d_with_indices", "max_pool2d", "max_pool1d", "max_pool1d_with_indices")
def _max_pool(low: Lowering, node: Node) -> None:
    dims = 1 if "1d" in node.op else 2
    x = node.args[0]
    args = [*node.args[1:], *[None] * 5][:5]
    (kh, kw), (sh, sw), (ph, pw) = _windows(node, (args[0], args[1], args[2] or 0), dims)
    dh, dw = plane(args[3] or 1, dims, 1)
    if args[4] and node.op == "aten.max_pool2d":
        raise NotCompilableError("a pool with ceil_mode")
    lying, C, H, W = _image(low, x, dims)
    OH, OW = node.out.shape[-2:] if dims == 2 else (1, node.out.shape[-1])
    source = low.whole(x, lying.transpose(1, 2, 0).ravel(), node.where)
    program = low.program
    made = program.buffer(OH * OW * C, source.counts)
    row: dict[str, Any] = {
        "code": "max_dense", "x": source.at, "y": made.at, "H": H, "W": W, "C": C, "OH": OH, "OW": OW, "kh": kh,
        "kw": kw, "sh": sh, "sw": sw, "ph": ph, "pw": pw, "dh": dh, "dw": dw,
    }  # fmt: skip
    variants, choice = {"only": row}, "only"
    if source.counts is not None:
        to, fan = _windows_of(H, W, C, OH, OW, kh, kw, sh, sw, ph, pw, dh, dw)
        made.events = program.I.reserve(made.size + 2)
        program.lists.append(made.events)
        event = {
            "code": "max_event", "x": source.at, "L": program.events_of(source, node.where), "y": made.at,
            "M": made.events, "to": program.I.put(to), "fan": fan,
        }  # fmt: skip
        variants, choice = {"event": event, "dense": row}, "event"
    op = program.add(Op(node.where, variants, choice, source, made))
    if choice == "event":
        op.work = 1
        low.reads(op, source)
        scan = {"code": "events", "x": made.at, "n": made.size, "L": made.events}
        made.keeper = program.add(Op(node.where, {"only": scan}, "only", made))
    low.place(node.out, made, np.arange(made.size).reshape(OH, OW, C).transpose(2, 0, 1).reshape(node.out.shape))


def _windows_of(H: int, W: int, C: int, OH: int, OW: int, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int,
                dh: int, dw: int) -> tuple[Index, int]:  # fmt: skip
    """For every element of a channels-last image the outputs whose windows have it, -1 behind the last."""

    def along(n: int, out: int, k: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(n)]
        for o in range(out):
            for tap in range(k):
                at = o * stride + tap * dilation - padding
                if 0 <= at < n:
                    found[at].append(o)
        return found

    down, across = along(H, OH, kh, sh, ph, dh), along(W, OW, kw, sw, pw, dw)
    fan = max(1, max(map(len, down)) * max(map(len, across)))
    pixels = np.full((H, W, fan), -1, np.int64)
    for i, over in enumerate(down):
        for j, side in enumerate(across):
            both = [a * OW + b for a in over for b in side]
            pixels[i, j, : len(both)] = both
    table = np.where(pixels[:, :, None] < 0, -1, pixels[:, :, None] * C + np.arange(C)[None, None, :, None])
    return table.reshape(-1), fan


@rule("avg_pool2d", "avg_pool1d", "_adaptive_avg_pool2d", "adaptive_avg_pool1d")
def _avg_pool(low: Lowering, node: Node) -> None:
    dims = 1 if "1d" in node.op else 2
    x = node.args[0]
    lying, C, H, W = _image(low, x, dims)
    OH, OW = node.out.shape[-2:] if dims == 2 else (1, node.out.shape[-1])
    groups: list[Index] = []
    scale: list[float] = []
    if "adaptive" in node.op:
        rows = [(i * H // OH, -(-(i + 1) * H // OH)) for i in range(OH)]
        columns = [(i * W // OW, -(-(i + 1) * W // OW)) for i in range(OW)]
        spans = [(r, c, (r[1] - r[0]) * (c[1] - c[0])) for r in rows for c in columns]
    else:
        args = [*node.args[1:], *[None] * 6][:6]
        (kh, kw), (sh, sw), (ph, pw) = _windows(node, (args[0], args[1], args[2] or 0), dims)
        include = True if args[4] is None else bool(args[4])
        spans = []
        for i in range(OH):
            for j in range(OW):
                top, left = i * sh - ph, j * sw - pw
                whole = (min(top + kh, H + ph) - top) * (min(left + kw, W + pw) - left)
                r, c = (max(top, 0), min(top + kh, H)), (max(left, 0), min(left + kw, W))
                area = (r[1] - r[0]) * (c[1] - c[0])
                divisor = args[5] if len(args) > 5 and args[5] else whole if include else area
                spans.append((r, c, int(divisor)))
    for r, c, area in spans:
        window = lying[:, r[0] : r[1], c[0] : c[1]].reshape(C, -1)
        groups += list(window)
        scale += [1 / area] * C
    counts = low.counts(x)
    areas = {s[2] for s in spans}
    if counts is not None:
        counts = (
            Counts(counts.unit / areas.pop(), counts.levels * max(g.size for g in groups)) if len(areas) == 1 else None
        )
    out = Ref(node.out.storage, node.out.offset, node.out.shape, node.out.strides)
    sums(low, node, x, groups, np.array(scale), counts)
    made = low.placed[out.storage][0]
    low.place(out, made, np.arange(made.size).reshape(OH, OW, C).transpose(2, 0, 1).reshape(out.shape))
