"""Parity of the Triton kernels: on the GPU where there is one, else through Triton's interpreter on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are decorated
pytest.importorskip("triton", reason="Triton is not installed on this platform")

from tests.compat import interpreted
from tests.ops.leaky_cases import CASES, case_id
from tests.ops.test_leaky_scan import gradients, problem

from ranvier.ops import LeakyDynamics, leaky_scan_reference
from ranvier.ops.leaky_scan import op, triton_cuda

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def assert_parity(shape: tuple[int, ...], dtype: torch.dtype, columns: bool, dynamics: LeakyDynamics) -> None:
    x, v, decay, threshold = (t.detach().to(DEVICE).requires_grad_() for t in problem(shape, dtype, columns))
    threshold = threshold.detach()
    spikes, v_last = leaky_scan_reference(x, v, decay, threshold, dynamics)
    upstream = [torch.randn_like(spikes), torch.randn_like(v_last)]
    wanted = torch.autograd.grad([spikes, v_last], [x, v, decay], upstream)
    wide = [t if t.numel() == 1 else t.expand(x.shape[1:]) for t in (v, decay, threshold)]
    options = op.pack(dynamics)
    got, last, borders = op._forward(x, *wide, True, True, options, triton_cuda)
    gx, gv, gk = op._backward(x, *wide, borders, *upstream, True, True, options, triton_cuda)
    assert torch.equal(got, spikes) and torch.equal(last, v_last)
    tolerance = {"atol": 1e-12, "rtol": 1e-11} if dtype == torch.float64 else {"atol": 2e-5, "rtol": 2e-5}
    torch.testing.assert_close(gx, wanted[0], **tolerance)
    gv, gk = (g.view(x.shape[1:]).sum_to_size(t.shape or (1,)).view(t.shape) for g, t in ((gv, v), (gk, decay)))
    torch.testing.assert_close(gv, wanted[1], **tolerance)
    torch.testing.assert_close(gk, wanted[2], **tolerance)


@interpreted
@pytest.mark.parametrize("columns", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("dynamics", CASES, ids=case_id)
def test_kernels_match_the_reference(dynamics: LeakyDynamics, columns: bool) -> None:
    assert_parity((7, 3, 5, 3), torch.float64, columns, dynamics)


@interpreted
@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 4, 181), (5, 1, 2, 129)], ids=str)
def test_kernels_match_over_block_borders(shape: tuple[int, ...]) -> None:
    assert_parity(shape, torch.float32, False, CASES[0])


@interpreted
def test_half_precision_input_is_computed_in_float32() -> None:
    if DEVICE == "cpu":
        pytest.skip("Triton's interpreter has no bfloat16 arithmetic on the CPU")
    x = torch.randn(9, 4, 33, device=DEVICE).bfloat16()
    one = [torch.tensor(value, device=DEVICE) for value in (0.0, 0.3, 1.0)]
    spikes, v, _ = op._forward(x, *one, True, False, op.pack(CASES[0]), triton_cuda)
    want, v_want = leaky_scan_reference(x, *one, CASES[0])
    assert torch.equal(spikes, want) and torch.equal(v, v_want) and v.dtype == torch.float32


@interpreted
def test_gradients_helper_is_not_vacuous() -> None:
    x, v, decay, threshold = problem((7, 3, 5), torch.float64, False)
    out = leaky_scan_reference(x, v, decay, threshold, CASES[0])
    assert all(g.abs().sum() > 0 for g in gradients(out, [x, v, decay]))
