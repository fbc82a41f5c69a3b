"""Interleaved attention and the full-size readout of SGLFormer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import FullReadout, LocalBlock, LocalSSA, UnbiasedSSA
from ranvier.neurons import NeuronFactory

MAKE = NeuronFactory("lif")


def firing(attention: UnbiasedSSA) -> UnbiasedSSA:
    for name in "qkv":
        nn.init.uniform_(getattr(attention, name).block.bn.bias, 1, 2)
    return attention.double().eval()


@pytest.mark.parametrize("grid", [(4, 6), (5, 3), (1, 4)])
@pytest.mark.parametrize("groups", [2, 3])
def test_groups_are_interleaved(grid: tuple[int, int], groups: int) -> None:
    """Every group by itself is global attention: groups do not see each other, and none is left out."""
    local = firing(LocalSSA(8, 2, MAKE, groups=groups))
    whole = firing(UnbiasedSSA(8, 2, MAKE))
    whole.load_state_dict(local.state_dict())
    x = torch.randint(0, 3, (3, 2, 8, *grid)).double()
    y = local(x)
    assert y.shape == x.shape
    for i in range(min(groups, grid[0])):
        for j in range(min(groups, grid[1])):
            group = x[..., i::groups, j::groups]
            torch.testing.assert_close(y[..., i::groups, j::groups], whole(group), rtol=0, atol=1e-12)


def test_one_group_is_global_attention() -> None:
    local = firing(LocalSSA(8, 2, MAKE, groups=1))
    whole = firing(UnbiasedSSA(8, 2, MAKE))
    whole.load_state_dict(local.state_dict())
    x = torch.randint(0, 3, (3, 2, 8, 9)).double()
    assert torch.equal(local(x), whole(x))
    assert not any(name.endswith("conv.bias") for name in whole.state_dict())


def test_x_enters_the_local_branch_once_and_the_block_twice() -> None:
    block = LocalBlock(4, MAKE).double().eval()
    x = torch.randint(0, 3, (2, 1, 4, 5, 5)).double()
    for projection in (block.depthwise, block.contract):
        nn.init.zeros_(projection.block.bn.weight)  # pyright: ignore
        nn.init.zeros_(projection.block.bn.bias)  # pyright: ignore
    assert torch.equal(block(x), x)
    assert sum(p.numel() for p in block.parameters()) == 9 * 4 + 9 * 16 + 2 * 4 * 16 + 2 * (4 + 16 + 16 + 4)


def test_a_sequence_of_another_length_uses_the_weights_again() -> None:
    readout = FullReadout(4, 6, 3).double().eval()
    x = torch.randn(3, 2, 4, 2, 3, dtype=torch.float64)
    twice = readout(torch.cat([x, x]))
    torch.testing.assert_close(twice[3:], twice[:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(readout(x[:2]), twice[:2], rtol=0, atol=1e-12)
    readout.train()
    torch.testing.assert_close(readout(torch.cat([x, x])).mean(0), readout(x).mean(0), rtol=0, atol=1e-12)


def test_a_single_sample_can_be_trained_on() -> None:
    readout = FullReadout(4, 6, 3).double()
    x = torch.randn(3, 1, 4, 2, 3, dtype=torch.float64)
    assert torch.equal(readout.train()(x), readout.eval()(x))


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="groups must be"):
        LocalSSA(8, 2, MAKE, groups=0)
    with pytest.raises(ShapeError, match="weights for 6 tokens"):
        FullReadout(4, 6, 3)(torch.randn(3, 2, 4, 2, 2))
