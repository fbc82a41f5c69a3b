"""Parity of the generated Triton kernels: on the GPU where there is one, else through Triton's interpreter on the CPU.
Without a GPU they are also compiled for one, which needs none."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are decorated
pytest.importorskip("triton", reason="Triton is not installed on this platform")

from tests.compat import interpreted
from tests.ops.step_scan_neurons import USER_NEURONS
from tests.ops.test_step_scan import TRACER_WARNING, ZOO, problem
from tests.warm import with_torch
from torch import Tensor

from ranvier.neurons import Neuron, build
from ranvier.ops.step_scan import op, triton_cuda
from ranvier.ops.step_scan.partition import divide
from ranvier.ops.step_scan.plan import Plan
from ranvier.ops.step_scan.trace import trace_step
from ranvier.ops.step_scan.triton_source import triton_source

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def triton_plan(neuron: Neuron, step_shape: tuple[int, ...], dtype: torch.dtype) -> Plan:
    like = torch.empty(0, dtype=dtype, device=DEVICE)
    states = len(neuron.initial_state(torch.zeros(step_shape, dtype=dtype, device=DEVICE)))
    trace = trace_step(neuron, step_shape, states, like, True)
    parts = divide(trace, step_shape, dtype)
    names = tuple(trace.names[i] for i in parts.used)
    return Plan(parts, names, dtype, "cuda", triton_source(parts, dtype == torch.float32))


def assert_parity(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    neuron = copy.deepcopy(neuron).to(DEVICE, dtype)
    x, state = (t for t in problem(neuron, shape, dtype))
    x, state = x.detach().to(DEVICE).requires_grad_(), tuple(s.detach().to(DEVICE).requires_grad_() for s in state)
    plan = triton_plan(neuron, shape[1:], dtype)
    tensors: list[Tensor] = [neuron.state_dict(keep_vars=True).get(n, getattr(neuron, n)) for n in plan.names]
    spikes, last = neuron.loop(x, state, True)
    assert last is not None
    upstream = [torch.randn_like(o) for o in (spikes, *last)]
    differentiated = [t for t in tensors if t.requires_grad]
    wanted = torch.autograd.grad(
        [spikes, *last], [x, *state, *differentiated], upstream, allow_unused=True
    )  # fmt: skip
    got, got_last, borders = op.forward_with(plan, triton_cuda, x, list(state), tensors, True, True)
    final = torch.stack(upstream[1:]) if state else None
    gx, gstate, gtensors = op.backward_with(
        plan, triton_cuda, x, list(state), tensors, borders, upstream[0], final
    )  # fmt: skip
    assert torch.equal(got, spikes)
    atol, rtol = (1e-11, 1e-11) if dtype == torch.float64 else (2e-5, 2e-5)
    for a, b in zip(got_last, last, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=rtol)
    grads = [gx, *gstate, *(g for g, t in zip(gtensors, tensors, strict=True) if t.requires_grad)]
    for a, b in zip(grads, wanted, strict=True):
        if b is None:
            assert not a.any()
        else:
            torch.testing.assert_close(a, b, atol=atol * (1 + b.abs().max().item()), rtol=rtol)


@interpreted
@pytest.mark.parametrize("name", USER_NEURONS)
def test_a_users_neuron_equals_its_loop(name: str) -> None:
    assert_parity(USER_NEURONS[name], (7, 2, 3, 5), torch.float64)


@interpreted
@pytest.mark.parametrize("name", ZOO)
def test_a_neuron_of_the_zoo_equals_its_loop(name: str) -> None:
    assert_parity(build(name), (5, 2, 3, 4), torch.float64)


@interpreted
@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (33, 2, 3, 4), (70, 1, 3, 4), (3, 2, 3, 181)], ids=str)
def test_chunk_and_block_borders(shape: tuple[int, ...]) -> None:
    assert_parity(USER_NEURONS["resonator"], shape, torch.float32)


@TRACER_WARNING
def test_compiles_for_a_gpu_without_one() -> None:
    """The interpreter accepts more than the compiler does: in a process without it, compile to PTX."""
    script = Path(__file__).with_name("compile_for_gpu.py")
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = with_torch().run(code, cwd=Path(__file__).parents[2], env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["resonator", "learned_per_channel", "everything", "stateless"]
