"""SPAM as an optimiser of PyTorch: resuming, gradients that are not finite, layouts, bad input."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.spam_steps import run, weight
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.optim import SPAM, NonFiniteGradientError


@pytest.mark.parametrize("cut", [3, 9, 10, 12])
@pytest.mark.parametrize("options", [{}, {"density": 0.3}, {"density": 0.02}, {"bias_correction": "restart"}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_continues_to_the_same_bits(cut: int, options: dict[str, Any], dtype: torch.dtype) -> None:
    p, grads = weight(20, 10, dtype=dtype), torch.randn(25, 20, 10).to(dtype)
    options = {"reset_interval": 10, "warmup_steps": 4, "grace_steps": 2, "lr": 0.1, "weight_decay": 0.1, **options}
    first = SPAM([p], **options)
    run(first, p, grads[:cut])
    q = nn.Parameter(p.detach().clone())
    second = SPAM([q], **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    third = copy.deepcopy(first)
    r = third.param_groups[0]["params"][0]
    expected = run(first, p, grads[cut:])
    assert torch.equal(run(second, q, grads[cut:]), expected)
    assert torch.equal(run(third, r, grads[cut:]), expected)
    if dtype == torch.bfloat16:
        assert second.state[q]["exp_avg_sq"].dtype == torch.float32


@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_gradients_that_are_not_finite(policy: str, value: float) -> None:
    p, q = weight(3), weight(3)
    optimizer = SPAM([p, q], nan_policy=policy)
    p.grad, q.grad = torch.tensor([1.0, value, 1.0]).double(), torch.ones(3).double()
    before = p.detach().clone(), q.detach().clone()
    if policy == "raise":
        with pytest.raises(NonFiniteGradientError, match=r"step 1: 1 gradient entries.*parameter number 0"):
            optimizer.step()
    else:
        optimizer.step()
    assert torch.equal(p[1], before[0][1])
    assert torch.equal(q, before[1]) is (policy != "zero")
    assert bool(p.isfinite().all())


def test_an_infinite_gradient_is_clipped_where_it_can_be() -> None:
    p = weight(2)
    optimizer = SPAM([p], reset_interval=0)
    run(optimizer, p, torch.ones(30, 2, dtype=torch.float64))
    limit = math.sqrt(5000 * float(optimizer.state[p]["exp_avg_sq"][0]))
    before = float(optimizer.state[p]["exp_avg"][0])
    run(optimizer, p, torch.tensor([[math.inf, 1.0]], dtype=torch.float64))
    assert float(optimizer.state[p]["exp_avg"][0]) == pytest.approx(0.9 * before + 0.1 * limit, rel=1e-12)


def test_manners_of_an_optimizer() -> None:
    p, q, unused = weight(3), weight(2), weight(2)
    optimizer = SPAM([p, unused], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = p.square().sum() + q.square().sum()
        loss.backward()
        return loss.detach()

    start, before = float(closure()), unused.detach().clone()
    assert float(optimizer.step(closure)) == start
    assert torch.equal(unused, before)
    optimizer.add_param_group({"params": [q], "lr": 0.2, "threshold": 10.0})
    assert optimizer.param_groups[1]["steps"] == 1
    assert float(optimizer.step(closure)) < start
    assert optimizer.param_groups[1]["steps"] == optimizer.param_groups[0]["steps"] == 2
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.step(closure)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    up = weight(1)
    climb = SPAM([up], maximize=True)
    low = up.detach().item()
    run(climb, up, torch.ones(1, 1, dtype=torch.float64))
    assert up.detach().item() > low


def test_manual_reset() -> None:
    p = weight(4, 4)
    optimizer = SPAM([p], density=0.5)
    run(optimizer, p, torch.ones(30, 4, 4, dtype=torch.float64))
    mask = optimizer.state[p]["bits"].clone()
    optimizer.reset_momentum()
    assert not optimizer.state[p]["exp_avg_sq"].any()
    assert not torch.equal(optimizer.state[p]["bits"], mask)
    before = p.detach().clone()
    run(optimizer, p, torch.ones(1, 4, 4, dtype=torch.float64))
    assert float((p.detach() - before).abs().max()) < 0.05 * 1e-3 * 3.2


def test_other_memory_layouts() -> None:
    grads = torch.randn(8, 4, 3, 5, 5, dtype=torch.float64)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for density in (1.0, 0.5):
            torch.manual_seed(2)
            p = nn.Parameter(weight(4, 3, 5, 5).detach().contiguous(memory_format=layout))
            results.append(run(SPAM([p], density=density), p, grads))
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-15)
    torch.testing.assert_close(results[3], results[1], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr"), ({"betas": (1.0, 0.9)}, "betas"), ({"eps": -1.0}, "eps"),
        ({"threshold": -1}, "threshold"),
        ({"threshold": math.nan}, "threshold"), ({"density": 0.0}, "density"), ({"density": 1.5}, "density"),
        ({"reset_interval": -1}, "reset_interval"), ({"warmup_steps": 1.5}, "warmup_steps"),
        ({"bias_correction": "none"}, "bias_correction"), ({"nan_policy": "ignore"}, "nan_policy"),
        ({"mask_strategy": "best"}, "mask_strategy"), ({"grace_steps": -3}, "grace_steps"), ({"seed": -1}, "seed"),
        ({"state_dtype": torch.int8}, "state_dtype"), ({"clip_mode": "cut"}, "clip_mode"),
    ],
)  # fmt: skip
def test_bad_options_name_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"{message} must be"):
        SPAM([weight(2)], **options)


def test_bad_parameters() -> None:
    with pytest.raises(ArgumentError, match="complex"):
        SPAM([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    with pytest.warns(UserWarning, match="warmup_steps 1000 exceeds reset_interval 500"):
        SPAM([weight(2)], warmup_steps=1000)
    p = weight(3, 2)
    p.grad = torch.zeros(3, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(ArgumentError, match="sparse gradients"):
        SPAM([p]).step()


def test_kernel_from_other_layout_of_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    grads = torch.randn(5, 6, 4, dtype=torch.float64)
    paths = []
    make: list[Callable[[Tensor], Tensor]] = [lambda g: g, lambda g: g.t().contiguous().t()]
    for form in make:
        torch.manual_seed(3)
        p = weight(6, 4)
        optimizer = SPAM([p])
        for g in grads:
            p.grad = form(g.clone())
            optimizer.step()
        paths.append(p.detach().clone())
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    torch.manual_seed(3)
    p = weight(6, 4)
    run(SPAM([p]), p, grads)
    assert torch.equal(paths[0], paths[1])
    torch.testing.assert_close(p.detach(), paths[0], rtol=0, atol=1e-14)
