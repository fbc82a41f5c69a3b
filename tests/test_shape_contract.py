from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from tests.shape_contract import shapes_checked
from torch import Tensor, nn

from ranvier.neurons import LIF


class Wrong(LIF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:-1]


class Double(LIF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).double()


def test_a_broken_contract_is_noticed() -> None:
    x = torch.randn(3, 2, 4)
    with shapes_checked():
        nn.Sequential(nn.Linear(4, 5), LIF())(x)
        with pytest.raises(TypeCheckError):
            Wrong()(x)
        with pytest.raises(AssertionError, match="Double changed"):
            Double()(x)
    assert Wrong()(x).shape == (2, 2, 4)
