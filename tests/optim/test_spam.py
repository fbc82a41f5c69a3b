"""SPAM against its equations: the scalar rule, closed forms, published values, guards."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.optim.spam_steps import KINDS, run, spiky, weight
from torch import nn

from ranvier.optim import SPAM, reset_warmup


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["global", "restart"])
@pytest.mark.parametrize("interval", [0, 50])
def test_equals_the_scalar_rule(kind: dict[str, Any], mode: str, interval: int, published: ModuleType) -> None:
    p, grads = weight(4), spiky(600, 4)
    grads[100:140, 2] = 0
    scalars = [
        published.ScalarSPAM(
            w, 1e-2, decay=0.1, interval=interval, warmup=15, grace=5, restart=mode == "restart"
          ) for w in p.tolist()
    ]  # fmt: skip
    optimizer = SPAM(
        [p], lr=1e-2, weight_decay=0.1, reset_interval=interval, warmup_steps=15, grace_steps=5, bias_correction=mode,
        **kind,
    )  # fmt: skip
    path = run(optimizer, p, grads)
    expected = [[s.step(x) for s, x in zip(scalars, g, strict=True)] for g in grads.tolist()]
    torch.testing.assert_close(path, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_follows_float64(kind: dict[str, Any]) -> None:
    p, grads = weight(50), spiky(300, 50)
    q = nn.Parameter(p.detach().float())
    options: dict[str, Any] = {"lr": 1e-3, "reset_interval": 50, "warmup_steps": 15, "grace_steps": 5}
    path = run(SPAM([p], **options), p, grads)
    again = run(SPAM([q], **options, **kind), q, grads.float())
    torch.testing.assert_close(again.double(), path, rtol=1e-5, atol=1e-5)


def test_published_defaults(published: ModuleType) -> None:
    """2,000 steps through three resets with the defaults of the paper, and no guard."""
    p, grads = weight(3), spiky(2000, 3)
    scalars = [published.ScalarSPAM(w, 1e-3, guard=False) for w in p.tolist()]
    path = run(SPAM([p], lr=1e-3, compat=True), p, grads)
    for g in grads:
        for s, x in zip(scalars, g, strict=True):
            s.step(float(x))
    torch.testing.assert_close(path[-1], torch.tensor([s.w for s in scalars], dtype=torch.float64), rtol=0, atol=1e-12)


def test_without_its_additions_it_is_adam() -> None:
    p, grads = weight(20), torch.randn(200, 20, dtype=torch.float64)
    q = nn.Parameter(p.detach().clone())
    path = run(SPAM([p], lr=1e-2, eps=0.0, threshold=0.0, reset_interval=0), p, grads)
    adam = torch.optim.Adam([q], lr=1e-2, eps=0.0)
    for g in grads:
        q.grad = g
        adam.step()
    torch.testing.assert_close(path[-1], q.detach(), rtol=0, atol=1e-12)


def test_warmup_values() -> None:
    values = {0: 0.01, 50: 0.25, 75: 0.5, 100: 0.75, 149: 0.9996, 150: 1.0, 10_000: 1.0, -1: 1.0}
    assert all(reset_warmup(c, 150) == pytest.approx(v, abs=5e-3) for c, v in values.items())
    assert reset_warmup(10, 150) == 1 - 0.99 * (1 + math.cos(math.pi * 10 / 151)) / 2
    assert reset_warmup(0, 0) == 1
    assert reset_warmup(0, 150) == pytest.approx(0.01, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_clip_limit_through_step(kind: dict[str, Any]) -> None:
    p = weight(3)
    optimizer = SPAM([p], reset_interval=0, grace_steps=0, betas=(0.0, 0.999), **kind)
    p.grad = torch.zeros(3, dtype=torch.float64)
    optimizer.step()
    optimizer.state[p]["exp_avg_sq"].fill_(1e-4)
    p.grad = torch.tensor([10.0, -10.0, 0.7], dtype=torch.float64)
    optimizer.step()
    # β1 = 0: the first moment is the clipped gradient itself
    expected = torch.tensor([0.7071067811865476, -0.7071067811865476, 0.7], dtype=torch.float64)
    torch.testing.assert_close(optimizer.state[p]["exp_avg"], expected, rtol=0, atol=1e-15)
    assert p.grad.tolist() == [10.0, -10.0, 0.7]
    assert optimizer.spike_stats()["groups"][0] == {
        "last": 2, "last_share": 2 / 3, "since_reset": 2, "since_reset_share": 1 / 3
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["global", "restart"])
def test_step_sizes_after_a_reset(mode: str) -> None:
    p = weight(1)
    optimizer = SPAM([p], lr=1.0, eps=0.0, reset_interval=100, warmup_steps=30, bias_correction=mode)
    path = run(optimizer, p, torch.ones(350, 1, dtype=torch.float64)).squeeze(1)
    moves = -path.diff()
    for t in (300, 310, 349):
        k = t - 300 + 1
        u = 1.0
        if mode == "global":
            u = (1 - 0.9**k) / math.sqrt(1 - 0.999**k) * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        assert float(moves[t - 2]) == pytest.approx(u * reset_warmup(k - 1, 30), abs=1e-10)


def test_published_step_sizes_table() -> None:
    """Relative to the rate, k steps after a reset at step 5000, without the climb; and their mean over an interval."""

    def u(k: int, t: int) -> float:
        return (1 - 0.9**k) / math.sqrt(1 - 0.999**k) * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)

    p = weight(1)
    optimizer = SPAM([p], lr=1.0, eps=0.0, warmup_steps=0, grace_steps=10_000)
    p.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    optimizer.state[p]["step"].fill_(4999)
    optimizer.param_groups[0]["steps"] = 4999
    moves = -run(optimizer, p, torch.ones(499, 1, dtype=torch.float64)).squeeze(1).diff()
    for k, rounded in {10: 6.51, 50: 4.49, 75: 3.71, 100: 3.23, 150: 2.67, 200: 2.34, 300: 1.96, 499: 1.59}.items():
        assert float(moves[k - 2]) == pytest.approx(u(k, 4999 + k), rel=1e-12)
        assert float(moves[k - 2]) == pytest.approx(rounded, abs=0.08)
    mean = sum(u(k, 5000) * reset_warmup(k - 1, 150) for k in range(1, 500)) / 499
    assert mean == pytest.approx(1.87, abs=0.01)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_scale_of_gradients_does_not_matter(factor: float) -> None:
    p, grads = weight(6), spiky(300, 6)
    q = nn.Parameter(p.detach().clone())
    options: dict[str, Any] = {"eps": 0.0, "reset_interval": 60, "warmup_steps": 10}
    torch.testing.assert_close(
        run(SPAM([q], **options), q, grads * factor), run(SPAM([p], **options), p, grads), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("kind", KINDS)
def test_guard_of_silent_coordinates(kind: dict[str, Any]) -> None:
    grads = torch.ones(150, 2, dtype=torch.float64)
    grads[:100, 1] = 0
    for options, moved in (({}, True), ({"guard_zero_v": False}, False), ({"compat": True}, False)):
        p = weight(2)
        start = p.detach().clone()
        path = run(SPAM([p], reset_interval=400, **options, **kind), p, grads)
        assert bool(path[-1, 1] != start[1]) is moved
    p = weight(2)
    still = run(SPAM([p], reset_interval=120, warmup_steps=5, compat=True, **kind), p, grads)
    assert float(still[118, 1]) == float(still[0, 1]) != float(still[125, 1])


def test_one_spike_multiplies_the_second_moment() -> None:
    p = weight(1)
    optimizer = SPAM([p], reset_interval=0)
    run(optimizer, p, torch.ones(300, 1, dtype=torch.float64))
    before = float(optimizer.state[p]["exp_avg_sq"])
    run(optimizer, p, torch.full((1, 1), 1000.0, dtype=torch.float64))
    assert float(optimizer.state[p]["exp_avg_sq"]) / before == pytest.approx(1 + 0.001 * 4999, rel=1e-9)


def test_zero_mode_and_corrected_threshold() -> None:
    p = weight(1)
    run(SPAM([p], reset_interval=0, clip_mode="zero", betas=(0.0, 0.999)), p, torch.ones(40, 1).double())
    before = p.detach().clone()
    optimizer = SPAM([p], reset_interval=0, clip_mode="zero", betas=(0.0, 0.999))
    run(optimizer, p, torch.ones(40, 1).double())
    run(optimizer, p, torch.full((1, 1), 1e6).double())
    assert float(optimizer.state[p]["exp_avg"]) == 0 and not torch.equal(before, p)
    corrected = SPAM([p], reset_interval=0, threshold_on="corrected", betas=(0.0, 0.999))
    run(corrected, p, torch.ones(40, 1).double())
    run(corrected, p, torch.full((1, 1), 1e6).double())
    assert float(corrected.state[p]["exp_avg"]) == pytest.approx(math.sqrt(5000), rel=1e-9)
