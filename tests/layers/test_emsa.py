"""Experts instead of heads: against SSA, against a loop over experts, and at its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import EMSA, EMSP, ExpertsMLP, SpikingSelfAttention
from ranvier.neurons import NeuronFactory

LIF = NeuronFactory("lif")


def lively(module: nn.Module) -> nn.Module:
    """Norms whose neurons fire."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.8, 2.0)
    return module.double().eval()


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64) < 0.5).double()


def test_one_expert_that_always_answers_is_one_head() -> None:
    experts = lively(EMSA(16, 1, LIF, experts=1, expert_dim=16, attn_threshold=0.5))
    head = SpikingSelfAttention(16, 1, LIF, qkv_bias=True).double().eval()
    state = {name: value for name, value in experts.state_dict().items() if not name.startswith("router")}
    head.load_state_dict(state)
    nn.init.constant_(experts.router.block.bn.bias, 100.0)
    x = spikes(3, 2, 16, 4, 4)
    assert 0.01 < head(x).mean() < 0.99
    torch.testing.assert_close(experts(x), head(x), rtol=0, atol=0)


def test_routers_that_never_fire_leave_the_bias_alone() -> None:
    branch = lively(EMSA(16, 4, LIF))
    nn.init.constant_(branch.router.block.bn.bias, -100.0)
    x = spikes(3, 2, 16, 4, 4)
    nothing = branch.after(branch.proj(torch.zeros(3, 2, 16, 16, dtype=torch.float64)))
    assert torch.equal(branch(x).flatten(3), nothing)


@pytest.mark.parametrize("mode", ["base", "small"])
@pytest.mark.parametrize("order", ["qk_v", "q_kv"])
def test_experts_side_by_side_are_a_loop_over_experts(mode: str, order: str) -> None:
    branch = lively(EMSA(24, 1, LIF, experts=3, expert_dim=8, mode=mode, order=order, scale=0.25))
    x = spikes(4, 2, 24, 3, 5)
    tokens = x.flatten(3)
    k, v, router = branch.k(tokens), branch.v(tokens), branch.router(tokens)
    queries = branch.q(tokens)
    assert v.shape[2] == (24 if mode == "base" else 8) and router.shape[2] == 3
    total = torch.zeros_like(v)
    for i in range(3):
        q = queries[:, :, 8 * i : 8 * i + 8]
        answer = LIF()((v @ (k.mT @ q)) * 0.25)
        total = total + router[:, :, i : i + 1] * answer
    assert total.max() > 1 and total.min() == 0
    expected = branch.after(branch.proj(total)).view_as(x)
    torch.testing.assert_close(branch(x), expected, rtol=0, atol=1e-12)


def test_experts_do_not_care_about_the_order_of_tokens() -> None:
    branch = lively(EMSA(16, 1, LIF))
    x, order = spikes(3, 2, 16, 1, 20), torch.randperm(20)
    torch.testing.assert_close(branch(x)[..., order], branch(x[..., order]), rtol=0, atol=1e-12)


def test_the_gate_of_the_mlp_is_its_first_half() -> None:
    mlp = lively(EMSP(6, 16, LIF))
    x = spikes(3, 2, 6, 4, 5)
    h = mlp.neuron1(mlp.fc1(x.flatten(3)))
    g = mlp.gate_neuron(mlp.gate(h[:, :, :8].unflatten(3, (4, 5)))).flatten(3)
    expected = mlp.neuron2(mlp.fc2(g * h[:, :, 8:])).view_as(x)
    assert torch.equal(mlp(x), expected) and 0 < expected.mean() < 1
    assert sum(p.numel() for p in mlp.parameters()) == 6 * 16 + 3 * 16 + 9 * 8 + 2 * 8 + 8 * 6 + 3 * 6


def test_the_membrane_form_of_the_mlp_begins_with_a_neuron() -> None:
    mlp = lively(ExpertsMLP(6, 8, LIF, "membrane"))
    x = torch.randn(3, 2, 6, 4, 4, dtype=torch.float64)
    assert mlp.neuron2 is None and set(mlp.before(x).unique().tolist()) <= {0.0, 1.0}
    assert len(mlp(x).unique()) > 2


def test_wrong_arguments() -> None:
    for arguments in ({"experts": 0}, {"mode": "large"}, {"expert_dim": 0}, {"scale": 0.0}, {"order": "vqk"}):
        with pytest.raises(ArgumentError):
            EMSA(16, 4, LIF, **arguments)
    with pytest.raises(ArgumentError, match="even"):
        EMSP(6, 9, LIF)
