"""Linear layers, convolutions, and the norms and scales behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.infer.engine.lower import Lowering, leaf_rule, offsets, refs, rule
from ranvier.infer.engine.program import Buffer, Index, Op
from ranvier.infer.engine.trace import Node, NotCompilableError, Ref
from ranvier.infer.spike_synapse import SpikeSynapse
from ranvier.layers.quant import IntSynapse, QuantSynapse

_PAST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Weights:
    """`scale ⊙ (weight x) + bias`; `weight` is `[co, ci / groups, kh, kw]`, whole numbers in int8 where `scale` is
    there."""

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None = None

    def affine(self, a: Tensor, b: Tensor) -> Weights:
        """Followed by `a y + b`."""
        bias = b if self.bias is None else self.bias * a + b
        if self.scale is not None:
            return replace(self, scale=self.scale * a, bias=bias)
        return Weights(self.weight * a.view(-1, 1, 1, 1), bias)


def affine_of(
    low: Lowering, node: Node, before: Ref, out_channel: Index, channels: int
) -> tuple[Tensor, Tensor] | None:
    """The numbers a, b a channel where `node` is `a y + b` of all of `before`; `out_channel` has the channel of every
    element of the storage of `before`, -1 where nothing lies."""
    found = affine_map(node)
    if found is None or found[0].storage != before.storage:
        return None
    ref, a, b = found
    channel = out_channel[offsets(ref)]
    if channel.size != (out_channel >= 0).sum() or (channel < 0).any():
        return None
    made: list[Tensor] = []
    for values in (a, b):
        spread = values.expand(ref.shape).flatten()
        each = spread.new_zeros(channels)
        each[torch.from_numpy(channel.ravel())] = spread
        if not torch.equal(each[torch.from_numpy(channel.ravel())], spread):
            return None
        made.append(each)
    return made[0], made[1]


def affine_map(node: Node) -> tuple[Ref, Tensor, Tensor] | None:
    """`(x, a, b)` where `node` computes `a x + b` with constants that broadcast to x."""
    args = node.args
    if node.op in ("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training", "aten.batch_norm"):
        x, weight, bias, mean, var = args[:5]
        training = bool(args[5]) if node.op != "aten._native_batch_norm_legit_no_training" else False
        if not isinstance(x, Ref) or training or mean is None:
            return None
        eps = args[7] if node.op != "aten._native_batch_norm_legit_no_training" else args[6]
        a = (var + eps).rsqrt()
        a = a if weight is None else a * weight
        b = -mean * a if bias is None else bias - mean * a
        shape = (1, -1, *[1] * (len(x.shape) - 2))
        return x, a.view(shape), b.view(shape)
    if node.op in ("aten.mul", "aten.div", "aten.add", "aten.sub") and len(args) >= 2 and not node.kwargs:
        x, c = (args[0], args[1]) if isinstance(args[0], Ref) else (args[1], args[0])
        if not isinstance(x, Ref) or isinstance(c, Ref) or tuple(node.out.shape) != x.shape:
            return None
        if node.op in ("aten.div", "aten.sub") and not isinstance(args[0], Ref):
            return None
        c = c if isinstance(c, Tensor) else torch.tensor(c, dtype=torch.get_default_dtype())
        if not c.is_floating_point() or c.dim() > len(x.shape):
            return None
        one, zero = torch.ones_like(c), torch.zeros_like(c)
        if node.op == "aten.mul":
            return x, c, zero
        if node.op == "aten.div":
            return (x, 1 / c, zero) if c.numel() == 1 and _power_of_two(float(c)) else None
        return x, one, c if node.op == "aten.add" else -c
    return None


def _power_of_two(value: float) -> bool:
    return value != 0 and np.frexp(abs(value))[0] == 0.5


def absorb(low: Lowering, node: Node, channel: Index, weights: Weights) -> tuple[Weights, Node]:
    """Takes norms and scales that directly follow `node`, and that nothing else sees, into its weights."""
    last = node
    channels = weights.weight.shape[0]
    number = low.number
    while low.uses.get(last.out.storage, 0) == 1 and last.out.storage != low.trace.output.storage:
        number = next(
            (i for i in range(number + 1, len(low.trace.nodes)) if _takes(low.trace.nodes[i], last.out.storage)), -1
        )
        if number < 0:
            break
        following = low.trace.nodes[number]
        flat = _storage_channel(low, last.out, channel)
        found = affine_of(low, following, last.out, flat, channels)
        if found is None or low.trace.sizes[following.out.storage] != np.prod(following.out.shape):
            break
        dtype = weights.weight.dtype if weights.scale is None else weights.scale.dtype
        weights = weights.affine(found[0].to(dtype), found[1].to(dtype))
        source = affine_map(following)
        assert source is not None
        channel = flat[offsets(source[0])]
        low.skip.add(number)
        last = following
    return weights, last


def _takes(node: Node, storage: int) -> bool:
    return any(ref.storage == storage for ref in refs(node))


def _storage_channel(low: Lowering, out: Ref, channel: Index) -> Index:
    flat = np.full(low.trace.sizes[out.storage], -1, np.int64)
    flat[offsets(out)] = channel.reshape(out.shape)
    return flat


def _numbers(t: Tensor | None) -> Any:
    return None if t is None else t.detach().cpu().numpy()


def rows(low: Lowering, node: Node, x: Index, ref: Ref, out: Index, weights: Weights) -> None:
    """A linear map of P rows. `x` has the places of the operand `[P, ci]`; `out` the number of the logical element
    `[P, co]` of the output of `node`."""
    P, ci = x.shape
    co = weights.weight.shape[0]
    channel = np.empty(out.size, np.int64)
    channel[out.ravel()] = np.tile(np.arange(co), P)
    weights, last = absorb(low, node, channel, weights)
    weight = weights.weight.flatten(1).T  # [ci, co]
    buffer = low.buffer(ref)
    order = x.ravel()
    if P == 1 and buffer.size == ci and np.array_equal(np.sort(order), np.arange(ci)):
        sort = torch.from_numpy(np.argsort(order))  # the rows of weights follow the order of the buffer
        weight, source = weight[sort], buffer
    else:
        source = low.whole(ref, order, node.where)
    program = low.program
    made = program.buffer(P * co)
    row: dict[str, Any] = {"x": source.at, "y": made.at, "P": P, "ci": ci, "co": co}
    op = _synapse(low, node, source, made, weights, weight, row, "rows")
    op.work = co
    positions = np.empty(out.size, np.int64)
    positions[out.ravel()] = np.arange(P * co)
    low.place(last.out, made, positions)


def _synapse(
    low: Lowering, node: Node, source: Buffer, made: Buffer, weights: Weights, weight: Tensor, row: dict[str, Any],
    kind: str,
) -> Op:  # fmt: skip
    """The instruction in its variants: weights as they are, or in 8 bits where both sides are whole numbers."""
    program, where = low.program, node.where
    co = row["co"]
    row["b"] = program.F.put(np.zeros(co) if weights.bias is None else _numbers(weights.bias))
    L = program.events_of(source, where)
    counts = source.counts
    row["binary"] = int(counts is not None and counts.binary)
    scale = weights.scale
    if scale is not None and counts is not None:
        largest = float(weight.abs().max()) * counts.levels * weight.numel()
        if largest < _PAST:
            row |= {
                "w": program.Q.put(_numbers(weight.to(torch.int8))), "L": L,
                "scale": program.F.put(_numbers(scale * torch.as_tensor(counts.unit, dtype=scale.dtype))),
                "acc": program.A.reserve(made.size), "reals": (1.0 / counts.unit,),
            }  # fmt: skip
            variants = {"event": {"code": f"{kind}_int8", **row}}
            if kind == "rows":
                variants["dense"] = {"code": "rows_int8_dense", **row}
            op = program.add(Op(where, variants, "event", source, made, note="int8"))
            low.reads(op, source)
            return op
    if scale is not None:
        weight = weight.to(scale.dtype)
        weight = weight * scale if kind == "rows" else _scaled(weight, scale)
    row |= {"w": program.F.put(_numbers(weight)), "L": L}
    variants = {"event": {"code": f"{kind}_event", **row}, "dense": {"code": f"{kind}_dense", **row}}
    op = program.add(Op(where, variants, "event", source, made))
    low.reads(op, source)
    return op


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    """Convolution weights `[ci, kh, kw, co / groups]` times a number an output channel."""
    ci, _, _, width = weight.shape
    groups = scale.numel() // width
    return weight * scale.view(groups, 1, 1, 1, width).expand(groups, ci // groups, 1, 1, width).reshape(
        ci, 1, 1, width
    )


def convolution(
    low: Lowering, node: Node, ref: Ref, weights: Weights, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    """A convolution of an operand `[1, C, N]` or `[1, C, H, W]`."""
    dims = len(ref.shape) - 2
    if dims not in (1, 2) or ref.shape[0] != 1:
        raise NotCompilableError(f"a convolution of shape {ref.shape}")
    (sh, sw), (dh, dw), (ph, pw) = plane(stride, dims, 1), plane(dilation, dims, 1), plane(padding, dims, 0)
    ci = ref.shape[1]
    H, W = ref.shape[2:] if dims == 2 else (1, ref.shape[2])
    OH, OW = node.out.shape[2:] if dims == 2 else (1, node.out.shape[2])
    co, kh, kw = weights.weight.shape[0], *weights.weight.shape[2:]
    logical = np.arange(co * OH * OW).reshape(co, OH * OW)
    lying = low.positions(ref).reshape(ci, H * W).T  # [pixel, channel]
    if (kh, kw, sh, sw, ph, pw, groups) == (1, 1, 1, 1, 0, 0, 1):
        rows(low, node, lying, ref, logical.T, weights)
        return
    channel = np.repeat(np.arange(co), OH * OW)
    weights, last = absorb(low, node, channel, weights)
    source = low.whole(ref, lying.ravel(), node.where)
    made = low.program.buffer(OH * OW * co)
    row: dict[str, Any] = {
        "x": source.at, "y": made.at, "H": H, "W": W, "ci": ci, "OH": OH, "OW": OW, "co": co, "kh": kh, "kw": kw,
        "sh": sh, "sw": sw, "ph": ph, "pw": pw, "dh": dh, "dw": dw, "groups": groups,
    }  # fmt: skip
    weight = weights.weight.unflatten(0, (groups, -1)).permute(0, 2, 3, 4, 1).flip(3)  # [g, ci/g, ky, kx, co/g]
    op = _synapse(low, node, source, made, weights, weight.flatten(0, 1), row, "conv")
    op.work = kh * kw * co // groups / (sh * sw)
    positions = np.empty(logical.size, np.int64)
    positions[logical.T.ravel()] = np.arange(logical.size)
    low.place(last.out, made, positions)


def plane(value: Any, dims: int, missing: int) -> tuple[int, int]:
    """A setting of a window as a pair; a window over one axis is one over a plane of height 1."""
    given = [int(value)] * dims if isinstance(value, int) else [int(v) for v in value]
    given = given * dims if len(given) == 1 else given
    return (missing, given[0]) if dims == 1 else (given[0], given[1])


@rule("convolution")
def _convolution(low: Lowering, node: Node) -> None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    if not isinstance(x, Ref) or isinstance(weight, Ref) or transposed:
        raise NotCompilableError("a convolution with weights that depend on the input" if not transposed else
                                 "a transposed convolution")  # fmt: skip
    convolution(low, node, x, Weights(_square(weight), bias), stride, padding, dilation, groups)


def _square(weight: Tensor) -> Tensor:
    return weight.unsqueeze(2) if weight.dim() == 3 else weight if weight.dim() == 4 else weight[..., None, None]


@rule("mm", "addmm")
def _matrix(low: Lowering, node: Node) -> None:
    bias, (a, b) = (node.args[0], node.args[1:3]) if node.op == "aten.addmm" else (None, node.args[:2])
    if node.kwargs or isinstance(bias, Ref):
        raise NotCompilableError("a matrix product with a bias that depends on the input")
    if isinstance(a, Ref) and isinstance(b, Ref):
        from ranvier.infer.engine.lower_product import product

        product(low, node, _unsqueezed(a), _unsqueezed(b))
        return
    P, co = node.out.shape
    logical = np.arange(P * co).reshape(P, co)
    if isinstance(a, Ref):
        bias = None if bias is None else bias.expand(P, co)
        if bias is not None and not torch.equal(bias[:1].expand_as(bias), bias):
            raise NotCompilableError("a bias for every row")
        weights = Weights(b.T[..., None, None], None if bias is None else bias[0])
        rows(low, node, low.positions(a), a, logical, weights)
    else:
        if bias is not None:
            raise NotCompilableError("a constant matrix times the input, plus a bias")
        rows(low, node, low.positions(b).T, b, logical.T, Weights(a[..., None, None], None))


def _unsqueezed(ref: Ref) -> Ref:
    return Ref(ref.storage, ref.offset, (1, *ref.shape), (0, *ref.strides))


@leaf_rule(QuantSynapse, IntSynapse, SpikeSynapse)
def _whole(low: Lowering, node: Node) -> None:
    module, ref = node.module, node.args[0]
    scale: Tensor | None
    if isinstance(module, QuantSynapse):
        levels, scale = module.quantizer.integers(module.weight)
        bias: Any = module.bias
        geometry: Any = module if hasattr(module, "stride") else None
        conv: Any = None if geometry is None else (
            geometry.stride, geometry.padding, geometry.dilation, geometry.groups  # pyright: ignore
        )  # fmt: skip
    elif isinstance(module, IntSynapse):
        levels, scale, bias, conv = module.levels, module.scale, module.bias, module.conv
    else:
        assert isinstance(module, SpikeSynapse)
        inner: Any = module.synapse
        levels, scale, bias = inner.weight, module.scale, module.bias
        conv = (inner.stride, inner.padding, inner.dilation, inner.groups) if hasattr(inner, "stride") else None
    levels = levels.detach()
    weight = _square(levels)
    if scale is not None:
        scale = scale.detach().flatten().expand(weight.shape[0])
        if float(weight.abs().max()) > 127:
            weight, scale = weight * scale.view(-1, 1, 1, 1), None
    weights = Weights(weight, None if bias is None else bias.detach(), scale)
    if conv is None:
        P, co = int(np.prod(ref.shape[:-1])), weight.shape[0]
        rows(low, node, low.positions(ref).reshape(P, -1), ref, np.arange(P * co).reshape(P, co), weights)
        return
    stride, padding, dilation, groups = conv
    if isinstance(padding, str):
        raise NotCompilableError(f"padding={padding!r}")
    convolution(low, node, ref, weights, stride, padding, dilation, groups)
