"""Compile the Triton kernels of WKV and of the SPAM update to PTX (compute capability 8.0), on any machine."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ranvier.ops.spam_step import triton_cuda as spam
from ranvier.ops.wkv import triton_cuda as wkv

COUNTS = ("steps", "size", "channels", "kept")


def compile_kernel(kernel: Any, constants: dict[str, Any], io: tuple[str, ...], half: str, work: str) -> None:
    signature = {
        n: "constexpr" if n in constants
        else half if n in io
        else "*i64" if n == "count_ptr"
        else "*fp64" if n == "numbers_ptr"
        else "i32" if n in COUNTS
        else work
        for n in kernel.arg_names
    }  # fmt: skip
    compiled = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 80, 32))
    assert ".entry" in compiled.asm["ptx"]


if __name__ == "__main__":
    for half, work in (("*bf16", "*fp32"), ("*fp32", "*fp32"), ("*fp64", "*fp64")):
        dtype = tl.float64 if work == "*fp64" else tl.float32
        constants = {"WORK": dtype, "CHUNK": 32, "BLOCK": 32}
        io = ("k_ptr", "v_ptr", "y_ptr", "gy_ptr", "gk_ptr", "gv_ptr")
        compile_kernel(wkv._forward_kernel, constants, io, half, work)
        compile_kernel(wkv._backward_kernel, constants, io, half, work)
        options = {"CLIP": True, "GUARD": True, "ZERO": False, "NEGATE": False, "WORK": dtype, "BLOCK": 1024}
        compile_kernel(spam._kernel, options, ("p_ptr", "g_ptr"), half, work)
        print(half)
