"""Kernels over time of delayed synapses: closed forms, gradients, the fused construction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import delay_kernel
from ranvier.ops.delay import bump_kernel_reference, bump_taps, rounded

D = 10
KINDS = ["gauss", "max", "triangle", "hard"]


def synapses(dtype: torch.dtype = torch.float64, count: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(3, 4, count, dtype=dtype), torch.rand(3, 4, count, dtype=dtype) * D


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.0, 0.23, 3.7, 12.0])
def test_fused_is_the_reference(
    kind: str, dtype: torch.dtype, sigma: float, poisoned_empty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, delay = (t.requires_grad_() for t in synapses(dtype))
    s = torch.tensor(sigma, dtype=dtype)
    fused = bump_taps(weight, delay, s, D, kind)  # pyright: ignore[reportArgumentType]
    plain = bump_kernel_reference(weight, delay, s, D, kind).permute(2, 0, 1)  # pyright: ignore[reportArgumentType]
    tolerance = {"rtol": 1e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(fused, plain, **tolerance)
    upstream = torch.randn_like(fused)
    for a, b in zip(
        torch.autograd.grad(fused, (weight, delay), upstream),
        torch.autograd.grad(plain, (weight, delay), upstream), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-4 if dtype == torch.float32 else 1e-11, atol=tolerance["atol"])
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    torch.testing.assert_close(bump_taps(weight, delay, s, D, kind), plain, rtol=0, atol=0)  # pyright: ignore[reportArgumentType]


@given(p=st.floats(0, D), sigma=st.floats(0, 20), kind=st.sampled_from(KINDS[:3]), w=st.floats(-3, 3))
def test_taps_sum_to_the_weight_also_at_the_borders(p: float, sigma: float, kind: str, w: float) -> None:
    weight = torch.full((1, 1, 1), w, dtype=torch.float64)
    kernel = delay_kernel(weight, torch.full_like(weight, D - p), D, sigma, kind)  # pyright: ignore[reportArgumentType]
    assert float(kernel.sum()) == pytest.approx(w, rel=1e-6, abs=1e-9)


def test_triangle_is_linear_interpolation() -> None:
    weight = torch.ones(1, 1, 1, dtype=torch.float64)
    for d, expected in ((3.0, {7: 1.0}), (2.75, {7: 0.75, 8: 0.25}), (0.0, {10: 1.0}), (10.0, {0: 1.0})):
        kernel = delay_kernel(weight, torch.full_like(weight, d), D, 0.0, "max")[0, 0]
        wanted = torch.zeros(D + 1, dtype=torch.float64)
        for tap, value in expected.items():
            wanted[tap] = value
        torch.testing.assert_close(kernel, wanted, rtol=0, atol=2e-7)


def test_shape_of_the_narrow_bump() -> None:
    weight = torch.ones(1, 1, 1, dtype=torch.float64)
    at = delay_kernel(weight, weight * 5, D, 0.23)[0, 0]
    torch.testing.assert_close(
        at[3:8], torch.tensor([0.0003, 0.1065, 0.7866, 0.1065, 0.0003], dtype=torch.float64), rtol=0, atol=1e-4
    )
    between = delay_kernel(weight, weight * 5.5, D, 0.23)[0, 0]
    torch.testing.assert_close(
        between[3:7], torch.tensor([0.009, 0.491, 0.491, 0.009], dtype=torch.float64), rtol=0, atol=1e-3
    )


def test_a_narrow_gaussian_at_a_whole_delay_is_the_hard_tap() -> None:
    weight = torch.randn(3, 4, 1, dtype=torch.float64)
    delay = torch.randint(0, D + 1, weight.shape).double()
    soft = delay_kernel(weight, delay, D, 0.0, "gauss", offset=0.05)
    torch.testing.assert_close(soft, delay_kernel(weight, delay, D, 0.0, "hard"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["gauss", "max"])
def test_gradients_are_the_closed_forms(kind: str) -> None:
    weight, delay = (t.requires_grad_() for t in synapses(count=1))
    sigma = 1.3
    kernel = delay_kernel(weight, delay, D, sigma, kind)  # pyright: ignore[reportArgumentType]
    G = torch.randn_like(kernel)
    gw, gd = torch.autograd.grad(kernel, (weight, delay), G)
    with torch.no_grad():
        offset = torch.arange(D + 1) - (D - delay)
        if kind == "gauss":
            s = sigma + 0.27
            g = (-0.5 * (offset / s) ** 2).exp()
            slope = g * offset / s**2
        else:
            g = (sigma + 1 - offset.abs()).relu()
            slope = offset.sign() * (g > 0)
        total = g.sum(-1, keepdim=True) + 1e-7
        q = g / total
        torch.testing.assert_close(gw.squeeze(-1), (G * q).sum(-1), rtol=1e-9, atol=1e-12)
        dq = (slope - q * slope.sum(-1, keepdim=True)) / total
        torch.testing.assert_close(gd.squeeze(-1), -weight.squeeze(-1) * (G * dq).sum(-1), rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    weight, delay = (t.requires_grad_() for t in synapses())
    sigma = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w, d: bump_taps(w, d, sigma, D, "gauss"), (weight, delay))
    learned = torch.rand(3, 4, 2, dtype=torch.float64, requires_grad=True)  # a width each, learned
    assert torch.autograd.gradcheck(lambda w, d, s: bump_taps(w, d, s, D, "gauss"), (weight, delay, learned))


def test_hard_taps_pass_the_gradient_of_their_neighbours() -> None:
    weight = torch.tensor([[[2.0], [3.0], [5.0]]], dtype=torch.float64, requires_grad=True)
    delay = torch.tensor([[[3.4], [0.0], [10.0]]], dtype=torch.float64, requires_grad=True)
    kernel = delay_kernel(weight, delay, D, 0.0, "hard")
    assert kernel.detach().nonzero().tolist() == [[0, 0, 7], [0, 1, 10], [0, 2, 0]]
    G = torch.arange(3 * (D + 1), dtype=torch.float64).view(1, 3, -1) ** 2
    gw, gd = torch.autograd.grad(kernel, (weight, delay), G)
    torch.testing.assert_close(gw.flatten(), torch.stack([G[0, 0, 7], G[0, 1, 10], G[0, 2, 0]]))
    slopes = torch.stack([(G[0, 0, 6] - G[0, 0, 8]) / 2, G[0, 1, 9] - G[0, 1, 10], G[0, 2, 0] - G[0, 2, 1]])
    torch.testing.assert_close(gd.flatten(), slopes * weight.detach().flatten())


def test_rounding_is_that_of_centred_positions_and_idempotent() -> None:
    delay = torch.rand(1000, dtype=torch.float64) * 24
    whole = rounded(delay, 24)
    assert torch.equal(whole, 12 - (12 - delay).round()) and torch.equal(rounded(whole, 24), whole)
    assert (whole - delay).abs().max() <= 0.5
    ties = torch.tensor([0.5, 1.5, 11.5, 12.5], dtype=torch.float64)
    assert rounded(ties, 24).tolist() == [0.0, 2.0, 12.0, 12.0]  # P = 11.5, 10.5, 0.5, −0.5 go to 12, 10, 0, −0
    assert rounded(ties, 30).tolist() == [1.0, 1.0, 11.0, 13.0]  # P = 14.5, 13.5, 3.5, 2.5 go to 14, 14, 4, 2


def test_bad_input() -> None:
    weight = torch.ones(2, 3, 1)
    with pytest.raises(ArgumentError, match=r"0 \.\. 4 steps, the buffer of this layer; got 5"):
        delay_kernel(weight, weight * 5, 4)
    with pytest.raises(ArgumentError, match="got nan"):
        delay_kernel(weight, weight * float("nan"), 4)
    with pytest.raises(ArgumentError, match="interpolation must be one of"):
        delay_kernel(weight, weight, 4, interpolation="cubic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="max_delay"):
        delay_kernel(weight, weight, -1)
    with pytest.raises(ShapeError, match="does not broadcast"):
        delay_kernel(weight, torch.ones(3, 2, 1), 4)


@pytest.fixture
def dcls() -> type:
    """The layer of the DCLS package, where it is installed (it is in the environment of the benchmarks)."""
    return pytest.importorskip("DCLS.construct.modules").Dcls1d


@pytest.mark.parametrize("kind", ["gauss", "max"])
@pytest.mark.parametrize("taps", [9, 25, 30])
def test_the_kernel_of_the_dcls_package(dcls: type, kind: str, taps: int) -> None:
    theirs = dcls(4, 3, 2, dilated_kernel_size=taps, bias=False, version=kind)
    torch.nn.init.uniform_(theirs.P, -(taps // 2) + 1, taps // 2 - 1)
    torch.nn.init.constant_(theirs.SIG, 0.8)
    expected = theirs.DCK(theirs.weight, theirs.P, theirs.SIG)
    delay = (taps - 1) - (theirs.P[0] + taps // 2)
    kernel = delay_kernel(theirs.weight, delay, taps - 1, 0.8, kind)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(kernel, expected, rtol=1e-5, atol=1e-6)


def test_no_synapses_and_a_single_tap() -> None:
    assert bump_taps(torch.ones(0, 3, 1), torch.ones(0, 3, 1), torch.tensor(1.0), 4, "gauss").shape == (5, 0, 3)
    one = bump_taps(torch.full((2, 2, 1), 3.0), torch.zeros(2, 2, 1), torch.tensor(1.0), 0, "gauss")
    torch.testing.assert_close(one, torch.full((1, 2, 2), 3.0))
