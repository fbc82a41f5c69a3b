"""Loads, stores and choices for loops that Numba compiles: they tell LLVM which arrays are apart, and never branch.

A loop over a dozen arrays vectorises only if no store can hit what another iteration loads. LLVM tests that at run
time, and gives up where there are too many pairs. Here every access carries the number of its array as alias metadata;
arrays with different numbers never overlap, so nothing has to be tested.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from ranvier.ops.direct_loops import scopes


def _mark(builder: Any, instruction: Any, number: int, arrays: int) -> None:
    for name, which in scopes(builder.module, "ranvier.step", arrays)[number].items():
        instruction.set_metadata(name, which)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [index], inbounds=True)


@intrinsic(prefer_literal=True)
def load(typingctx: Any, array: Any, index: Any, number: Any, arrays: Any) -> Any:
    """`array[index]` of a contiguous 1-D array, unsigned index; `number` of `arrays` says which array it is."""
    which, total = number.literal_value, arrays.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], args[0], args[1]))
        _mark(builder, value, which, total)
        return value

    return array.dtype(array, types.uint64, number, arrays), codegen


@intrinsic(prefer_literal=True)
def store(typingctx: Any, array: Any, index: Any, value: Any, number: Any, arrays: Any) -> Any:
    """`array[index] = value`; see `load`."""
    which, total = number.literal_value, arrays.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        instruction = builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]))
        _mark(builder, instruction, which, total)
        return context.get_dummy_value()

    return types.void(array, types.uint64, array.dtype, number, arrays), codegen


@intrinsic
def select(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes if condition else no` as one instruction, never a branch; both arms have the same type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], args[2])

    return yes(types.boolean, yes, yes), codegen
