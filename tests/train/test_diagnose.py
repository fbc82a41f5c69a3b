from __future__ import annotations

import torch
from torch import nn

from ranvier.train.diagnose import blame


class Log(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()


def test_blame_finds_the_origin() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), Log(), nn.Linear(3, 1))
    x = torch.ones(4, 2)
    with torch.no_grad():
        net[0].weight.fill_(-1)
    assert "'2'" in blame(net, x)
    assert "input batch" in blame(net, x / 0)
    with torch.no_grad():
        net[3].weight[0, 0] = float("inf")
    assert "'3.weight'" in blame(net, x)


def test_blame_names_a_gradient() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert "finite when the batch is repeated" in blame(net, torch.ones(1, 2))
    net[0].weight.grad = torch.full((3, 2), float("nan"))
    assert "gradient of '0.weight'" in blame(net, torch.ones(1, 2))
