"""Stable-SPAM against its equations, written out with NumPy-like torch on one tensor."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.optim import NonFiniteGradientError, StableSPAM


def run(optimizer: StableSPAM, p: Tensor, grads: Tensor) -> Tensor:
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    return p.detach().clone()


def written_out(
    w: Tensor, grads: Tensor, lr: float, decay: float, interval: int, total: int | None, compat: bool,
    gammas: tuple[float, float, float] = (0.7, 0.9, 0.999), eps: float = 1e-8,
) -> Tensor:  # fmt: skip
    g1, g2, g3 = gammas
    top = a = b = 0.0
    m, v, k, seen = torch.zeros_like(w), torch.zeros_like(w), 0, 0
    for t, g in enumerate(grads, 1):
        scale = 1.0 if total is None else 0.5 + 0.25 * (1 + math.cos(math.pi * t / (total + 1)))
        w = w * (1 - lr * decay)
        k, seen = k + 1, seen + 1
        n = k if compat else seen
        largest = float(g.abs().max())
        top = g3 * top + (1 - g3) * largest
        limit = top / (1 - g3**n)
        g = torch.where(g.abs() > limit, g / largest * limit, g)
        norm = float(g.norm())
        a = g1 * scale * a + (1 - g1 * scale) * norm
        b = g2 * b + (1 - g2) * norm**2
        if norm > 0:
            g = g / norm * (a / (1 - (g1 * scale) ** n)) / (math.sqrt(b / (1 - g2**n)) + eps)
        reset = interval > 0 and t % interval == 0
        if reset:
            k = 1
            if not compat:
                m, v = torch.zeros_like(w), torch.zeros_like(w)
        beta1 = 0.9 * scale
        m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + 0.001 * g * g
        w = w - lr / (1 - beta1**k) * m / ((v / (1 - 0.999**k)).sqrt() + eps)
        if reset and compat:
            m, v = torch.zeros_like(w), torch.zeros_like(w)
    return w


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("total", [None, 200])
def test_equals_the_equations(compat: bool, total: int | None) -> None:
    p = nn.Parameter(torch.randn(7, dtype=torch.float64))
    grads = torch.randn(120, 7, dtype=torch.float64)
    grads[50] *= 1e3
    grads[70] = 0
    expected = written_out(p.detach(), grads, 1e-2, 0.1, 40, total, compat)
    optimizer = StableSPAM([p], lr=1e-2, weight_decay=0.1, reset_interval=40, total_steps=total, compat=compat)
    torch.testing.assert_close(run(optimizer, p, grads), expected, rtol=0, atol=1e-12)


def test_without_its_additions_it_is_adam() -> None:
    p = nn.Parameter(torch.randn(9, dtype=torch.float64))
    q = nn.Parameter(p.detach().clone())
    grads = torch.randn(100, 9, dtype=torch.float64)
    adam = torch.optim.AdamW([q], lr=1e-2, weight_decay=0.1)
    for g in grads:
        q.grad = g
        adam.step()
    plain = StableSPAM([p], lr=1e-2, weight_decay=0.1, clip=False, norm=False, reset_interval=0)
    torch.testing.assert_close(run(plain, p, grads), q.detach(), rtol=0, atol=1e-12)


def test_gradient_scale_does_not_matter() -> None:
    p = nn.Parameter(torch.randn(9, dtype=torch.float64))
    q = nn.Parameter(p.detach().clone())
    grads = torch.randn(100, 9, dtype=torch.float64)
    one, other = run(StableSPAM([p], eps=0.0), p, grads), run(StableSPAM([q], eps=0.0), q, grads * 1e4)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("cut", [5, 10, 11])
def test_continues_to_the_same_bits(cut: int, dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.randn(6).to(dtype))
    grads = torch.randn(20, 6).to(dtype)
    first = StableSPAM([p], reset_interval=10)
    run(first, p, grads[:cut])
    q = nn.Parameter(p.detach().clone())
    second = StableSPAM([q], reset_interval=10)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    third = copy.deepcopy(first)
    expected = run(first, p, grads[cut:])
    assert torch.equal(run(second, q, grads[cut:]), expected)
    assert torch.equal(run(third, third.param_groups[0]["params"][0], grads[cut:]), expected)


@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
def test_gradients_that_are_not_finite(policy: Any) -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.float64))
    p.grad = torch.tensor([1.0, math.nan, math.inf], dtype=torch.float64)
    optimizer = StableSPAM([p], nan_policy=policy)
    if policy == "raise":
        with pytest.raises(NonFiniteGradientError, match="step 1"):
            optimizer.step()
    else:
        optimizer.step()
    assert (p.detach() != 1).tolist() == [policy == "zero", False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"gamma1": 1.0}, "gamma1"), ({"total_steps": 0}, "total_steps"), ({"eta_min": 2}, "eta_min")],
)
def test_bad_options_name_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"{message} must be"):
        StableSPAM([nn.Parameter(torch.zeros(2))], **options)
