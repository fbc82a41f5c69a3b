"""SPAM with sparse moments: which entries have them, how much memory they take."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.optim.spam_steps import KINDS, run, weight
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.optim import SPAM
from ranvier.optim.masks import kept_entries


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
