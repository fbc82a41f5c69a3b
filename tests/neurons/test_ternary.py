"""The integrator with spikes of both signs."""

from __future__ import annotations

import torch

from ranvier.neurons import NegIF
from ranvier.ops.step_scan import explain


def test_trajectory() -> None:
    x = torch.tensor([0.6, 0.6, -0.8, -0.3, 0.4, 0.5]).double().view(6, 1, 1)
    assert NegIF(neg_threshold=0.5)(x).flatten().tolist() == [0, 1, -1, 0, 0, 0]
    assert NegIF()(x).flatten().tolist() == [0, 1, 0, -1, 0, 0]
    assert explain(NegIF()) == "fused"


def test_odd_but_for_the_margin() -> None:
    x = torch.randn(12, 3, 5, dtype=torch.float64)
    margin_free = NegIF(margin=0.0)
    assert torch.equal(margin_free(-x), -margin_free(x))
    at = torch.tensor([1.0, -1.0, -1.0005, -1.002]).double().view(1, 1, 4)
    assert NegIF()(at).flatten().tolist() == [1, 0, 0, -1]


def test_gradient_through_the_reset_is_that_of_the_release() -> None:
    """Of v (1 − |s|): nothing where s = 0, the difference of the two slopes where the neuron fired."""
    slope = torch.tensor([[1.2], [0.3]], dtype=torch.float64).unsqueeze(-1).requires_grad_()
    NegIF()(slope).sum().backward()

    def sigma(z: float) -> float:
        s = torch.tensor(4 * z).double().sigmoid()
        return float(4 * s * (1 - s))

    pos, neg = sigma(1.2 - 1), sigma(-(1.2 + 1.001))
    fired = pos + neg  # d s / d h: the negative spike is subtracted and its argument falls
    later = sigma(0.3 - 1) + sigma(-(0.3 + 1.001))  # the second step starts at zero
    through = later * (1 - 1 - 1.2 * fired)  # v = h (1 − |s|)
    torch.testing.assert_close(slope.grad.flatten(), torch.tensor([fired + through, later]).double())  # pyright: ignore


def test_thresholds_a_channel() -> None:
    neuron = NegIF(threshold=torch.tensor([0.5, 2.0]), neg_threshold=torch.tensor([2.0, 0.5]))
    x = torch.tensor([1.0, 1.0]).view(1, 1, 2)
    assert neuron(x).flatten().tolist() == [1, 0] and neuron(-x).flatten().tolist() == [0, -1]
