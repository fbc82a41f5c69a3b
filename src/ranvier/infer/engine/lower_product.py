"""Products of two operands that both depend on the input: attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier.infer.engine.lower import Lowering, rule
from ranvier.infer.engine.program import Buffer, Counts, Index, Op
from ranvier.infer.engine.trace import Node, NotCompilableError, Ref


@rule("bmm")
def _bmm(low: Lowering, node: Node) -> None:
    a, b = node.args[:2]
    if isinstance(a, Ref) and isinstance(b, Ref):
        product(low, node, a, b)
        return
    x, constant = (a, b) if isinstance(a, Ref) else (b, a)
    if constant.shape[0] > 1 and not bool((constant == constant[:1]).all()):
        raise NotCompilableError("a product with a constant for every batch")
    from ranvier.infer.engine.lower_synapse import Weights, rows

    logical = np.arange(int(np.prod(node.out.shape))).reshape(node.out.shape)
    lying = low.positions(x)
    if isinstance(a, Ref):
        weight = constant[0].T[..., None, None]
        rows(
            low,
            node,
            lying.reshape(-1, lying.shape[-1]),
            x,
            logical.reshape(-1, logical.shape[-1]),
            Weights(weight, None),
        )
    else:
        lying, logical = lying.transpose(0, 2, 1), logical.transpose(0, 2, 1)
        weight = constant[0][..., None, None]
        rows(
            low,
            node,
            lying.reshape(-1, lying.shape[-1]),
            x,
            logical.reshape(-1, logical.shape[-1]),
            Weights(weight, None),
        )


def product(low: Lowering, node: Node, a: Ref, b: Ref) -> None:
    """`[B, M, K]` times `[B, K, N]`: bits are counted where both are spikes, rows added where one is."""
    B, M, K = a.shape
    N = b.shape[2]
    left, right = low.positions(a), low.positions(b)
    known_a, known_b = low.counts(a), low.counts(b)
    counts = None
    if known_a is not None and known_b is not None:
        counts = Counts(known_a.unit * known_b.unit, known_a.levels * known_b.levels * K)
    made = low.program.buffer(B * M * N, counts)
    bits = [c is not None and c.levels == 1 for c in (known_a, known_b)]
    if all(bits) and _once(left) and _once(right):
        assert counts is not None
        _popcount(low, node, made, a, b, counts.unit)
        return
    if (
        known_b is not None
        and _once(right)
        and (known_a is None or not _once(left) or known_a.levels >= known_b.levels)
    ):
        _added(low, node, made, a, left.transpose(0, 2, 1), b, right, swapped=False)
    elif known_a is not None and _once(left):
        _added(low, node, made, b, right, a, left.transpose(0, 2, 1), swapped=True)
    else:
        first, at = low.arranged(a, left.ravel(), node.where)
        second, to = low.arranged(b, right.transpose(0, 2, 1).ravel(), node.where)
        row: dict[str, Any] = {
            "code": "product_dense", "a": first.at + at, "b": second.at + to, "y": made.at, "B": B, "M": M, "N": N,
            "K": K,
        }  # fmt: skip
        low.program.add(Op(node.where, {"only": row}, "only", first, made))
        low.place(node.out, made, np.arange(B * M * N).reshape(node.out.shape))


def _once(lying: Index) -> bool:
    """Whether no place is used twice, as in an expanded view."""
    return np.unique(lying).size == lying.size


def _popcount(low: Lowering, node: Node, made: Buffer, a: Ref, b: Ref, unit: float) -> None:
    program, (B, M, K), N = low.program, a.shape, b.shape[2]
    words = -(-K // 64)
    row: dict[str, Any] = {
        "code": "popcount", "y": made.at, "B": B, "M": M, "N": N, "words": words, "sb": M * N, "sm": N, "sn": 1,
        "reals": (unit,),
    }  # fmt: skip
    for name, ref, lines, order in (("left", a, M, (0, 1, 2)), ("right", b, N, (0, 2, 1))):
        buffer = low.buffer(ref)
        L = program.events_of(buffer, node.where)
        lying = low.positions(ref).transpose(order)
        table = np.full(buffer.size, -1, np.int64)
        bit = (np.arange(B * lines)[:, None] * words * 64 + np.arange(K)).reshape(lying.shape)
        table[lying.ravel()] = bit.ravel()
        row[name] = program.U.reserve(B * lines * words)
        pack = {
            "code": "pack", "L": L, "table": program.I.put(table), "words": row[name], "count": B * lines * words,
        }  # fmt: skip
        op = program.add(Op(node.where, {"only": pack}, "only", buffer))
        low.reads(op, buffer)
    op = program.add(Op(node.where, {"only": row}, "only", low.buffer(a), made, note="popcount"))
    order = np.arange(B * M * N).reshape(B, M, N)
    made.movable = (op, {"sb": M * N, "sm": N, "sn": 1}, {"sb": M * N, "sm": 1, "sn": M}, order)
    low.place(node.out, made, order.reshape(node.out.shape))


def _added(
    low: Lowering, node: Node, made: Buffer, dense: Ref, lying: Index, spikes: Ref, where: Index, swapped: bool
) -> None:
    """For every spike at (k, j) the row k of the other operand (`lying` is `[B, K, M]`) is added to output j (`where`
    is `[B, K, N]`)."""
    program = low.program
    B, K, M = lying.shape
    N = where.shape[2]
    buffer = low.buffer(dense)
    if buffer.movable is not None and not (np.diff(lying.ravel()) == 1).all():
        # Counted products can be written in another order, as long as nothing has read them.
        op, _, other, order = buffer.movable
        if op.made is not None and not op.made.readers and low.uses.get(dense.storage, 0) == 1:
            op.variants["only"] |= other
            _, perm = low.placed[dense.storage]
            turned = np.empty(order.size, np.int64)
            turned[order.transpose(0, 2, 1).ravel()] = np.arange(order.size)
            low.placed[dense.storage] = (buffer, np.where(perm < 0, -1, turned[perm]))
            buffer.movable = None
            lying = turned[lying]
    source, at = low.arranged(dense, lying.ravel(), node.where)
    spiking = low.buffer(spikes)
    L = program.events_of(spiking, node.where)
    tables = np.full((2, spiking.size), -1, np.int64)
    k = np.arange(B * K).reshape(B, K, 1)
    n = np.arange(B).reshape(B, 1, 1) * N + np.arange(N)
    tables[0, where.ravel()] = np.broadcast_to(k * M, where.shape).ravel()
    tables[1, where.ravel()] = np.broadcast_to(n * M, where.shape).ravel()
    counts = spiking.counts
    row: dict[str, Any] = {
        "code": "product_event", "x": source.at + at, "s": spiking.at, "L": L, "source": program.I.put(tables[0]),
        "target": program.I.put(tables[1]), "y": made.at, "n": made.size, "m": M,
        "binary": int(counts is not None and counts.binary),
    }  # fmt: skip
    op = program.add(Op(node.where, {"only": row}, "only", spiking, made, work=M))
    low.reads(op, spiking)
    lies = np.arange(B * N * M).reshape(B, N, M)
    low.place(node.out, made, (lies if swapped else lies.transpose(0, 2, 1)).reshape(node.out.shape))
