"""SPAM against its equations: the scalar rule, closed forms, masks, resuming, bad input."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.optim import SPAM, NonFiniteGradientError, reset_warmup
from ranvier.optim.masks import kept_entries

KINDS = [{}, {"foreach": True}, {"foreach": False}]


def weight(*shape: int, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=dtype))


def run(optimizer: SPAM, p: Tensor, grads: Tensor) -> Tensor:
    path: list[Tensor] = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path)


def spiky(steps: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    spikes = torch.where(torch.rand(steps, count) < 0.03, 1000.0, 1.0)
    return (torch.randn(steps, count) * spikes).to(dtype)


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [0.25, 0.01])
def test_sparse_moments(kind: dict[str, Any], density: float) -> None:
    p, bias = weight(40, 30), weight(30)
    start = p.detach().clone()
    optimizer = SPAM(
        [p, bias], density=density, reset_interval=10, warmup_steps=2, weight_decay=0.1, lr=0.1, **kind
    )  # fmt: skip
    count = round(density * 1200)
    moved: list[Tensor] = []
    for interval in range(4):
        before = p.detach().clone()
        for _ in range(9 if interval == 0 else 10):
            p.grad, bias.grad = torch.randn_like(p), torch.randn_like(bias)
            optimizer.step()
        moved.append((p.detach() != before).flatten())
        assert int(moved[-1].sum()) == count
    assert optimizer.state[p]["exp_avg"].shape == (count,) and optimizer.state[bias]["exp_avg"].shape == (30,)
    assert not torch.equal(moved[0], moved[1])
    overlap, expected = int((moved[0] & moved[1]).sum()), density * count
    assert abs(overlap - expected) < 5 * math.sqrt(expected) + 1
    union = torch.stack(moved).any(0).double().mean().item()
    covered = 1 - (1 - density) ** 4
    assert abs(union - covered) < 5 * math.sqrt(covered * (1 - covered) / 1200) + 1e-3
    assert torch.equal((p.detach() != start).flatten(), torch.stack(moved).any(0))
    plan = optimizer.planned_state()
    assert plan["elements"] == 2 * (count + 30)
    assert optimizer.state_bytes() == plan["bytes"] + plan["mask_bytes"]


def test_published_masked_decay_does_nothing() -> None:
    moves = []
    for decay in (0.0, 0.5):
        torch.manual_seed(1)
        p = weight(10, 10)
        run(SPAM([p], density=0.5, weight_decay=decay, compat=True), p, torch.randn(3, 10, 10, dtype=torch.float64))
        moves.append(p.detach().clone())
    assert torch.equal(*moves)


def test_density_one_is_the_dense_path() -> None:
    p = weight(8, 8)
    q = nn.Parameter(p.detach().clone())
    grads = torch.randn(30, 8, 8, dtype=torch.float64)
    assert torch.equal(run(SPAM([p]), p, grads), run(SPAM([q], density=1.0), q, grads))


@pytest.mark.parametrize("strategy", ["max_weight", "max_gradient"])
def test_magnitude_masks_pick_the_largest(strategy: str) -> None:
    p = weight(10, 10)
    start = p.detach().clone()
    g = torch.randn(10, 10, dtype=torch.float64)
    run(SPAM([p], density=0.2, mask_strategy=strategy), p, g[None])
    source = start if strategy == "max_weight" else g
    top = source.abs().flatten().topk(20).indices.sort().values
    assert torch.equal((p.detach() != start).flatten().nonzero().squeeze(1), top)


def test_own_masks() -> None:
    def first(w: Tensor, g: Tensor | None, count: int) -> Tensor:
        return torch.arange(count)

    p = weight(4, 4)
    start = p.detach().clone()
    run(SPAM([p], density=0.25, mask_strategy=first), p, torch.ones(1, 4, 4, dtype=torch.float64))
    assert (p.detach() != start).nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    optimizer = SPAM([weight(4, 4)], density=0.25, mask_strategy=lambda w, g, n: torch.zeros(n, dtype=torch.int64))
    optimizer.param_groups[0]["params"][0].grad = torch.ones(4, 4, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="4 different positions"):
        optimizer.step()


def test_masks_do_not_depend_on_global_generators() -> None:
    paths = []
    for rank in range(2):
        torch.manual_seed(0)
        p = weight(6, 6)
        torch.manual_seed(rank + 10)
        grads = torch.ones(25, 6, 6, dtype=torch.float64)
        paths.append(run(SPAM([p], density=0.3, reset_interval=10, warmup_steps=3), p, grads))
    assert torch.equal(*paths)


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


class Llama(nn.Module):
    """The weights of a bias-free LLaMA, without its arithmetic."""

    def __init__(self, hidden: int, ffn: int, layers: int, vocabulary: int = 32_000) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, hidden), nn.Linear(hidden, vocabulary, bias=False)
        self.norm = nn.RMSNorm(hidden)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            shapes = {"attn": [(hidden, hidden)] * 4, "mlp": [(hidden, ffn), (hidden, ffn), (ffn, hidden)]}
            block = {k: nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in v) for k, v in shapes.items()}
            self.layers.append(nn.ModuleDict({**block, "n1": nn.RMSNorm(hidden), "n2": nn.RMSNorm(hidden)}))


@pytest.mark.parametrize(
    ("hidden", "ffn", "layers", "params", "linear"),
    [
        (512, 1376, 8, 58_073_600, 25_296_896), (768, 2048, 12, 134_105_856, 84_934_656),
        (1024, 2736, 24, 367_969_280, 302_383_104), (2048, 5461, 24, 1_339_082_752, 1_207_910_400),
    ],
)  # fmt: skip
def test_published_model_sizes(hidden: int, ffn: int, layers: int, params: int, linear: int) -> None:
    from ranvier.optim import sparse_param_groups

    with torch.device("meta"):
        model = Llama(hidden, ffn, layers)
    assert sum(p.numel() for p in model.parameters()) == params
    groups = sparse_param_groups(model, 0.25)
    assert sum(p.numel() for p in groups[0]["params"]) == linear
    plan = SPAM(groups, state_dtype=torch.bfloat16).planned_state()
    expected = 2 * (params - linear) + 2 * sum(round(0.25 * p.numel()) for p in groups[0]["params"])
    assert plan == {"elements": expected, "bytes": 2 * expected, "mask_bytes": linear // 8}


def test_kept_entries() -> None:
    assert [kept_entries(n, d) for n, d in ((0, 0.5), (3, 0.01), (10, 0.25), (1000, 0.25))] == [0, 1, 2, 250]


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
