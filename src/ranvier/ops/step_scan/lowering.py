"""What each pointwise torch operation means for one element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.expressions import COMPARISONS, Expressions, Value

aten = torch.ops.aten
Rule = Callable[..., Value]

# Composite operations that torch itself splits into those of the table below.
SPLIT = [
    aten.sigmoid_backward, aten.tanh_backward, aten.threshold_backward, aten.softplus, aten.softplus_backward,
    aten.silu, aten.silu_backward, aten.gelu, aten.gelu_backward, aten.elu, aten.elu_backward, aten.leaky_relu,
    aten.leaky_relu_backward, aten.hardtanh, aten.hardtanh_backward, aten.hardsigmoid, aten.hardsigmoid_backward,
    aten.addcmul, aten.addcdiv, aten.lerp, aten.log_sigmoid_forward, aten.log_sigmoid_backward, aten.logit,
    aten.logit_backward, aten.hardswish, aten.hardswish_backward, aten.mish, aten.mish_backward, aten.heaviside,
    aten.relu6, aten.softshrink, aten.hardshrink, aten.threshold,
]  # fmt: skip

# Results that are one number everywhere, whatever tensor lends its shape: the number's place among the arguments.
FILLED: dict[Any, int | float | str] = {
    aten.zeros_like: 0.0, aten.ones_like: 1.0, aten.zeros: 0.0, aten.ones: 1.0, aten.new_zeros: 0.0, aten.new_ones: 1.0,
    aten.full_like: "second", aten.full: "second", aten.new_full: "third", aten.scalar_tensor: "first",
}  # fmt: skip

UNCHANGED = (
    aten.detach, aten.alias, aten.clone, aten.view, aten._unsafe_view, aten.reshape, aten.expand, aten.contiguous,
    aten.lift_fresh, aten.lift_fresh_copy,
)  # fmt: skip


def filled_with(node: torch.fx.Node) -> float | None:
    """The one number that a factory call fills its result with, None for any other call."""
    rule = FILLED.get(getattr(node.target, "overloadpacket", None))
    if rule is None or isinstance(rule, float):
        return rule
    value = node.args[("first", "second", "third").index(str(rule))]
    return float(value) if isinstance(value, int | float) else None


def lower(e: Expressions, node: torch.fx.Node, values: dict[torch.fx.Node, Value]) -> Value:
    """The value of a pointwise call `node` whose tensor arguments have the given `values`."""
    packet = getattr(node.target, "overloadpacket", None)

    def value(a: Any) -> Any:
        if isinstance(a, torch.fx.Node):
            return values[a]
        return e.constant(float(a)) if isinstance(a, bool | int | float) else a

    if packet in UNCHANGED:
        return values[_node(node.args[0])]
    if packet is aten._to_copy:
        return _cast(e, values[_node(node.args[0])], node)
    rule = RULES.get(packet)
    if rule is None:
        raise CannotFuse(f"no kernel rule for {node.target}")
    return rule(e, *(value(a) for a in node.args), **{k: value(a) for k, a in node.kwargs.items()})


def has_rule(node: torch.fx.Node) -> bool:
    """Whether `lower` knows this call."""
    packet = getattr(node.target, "overloadpacket", None)
    return packet in RULES or packet in UNCHANGED or packet is aten._to_copy


def _node(a: Any) -> torch.fx.Node:
    assert isinstance(a, torch.fx.Node)
    return a


def _cast(e: Expressions, v: Value, node: torch.fx.Node) -> Value:
    dtype = node.meta["val"].dtype
    if dtype == torch.bool:
        return e.truth(v)
    wanted = torch.float32 if e.dtype.__name__ == "float32" else torch.float64
    if dtype != wanted:
        raise CannotFuse(f"converts to {dtype} where the kernel computes in {wanted}")
    return e.number(v)


def _scaled(e: Expressions, v: Value, alpha: Value | None) -> Value:
    return v if alpha is None else e.make("mul", v, alpha)


def _div(e: Expressions, a: Value, b: Value, rounding_mode: str | None = None) -> Value:
    if rounding_mode == "floor":
        raise CannotFuse("division that rounds down")
    q = e.make("div", a, b)
    return e.make("trunc", q) if rounding_mode == "trunc" else q


def _sigmoid(e: Expressions, a: Value) -> Value:
    one = e.constant(1)
    small = e.make("exp", e.make("neg", e.make("abs", a)))  # never overflows, and one exponential serves σ(x) and σ(−x)
    share = e.make("div", one, e.make("add", one, small))
    return e.make("select", e.make("ge", a, e.constant(0)), share, e.make("mul", small, share))


def _pow(e: Expressions, a: Value, b: Value) -> Value:
    if b.op != "constant":
        return e.make("pow", a, b)
    exponent = b.number
    if exponent == 0.5:
        return e.make("sqrt", a)
    if exponent != int(exponent) or abs(exponent) > 8:
        return e.make("pow", a, b)
    result = e.constant(1)
    for _ in range(abs(int(exponent))):
        result = e.make("mul", result, a)
    return result if exponent >= 0 else e.make("div", e.constant(1), result)


def _maximum(e: Expressions, a: Value, b: Value) -> Value:
    a, b = e.number(a), e.number(b)
    if b.op == "constant":  # NaN in `a` compares false and passes
        return e.make("select", e.make("lt", a, b), b, a)
    return e.make("select", e.make("or", e.make("gt", a, b), e.make("ne", a, a)), a, b)


def _minimum(e: Expressions, a: Value, b: Value) -> Value:
    a, b = e.number(a), e.number(b)
    if b.op == "constant":
        return e.make("select", e.make("gt", a, b), b, a)
    return e.make("select", e.make("or", e.make("lt", a, b), e.make("ne", a, a)), a, b)


def _clamp(e: Expressions, a: Value, min: Value | None = None, max: Value | None = None) -> Value:
    a = a if min is None else _maximum(e, a, min)
    return a if max is None else _minimum(e, a, max)


def _where(e: Expressions, condition: Value, yes: Value, no: Value) -> Value:
    if not (yes.boolean and no.boolean):
        yes, no = e.number(yes), e.number(no)
    return e.make("select", e.truth(condition), yes, no)


def _sign(e: Expressions, a: Value) -> Value:
    zero, one = e.constant(0), e.constant(1)
    positive = e.make("select", e.make("gt", a, zero), one, zero)
    return e.make("sub", positive, e.make("select", e.make("lt", a, zero), one, zero))


def _round(e: Expressions, a: Value, decimals: Value | None = None) -> Value:
    if decimals is not None and decimals.number != 0:
        raise CannotFuse("rounding to decimals")
    return e.make("rint", a)


def _plain(op: str) -> Rule:
    return lambda e, *args: e.make(op, *args)


def _logical(op: str) -> Rule:
    return lambda e, *args: e.make(op, *(e.truth(a) for a in args))


def _bitwise(op: str) -> Rule:
    def rule(e: Expressions, *args: Value) -> Value:
        if not all(a.boolean for a in args):
            raise CannotFuse(f"bitwise {op} of numbers")
        return e.make(op, *args)

    return rule


def _log_to(base: float) -> Rule:
    return lambda e, a: e.make("mul", e.make("log", a), e.constant(1 / math.log(base)))


RULES: dict[Any, Rule] = {
    aten.add: lambda e, a, b, alpha=None: e.make("add", a, _scaled(e, b, alpha)),
    aten.sub: lambda e, a, b, alpha=None: e.make("sub", a, _scaled(e, b, alpha)),
    aten.rsub: lambda e, a, b, alpha=None: e.make("sub", b, _scaled(e, a, alpha)),
    aten.div: _div,
    aten.square: lambda e, a: e.make("mul", a, a),
    aten.reciprocal: lambda e, a: e.make("div", e.constant(1), a),
    aten.rsqrt: lambda e, a: e.make("div", e.constant(1), e.make("sqrt", a)),
    aten.tan: lambda e, a: e.make("div", e.make("sin", a), e.make("cos", a)),
    aten.exp2: lambda e, a: e.make("exp", e.make("mul", a, e.constant(math.log(2)))),
    aten.log2: _log_to(2),
    aten.log10: _log_to(10),
    aten.cosh: lambda e, a: e.make(
        "mul", e.constant(0.5), e.make("add", e.make("exp", a), e.make("exp", e.make("neg", a)))
    ),
    aten.sigmoid: _sigmoid,
    aten.pow: _pow,
    aten.relu: lambda e, a: _maximum(e, a, e.constant(0)),
    aten.sign: _sign,
    aten.sgn: _sign,
    aten.round: _round,
    aten.clamp: _clamp,
    aten.clamp_min: lambda e, a, b: _maximum(e, a, b),
    aten.clamp_max: lambda e, a, b: _minimum(e, a, b),
    aten.maximum: _maximum,
    aten.minimum: _minimum,
    aten.where: _where,
    aten.masked_fill: lambda e, a, mask, value: _where(e, mask, value, a),
    aten.isnan: lambda e, a: e.make("ne", a, a),
    **{getattr(aten, op): _plain(op) for op in ("mul", "neg", "abs", *COMPARISONS)},
    **{getattr(aten, op): _plain(op) for op in (
        "exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "atan", "erf", "sqrt", "floor", "ceil", "trunc",
    )},
    **{getattr(aten, f"logical_{op}"): _logical(op) for op in ("and", "or", "xor", "not")},
    **{getattr(aten, f"bitwise_{op}"): _bitwise(op) for op in ("and", "or", "xor", "not")},
}  # fmt: skip
