# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""Inner loops of Numba kernels, written as LLVM instructions without the detour over Numba's type inference.

A kernel compiles in less than half the time when Numba need not look at the arithmetic of its loops. The loop is vector
code: its index does not wrap around, choices are no branches, and every access says which array it means: LLVM
would test them for overlap every time, and give up where there are too many.

The body of a loop is a Python function that runs once, when the kernel is compiled: its numbers are `Number`s, whose
arithmetic writes instructions, its arrays are `Array`s, and integers and booleans that are constant in the kernel
are just that, so that an `if` over them chooses what is compiled. No arithmetic is fused or reordered: results are
those of the same expressions in Numba, to the bit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_TYPES = {"float": types.float32, "double": types.float64}
_FLOATS = ("float", "double")


class Number:
    """A value of the compiled code: a float, a 32- or 64-bit integer or, after a comparison, a condition.

    Python numbers beside it take its type.
    """

    __slots__ = ("builder", "context", "value")
    __hash__ = None  # pyright: ignore[reportAssignmentType]
    __array_ufunc__ = None  # NumPy's numbers leave the arithmetic to this class

    def __init__(self, context: Any, builder: Any, value: Any) -> None:
        self.context, self.builder, self.value = context, builder, value

    def like(self, value: Any) -> Number:
        """`value` as a number of this one's type."""
        if isinstance(value, Number):
            return value
        number = float(value) if str(self.value.type) in _FLOATS else int(value)
        return Number(self.context, self.builder, ir.Constant(self.value.type, number))

    def _made(self, value: Any) -> Number:
        return Number(self.context, self.builder, value)

    def _both(self, name: str, whole: str, left: Any, right: Any) -> Number:
        kind = name if str(self.value.type) in _FLOATS else whole
        return self._made(getattr(self.builder, kind)(self.like(left).value, self.like(right).value))

    def _compare(self, sign: str, other: Any) -> Number:
        to = self.like(other).value
        if str(self.value.type) not in _FLOATS:
            return self._made(self.builder.icmp_unsigned(sign, self.value, to))
        unequal = sign == "!="  # the only comparison that holds for NaN
        return self._made((self.builder.fcmp_unordered if unequal else self.builder.fcmp_ordered)(sign, self.value, to))

    def __add__(self, other: Any) -> Number:
        return self._both("fadd", "add", self, other)

    def __radd__(self, other: Any) -> Number:
        return self._both("fadd", "add", other, self)

    def __sub__(self, other: Any) -> Number:
        return self._both("fsub", "sub", self, other)

    def __rsub__(self, other: Any) -> Number:
        return self._both("fsub", "sub", other, self)

    def __mul__(self, other: Any) -> Number:
        return self._both("fmul", "mul", self, other)

    def __rmul__(self, other: Any) -> Number:
        return self._both("fmul", "mul", other, self)

    def __truediv__(self, other: Any) -> Number:
        return self._made(self.builder.fdiv(self.value, self.like(other).value))

    def __rtruediv__(self, other: Any) -> Number:
        return self._made(self.builder.fdiv(self.like(other).value, self.value))

    def __neg__(self) -> Number:
        return self._made(self.builder.fneg(self.value))

    def __abs__(self) -> Number:
        return _llvm("fabs", self)

    def __lshift__(self, bits: int) -> Number:
        return self._made(self.builder.shl(self.value, self.like(bits).value))

    def __rshift__(self, bits: int) -> Number:
        return self._made(self.builder.ashr(self.value, self.like(bits).value))

    def __lt__(self, other: Any) -> Number:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Number:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Number:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Number:
        return self._compare(">=", other)

    def __eq__(self, other: Any) -> Number:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Number:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("!=", other)

    def __and__(self, other: Any) -> Number:
        return self._made(self.builder.and_(self.value, self.like(other).value))

    def __or__(self, other: Any) -> Number:
        return self._made(self.builder.or_(self.value, self.like(other).value))

    def __xor__(self, other: Any) -> Number:
        return self._made(self.builder.xor(self.value, self.like(other).value))

    def __invert__(self) -> Number:
        return self._made(self.builder.not_(self.value))

    def __bool__(self) -> bool:
        raise TypeError("a number of the compiled code has no truth when it is compiled; use select")


def _llvm(name: str, x: Number) -> Number:
    function = x.builder.module.declare_intrinsic(f"llvm.{name}", [x.value.type])
    return Number(x.context, x.builder, x.builder.call(function, [x.value]))


def _numba(function: Any, *args: Number) -> Number:
    """A call of `math`, as Numba compiles it."""
    x = args[0]
    kinds = tuple(_TYPES[str(a.value.type)] for a in args)
    known = x.context.typing_context.resolve_value_type(function)
    signature = known.get_call_type(x.context.typing_context, kinds, {})
    implementation = x.context.get_function(known, signature)
    return Number(x.context, x.builder, implementation(x.builder, [a.value for a in args]))


def select(condition: Number, yes: Any, no: Any) -> Number:
    """`yes if condition else no`; one arm may be a Python number."""
    yes, no = (no.like(yes), no) if isinstance(no, Number) else (yes, yes.like(no))
    return Number(yes.context, yes.builder, yes.builder.select(condition.value, yes.value, no.value))


def smaller(a: Number, b: Any) -> Number:
    """Python's `min(a, b)`: `a` where one of them is NaN."""
    return select(a.like(b) < a, b, a)


def larger(a: Number, b: Any) -> Number:
    """Python's `max(a, b)`: `a` where one of them is NaN."""
    return select(a.like(b) > a, b, a)


def floor(x: Number) -> Number:
    return _llvm("floor", x)


def ceil(x: Number) -> Number:
    return _llvm("ceil", x)


def trunc(x: Number) -> Number:
    return _llvm("trunc", x)


def rint(x: Number) -> Number:
    return _llvm("rint", x)


def sqrt(x: Number) -> Number:
    return _llvm("sqrt", x)


def _function(function: Callable[..., float]) -> Callable[..., Number]:
    @wraps(function)
    def call(*args: Number) -> Number:
        return _numba(function, *args)

    return call


exp, log, log1p, expm1 = (_function(f) for f in (math.exp, math.log, math.log1p, math.expm1))
sin, cos, tanh, atan = (_function(f) for f in (math.sin, math.cos, math.tanh, math.atan))
erf, power = _function(math.erf), _function(math.pow)


def bits_of_float(x: Number) -> Number:
    """The int32 pattern of a float32."""
    return Number(x.context, x.builder, x.builder.bitcast(x.value, ir.IntType(32)))


def float_from_bits(bits: Number) -> Number:
    """The float32 with this int32 pattern."""
    return Number(bits.context, bits.builder, bits.builder.bitcast(bits.value, ir.FloatType()))


def whole(x: Number) -> Number:
    """A float32 without its fraction, as an int32."""
    return Number(x.context, x.builder, x.builder.fptosi(x.value, ir.IntType(32)))


def real(x: Number) -> Number:
    """An int32 as a float32."""
    return Number(x.context, x.builder, x.builder.sitofp(x.value, ir.FloatType()))


class Array:
    """A contiguous array of one dimension, apart from all others of the loop."""

    __slots__ = ("builder", "context", "data", "marks")

    def __init__(self, context: Any, builder: Any, data: Any, marks: dict[str, Any]) -> None:
        self.context, self.builder, self.data, self.marks = context, builder, data, marks

    def _marked(self, instruction: Any) -> Any:
        for name, scopes in self.marks.items():
            instruction.set_metadata(name, scopes)
        return instruction

    def __getitem__(self, index: Number) -> Number:
        address = self.builder.gep(self.data, [index.value], inbounds=True)
        return Number(self.context, self.builder, self._marked(self.builder.load(address)))

    def __setitem__(self, index: Number, value: Number) -> None:
        address = self.builder.gep(self.data, [index.value], inbounds=True)
        self._marked(self.builder.store(value.value, address))


def scopes(module: Any, domain: str, arrays: int) -> list[dict[str, Any]]:
    """For each of so many arrays, the metadata by which LLVM knows that it overlaps with none of the others."""
    space = module.add_metadata([ir.MetaDataString(module, domain)])
    each = [module.add_metadata([ir.MetaDataString(module, f"{domain}.{i}"), space]) for i in range(arrays)]
    return [
        {"alias.scope": module.add_metadata([own]), "noalias": module.add_metadata([e for e in each if e is not own])}
        for own in each
    ]


def _operands(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    """What the body of a loop sees of its arguments."""
    arrays = [i for i, kind in enumerate(kinds) if isinstance(kind, types.Array)]
    domain = f"{builder.function.name}.{builder.module.get_unique_name('loop')}"
    marks = dict(zip(arrays, scopes(builder.module, domain, len(arrays)), strict=True))
    seen: list[Any] = []
    for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        if isinstance(kind, types.Array):
            data = context.make_array(kind)(context, builder, value=value).data
            seen.append(Array(context, builder, data, marks[i]))
        elif isinstance(kind, types.Literal):
            seen.append(kind.literal_value)
        else:
            seen.append(Number(context, builder, value))
    return seen


def loop(body: Callable[..., None]) -> Any:
    """`body(F, j, ...)` as a loop for kernels: `loop(n, ...)` runs it for j from 0 to n − 1, n ≥ 0.

    The other arguments are arrays, integers, floats and booleans. `F(x)` is the constant x in the precision of the
    first array. What is written through one array must not be touched through another.
    """

    def define(typingctx: Any, n: Any, *args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            seen = _operands(context, builder, signature.args[1:], values[1:])
            kind = context.get_value_type(next(a for a in args if isinstance(a, types.Array)).dtype)

            def constant(x: float | str) -> Number:
                return Number(context, builder, ir.Constant(kind, float(x)))

            count, before = values[0], builder.block
            inside, behind = builder.append_basic_block("loop"), builder.append_basic_block("behind")
            zero, one = ir.Constant(count.type, 0), ir.Constant(count.type, 1)
            builder.cbranch(builder.icmp_unsigned("!=", count, zero), inside, behind)
            builder.position_at_end(inside)
            j = builder.phi(count.type)
            body(constant, Number(context, builder, j), *seen)
            after = builder.add(j, one, flags=["nuw"])
            j.add_incoming(zero, before)
            j.add_incoming(after, builder.block)
            builder.cbranch(builder.icmp_unsigned("!=", after, count), inside, behind)
            builder.position_at_end(behind)
            return context.get_dummy_value()

        return types.void(types.uint64, *args), codegen

    return _intrinsic(define, body, ["typingctx", "_count", *list(inspect.signature(body).parameters)[2:]])


def scalar(function: Callable[[Number], Number]) -> Any:
    """A function of one float32 for use in kernels."""

    def define(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return function(Number(context, builder, values[0])).value

        return types.float32(types.float32), codegen

    return _intrinsic(define, function, ["typingctx", "x"])


def _intrinsic(define: Any, function: Any, names: list[str]) -> Any:
    define.__name__, define.__qualname__, define.__doc__ = function.__name__, function.__qualname__, function.__doc__
    define.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return intrinsic(prefer_literal=True)(define)
