"""The pieces that stand on their own: clipping, the reset for other optimisers, the monitor, groups, masks."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.optim import (
    GradientSpikeMonitor,
    MomentumReset,
    clip_grad_spikes_,
    gradient_spike_scores,
    reset_warmup,
    sparse_param_groups,
)
from ranvier.optim.masks import draw, pack, store_positions, unpack


def test_clip_values() -> None:
    g = torch.tensor([10.0, -10.0, 0.5, 3.0, math.inf], dtype=torch.float64)
    v = torch.tensor([1e-4, 1e-4, 1e-4, 0.0, 1e-4], dtype=torch.float64)
    once = g.clone()
    assert int(clip_grad_spikes_(once, v)) == 3
    assert once.tolist() == pytest.approx([0.7071067811865476, -0.7071067811865476, 0.5, 3.0, 0.7071067811865476])
    again = once.clone()
    clip_grad_spikes_([again], [v])
    assert torch.equal(again, once)
    clip_grad_spikes_(once, v, guard_zero_v=False)
    assert float(once[3]) == 0
    with pytest.raises(ArgumentError, match="threshold"):
        clip_grad_spikes_(g, v, threshold=0)
    with pytest.raises(ShapeError, match="second moments of shape"):
        clip_grad_spikes_(g, v[:2])
    with pytest.raises(ShapeError, match="as many"):
        clip_grad_spikes_([g], [v, v])


@pytest.mark.parametrize("mode", ["global", "restart"])
def test_reset_around_adam(mode: str) -> None:
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    adam = torch.optim.Adam([p], lr=1.0, eps=0.0)
    wrapped = MomentumReset(adam, interval=10, warmup_steps=4, bias_correction=mode)  # pyright: ignore[reportArgumentType]
    moves: list[float] = []
    for _ in range(25):
        before = float(p.detach()[0])
        p.grad = torch.ones(2, dtype=torch.float64)
        adam.step()
        moves.append(before - float(p.detach()[0]))
    assert adam.param_groups[0]["lr"] == 1.0
    for t in (5, 10, 12, 19, 20, 25):
        k = t % 10 + 1 if t >= 10 else t
        u = 1.0
        if mode == "global" and t >= 10:
            u = (1 - 0.9**k) / math.sqrt(1 - 0.999**k) * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        scale = reset_warmup(t % 10 if t >= 10 else -1, 4)
        assert moves[t - 1] == pytest.approx(u * scale, abs=1e-10)
    other = MomentumReset(torch.optim.SGD([p], momentum=0.9), interval=5)
    other.load_state_dict(wrapped.state_dict())
    assert other.steps == 25
    wrapped.remove()
    adam.step()
    assert wrapped.steps == 25
    with pytest.raises(ArgumentError, match="interval"):
        MomentumReset(adam, interval=0)


def test_scores_of_a_history() -> None:
    history = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-7.0, 0.0]], dtype=torch.float64)
    assert gradient_spike_scores(history).tolist() == [[0.4, 0], [0.4, 0], [0.4, 0], [2.8, 0]]
    with pytest.raises(ShapeError):
        gradient_spike_scores(torch.zeros(0, 2))


def test_monitor_is_the_formula() -> None:
    """Every step against the definition over the history that the monitor says it uses."""
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    monitor = GradientSpikeMonitor(net, window=8, threshold=2.0)
    history: list[torch.Tensor] = []
    for step in range(1, 20):
        net.zero_grad()
        for p in net.parameters():
            p.grad = torch.randn_like(p) * (50.0 if step == 11 else 1.0)
        history.append(net[0].weight.grad.clone())
        record = next(r for r in monitor.update() if r.layer == "0.weight")
        kept = step if step <= 4 else 4 + (step - 1) % 4 + 1
        scores = gradient_spike_scores(torch.stack(history[-kept:]).double())[-1]
        assert record.largest == pytest.approx(float(scores.max()), rel=1e-5)
        assert record.spiked == int((scores > 2.0).sum())
    table = monitor.by_layer()
    assert {row["kind"] for row in table.values()} == {"Linear", "LayerNorm"}
    assert table["0.weight"]["largest"] > 2
    assert json.loads(json.dumps(monitor.export()))["steps"] == 19
    with pytest.raises(ArgumentError, match="threshold"):
        GradientSpikeMonitor(net, window=50, threshold=50)


def test_groups() -> None:
    net = nn.ModuleDict({"attn": nn.Linear(4, 4), "head": nn.Linear(4, 2), "norm": nn.LayerNorm(4)})
    sparse, dense = sparse_param_groups(net, 0.25)
    assert sparse["params"] == [net["attn"].weight] and sparse["density"] == 0.25
    assert len(dense["params"]) == 5 and dense["density"] == 1.0
    with pytest.raises(ArgumentError, match="no layer's name"):
        sparse_param_groups(net, 0.5, include=("mlp",))


@pytest.mark.parametrize(("total", "count"), [(7, 3), (64, 64), (1000, 250), (1000, 20), (1, 1)])
def test_positions_survive_storage(total: int, count: int) -> None:
    positions = draw("random", torch.zeros(total), None, count, (0, 1, 2))
    assert len(positions) == count == len(positions.unique())
    assert torch.equal(unpack(pack(positions, total)), positions)
    name, stored = store_positions(positions, total)
    assert (name, stored.numel() * stored.element_size()) == (
        ("index", 4 * count) if 32 * count < total else ("bits", -(-total // 8))
    )
    assert torch.equal(draw("random", torch.zeros(total), None, count, (0, 1, 2)), positions)
