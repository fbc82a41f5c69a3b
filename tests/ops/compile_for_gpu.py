"""Compile generated Triton kernels to PTX (compute capability 8.0), on any machine; prints what compiled."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import triton
import triton.language as tl
from tests.ops.step_scan_neurons import USER_NEURONS
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ranvier.ops.step_scan.partition import divide
from ranvier.ops.step_scan.source_files import module_of
from ranvier.ops.step_scan.trace import trace_step
from ranvier.ops.step_scan.triton_source import triton_source


def compile_kernels(name: str, dtype: torch.dtype, io: str) -> None:
    neuron, step = copy.deepcopy(USER_NEURONS[name]).to(dtype), (2, 3, 5)
    states = len(neuron.initial_state(torch.zeros(step, dtype=dtype)))
    parts = divide(trace_step(neuron, step, states, torch.empty(0, dtype=dtype), True), step, dtype)
    module = module_of(triton_source(parts, dtype == torch.float32))
    work, pointer = (tl.float64, "*fp64") if dtype == torch.float64 else (tl.float32, "*fp32")
    for kernel in (module.forward_kernel, module.backward_kernel):
        for one_step in (False, True):
            constants = {"WORK": work, "BLOCK": 256, "KEEP": True, "GLAST": True}
            constants |= {"steps": 1, "chunks": 1} if one_step else {}  # Triton specialises on the integer 1
            constants = {n: v for n, v in constants.items() if n in kernel.arg_names}
            signature = {
                n: "constexpr" if n in constants
                else io if n in ("x_ptr", "s_ptr", "gs_ptr", "gx_ptr")
                else pointer if n.endswith("_ptr")
                else "i32"
                for n in kernel.arg_names
            }  # fmt: skip
            source = ASTSource(kernel, signature, constants)
            compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
            assert ".entry" in compiled.asm["ptx"]


if __name__ == "__main__":
    for chosen in ("resonator", "learned_per_channel", "everything", "stateless"):
        compile_kernels(chosen, torch.float32, "*bf16")
        if chosen == "everything":
            compile_kernels(chosen, torch.float64, "*fp64")
        print(chosen)
