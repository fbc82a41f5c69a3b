"""The sum over delayed inputs: every form is the loop over taps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.delay import convolve, delayed_sum_reference, gather, scatter, tabulated, transform


def direct(x: Tensor, kernel: Tensor, lead: int) -> Tensor:
    """`kernel` is `[K, O, I]`."""
    reach = len(kernel) - 1
    history = torch.cat([x.new_zeros((reach - lead, *x.shape[1:])), x[:lead]])
    return delayed_sum_reference(x[lead:], kernel.permute(1, 2, 0), history)


@given(
    steps=st.integers(1, 40), batch=st.integers(1, 3), taps=st.integers(1, 12), history=st.booleans(),
    method=st.sampled_from(["conv", "fft", "auto"]), block=st.integers(1, 45),
)  # fmt: skip
def test_convolutions_and_their_gradients(
    steps: int, batch: int, taps: int, history: bool, method: str, block: int
) -> None:
    lead = taps - 1 if history else 0
    x = torch.randn(lead + steps, batch, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(taps, 4, 5, dtype=torch.float64, requires_grad=True)
    wanted = direct(x, kernel, lead)
    upstream = torch.randn_like(wanted)
    expected = torch.autograd.grad(wanted, (x, kernel), upstream)
    outcomes = [convolve(x, kernel, lead, method)]
    if method == "fft" and taps > 1:
        outcomes.append(torch.ops.ranvier.delay_transform(x, kernel, lead, min(block, steps)))
    for y in outcomes:
        torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-11)
        for a, b in zip(torch.autograd.grad(y, (x, kernel), upstream), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_transform_in_single_precision(poisoned_empty: None) -> None:
    x, kernel = torch.randn(100, 8, 64), torch.randn(25, 48, 64) / 40
    wanted = direct(x.double(), kernel.double(), 0)
    y = convolve(x, kernel, method="fft")
    assert (y - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_transform_is_chosen_where_it_is_cheaper() -> None:
    def cost(*sizes: int) -> float:
        return transform.best_block(*sizes)[1]

    assert cost(100, 32, 256, 256, 25) < 100 * 25 / 4
    assert cost(1, 1, 256, 256, 25) > 25 / 2  # a single step of a single sample: nothing is shared
    for sizes in ((100, 32, 256, 256, 25), (37, 3, 64, 32, 9)):
        m, least = transform.best_block(*sizes)
        assert all(
            transform.cost(n, *sizes) >= least for n in range(1, sizes[0] + 1) if -(-sizes[0] // n) * n < sizes[0] + n
        )
        assert transform.cost(m, *sizes) == least


def test_transform_compiles_and_checks() -> None:
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    assert set(torch.library.opcheck(torch.ops.ranvier.delay_transform, (x, kernel, 0, 4)).values()) == {"SUCCESS"}
    assert set(torch.library.opcheck(torch.ops.ranvier.delay_taps, (x, kernel, 2)).values()) == {"SUCCESS"}
    weight = torch.randn(2, 3, 1, dtype=torch.float64, requires_grad=True)
    delay = torch.rand(2, 3, 1, dtype=torch.float64).mul(4).requires_grad_()
    assert set(
        torch.library.opcheck(
            torch.ops.ranvier.delay_bumps, (weight, delay, torch.tensor(1.0).double(), 5, True)
        ).values()
    ) == {"SUCCESS"}


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("method", ["auto", "conv", "fft"])
def test_groups(groups: int, method: str) -> None:
    x, kernel = torch.randn(20, 2, 6, dtype=torch.float64), torch.randn(5, 12, 6 // groups, dtype=torch.float64)
    wanted = torch.cat(
        [direct(a, k, 0) for a, k in zip(x.chunk(groups, 2), kernel.chunk(groups, 1), strict=True)], 2
    )  # fmt: skip
    torch.testing.assert_close(convolve(x, kernel, 0, method, groups), wanted, rtol=1e-10, atol=1e-10)


@given(
    steps=st.integers(1, 30), batch=st.integers(1, 3), reach=st.integers(0, 12), count=st.integers(1, 2),
    rate=st.sampled_from([0.0, 0.2, 1.0]), dtype=st.sampled_from([torch.float32, torch.float64]),
    backend=st.sampled_from(["auto", "reference"]),
)  # fmt: skip
def test_synapse_by_synapse(
    steps: int, batch: int, reach: int, count: int, rate: float, dtype: torch.dtype, backend: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANVIER_BACKEND", backend)
        weight = torch.randn(4, 5, count, dtype=dtype) * (torch.rand(4, 5, count) < 0.7)
        delay = torch.randint(0, reach + 1, weight.shape)
        kernel = torch.zeros(4, 5, reach + 1, dtype=dtype)
        for c in range(count):
            kernel.scatter_add_(2, reach - delay[..., c : c + 1], weight[..., c : c + 1])
        x = (torch.randn(steps, batch, 5) * (torch.rand(steps, batch, 5) < rate)).to(dtype)
        past = torch.randn(reach, batch, 5, dtype=dtype)
        wanted = delayed_sum_reference(x, kernel, past)
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(gather(x, past, tabulated(weight, delay, reach, False)), wanted, **tolerance)
        by_input = tabulated(weight, delay, reach, True)
        _, pending = scatter(past, None, by_input) if reach else (None, None)
        y, after = scatter(x, pending, by_input)
        torch.testing.assert_close(y, wanted, **tolerance)
        silence = (
            delayed_sum_reference(x.new_zeros(reach, batch, 5), kernel, torch.cat([past, x])[-reach:])
            if reach
            else None
        )
        assert after.shape == (batch, reach, 4)
        if silence is not None:
            torch.testing.assert_close(after.transpose(0, 1), silence, **tolerance)


def test_tables_are_alike_with_and_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(4, 5, 2) * (torch.rand(4, 5, 2) < 0.5)
    delay = torch.randint(0, 9, weight.shape)
    for by_input in (True, False):
        monkeypatch.delenv("RANVIER_BACKEND", raising=False)
        fused = tabulated(weight, delay, 8, by_input)
        monkeypatch.setenv("RANVIER_BACKEND", "reference")
        plain = tabulated(weight, delay, 8, by_input)
        for name in ("ptr", "other", "steps", "strength"):
            assert torch.equal(getattr(fused, name), getattr(plain, name)), name


def test_bad_input() -> None:
    kernel = torch.randn(5, 4, 3)
    with pytest.raises(ShapeError, match=r"\[T, B, 3\]"):
        convolve(torch.randn(7, 2, 4), kernel)
    with pytest.raises(ArgumentError, match="lead must lie in"):
        convolve(torch.randn(7, 2, 3), kernel, lead=5)
    with pytest.raises(ArgumentError, match="method"):
        convolve(torch.randn(7, 2, 3), kernel, method="winograd")
