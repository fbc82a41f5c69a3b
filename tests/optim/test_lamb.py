"""LAMB against its definition."""

from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.optim import LAMB


def test_two_steps_by_hand() -> None:
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    optimizer = LAMB([w], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.02)
    expected, m, v = w.detach().clone(), torch.zeros(2).double(), torch.zeros(2).double()
    for t, g in enumerate((torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.0]).double()), 1):
        w.grad = g.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        r = (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-6) + 0.02 * expected
        expected = expected - 0.1 * expected.norm() / r.norm() * r
        torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=1e-12)


def test_without_decay_it_is_adam() -> None:
    torch.manual_seed(0)
    a = torch.randn(5, dtype=torch.float64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    ours, adam = LAMB([a], lr=0.01, weight_decay=0.0, eps=1e-8), torch.optim.Adam([b], lr=0.01)
    for _ in range(3):
        a.grad = torch.randn(5, dtype=torch.float64)
        b.grad = a.grad.clone()
        ours.step()
        adam.step()
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_step_is_as_long_as_the_ratio_says() -> None:
    for clip, length in ((False, 0.1 * 50.0), (True, 0.1 * 2.0)):
        w = torch.full((4,), 25.0, requires_grad=True)  # norm 50; Adam's first step has norm 2
        w.grad = torch.tensor([1.0, -1.0, 2.0, -3.0])
        LAMB([w], lr=0.1, weight_decay=0.0, always_adapt=True, trust_clip=clip).step()
        assert (w.detach() - 25).norm().item() == pytest.approx(length, rel=1e-4)


def test_a_zero_weight_can_leave_zero() -> None:
    w = torch.zeros(3, requires_grad=True)
    w.grad = torch.ones(3)
    LAMB([w], lr=0.1).step()
    torch.testing.assert_close(w.detach(), torch.full((3,), -0.1))


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -1), ("betas", (0.9, 1.0)), ("eps", float("nan")), ("weight_decay", -1)]
)
def test_bad_options_are_named(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=name):
        LAMB([torch.zeros(1, requires_grad=True)], **{name: value})  # pyright: ignore[reportArgumentType]
