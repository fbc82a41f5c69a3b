"""Convolution blocks, the MLP, the stems: order of the parts, shapes, parameter counts."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import (
    ChannelMLP,
    ConvBN,
    ConvBNNeuron,
    DeformedShortcut,
    LinearBN,
    PatchStem,
    SpikingSelfAttention,
    TransformerBlock,
    halving_pool,
    over_time,
    pools_for,
)
from ranvier.neurons import LIF, NeuronFactory

LIF_FACTORY = NeuronFactory("lif")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def stem_size(c: int, dim: int) -> int:
    """Closed form of the four-stage stem with its position branch."""
    return 9 * (c * dim // 8 + dim**2 // 32 + dim**2 // 8 + dim**2 // 2 + dim**2) + 2 * (
        dim // 8 + dim // 4 + dim // 2 + 2 * dim
    )


def lively(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0, 1)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.05, 0.2)
    return module.double().eval()


def conv_bn(block: ConvBN, x: Tensor) -> Tensor:
    return torch.stack([block.bn(block.conv(x_t)) for x_t in x])


def test_over_time_is_a_loop_over_steps() -> None:
    x = torch.rand(3, 2, 4, 6, 6)
    pool = halving_pool()
    assert torch.equal(over_time(pool, x), torch.stack([pool(x_t) for x_t in x]))


def test_pool_of_spikes_is_an_or_and_pool_of_membrane_comes_first() -> None:
    x = torch.rand(3, 2, 4, 7, 7, dtype=torch.float64)
    for first in (False, True):
        block = lively(ConvBNNeuron(4, 8, LIF_FACTORY, pool=halving_pool(), pool_membrane=first))
        current = conv_bn(block.block, x)
        if first:
            expected = LIF()(torch.stack([F.max_pool2d(c, 3, 2, 1) for c in current]))
        else:
            expected = torch.stack([F.max_pool2d(s, 3, 2, 1) for s in LIF()(current)])
        y = block(x)
        assert torch.equal(y, expected) and y.shape == (3, 2, 8, 4, 4)
        assert set(y.unique().tolist()) == {0.0, 1.0}


def test_linear_and_pointwise_convolution_are_the_same_layer() -> None:
    conv, linear = ConvBN(6, 10, 1, bias=True, dims=1).double(), LinearBN(6, 10).double()
    linear.linear.weight.data = conv.conv.weight.data[..., 0]
    linear.linear.bias.data = conv.conv.bias.data
    x = torch.rand(3, 2, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(conv(x).mT, linear(x.mT), rtol=0, atol=1e-12)
    torch.testing.assert_close(conv.bn.running_var, linear.bn.running_var)


@pytest.mark.parametrize("residual", ["post", "membrane"])
def test_mlp_orders(residual: str) -> None:
    mlp = lively(ChannelMLP(8, 12, LIF_FACTORY, residual=residual))
    x = torch.rand(4, 2, 8, 2, 3, dtype=torch.float64) * 3
    tokens = x.flatten(3)
    if residual == "post":
        expected = LIF()(conv_bn(mlp.fc2, LIF()(conv_bn(mlp.fc1, tokens))))
    else:
        expected = conv_bn(mlp.fc2, LIF()(conv_bn(mlp.fc1, LIF()(tokens))))
    torch.testing.assert_close(mlp(x), expected.view_as(x), rtol=0, atol=1e-12)


def test_mlp_inner_shortcut() -> None:
    mlp = lively(ChannelMLP(8, 8, LIF_FACTORY, residual="membrane", inner_shortcut=True))
    x = torch.rand(4, 2, 8, 2, 3, dtype=torch.float64) * 3
    inner = x + conv_bn(mlp.fc1, LIF()(x.flatten(3))).view_as(x)
    expected = inner + conv_bn(mlp.fc2, LIF()(inner.flatten(3))).view_as(x)
    torch.testing.assert_close(x + mlp(x), expected, rtol=0, atol=1e-12)


def test_block_adds_both_branches() -> None:
    attention, mlp = SpikingSelfAttention(8, 2, LIF_FACTORY), ChannelMLP(8, 16, LIF_FACTORY)
    block = lively(TransformerBlock(attention, mlp))
    x = torch.rand(4, 2, 8, 2, 2, dtype=torch.float64)
    y = x + attention(x)
    assert torch.equal(block(x), y + mlp(y))


@given(dim=st.integers(1, 12).map(lambda n: 8 * n), heads=st.sampled_from([1, 2, 4]), bias=st.booleans())
def test_block_parameters_have_a_closed_form(dim: int, heads: int, bias: bool) -> None:
    block = TransformerBlock(
        SpikingSelfAttention(dim, heads, LIF_FACTORY, qkv_bias=bias), ChannelMLP(dim, 4 * dim, LIF_FACTORY)
    )
    assert count(block) == 12 * dim**2 + (27 if bias else 24) * dim


@given(
    dim=st.integers(1, 12).map(lambda n: 8 * n),
    channels=st.integers(1, 4),
    pools=st.sampled_from(["0000", "0011", "1111", "0111"]),
    residual=st.sampled_from(["post", "membrane"]),
)
def test_stem_parameters_have_a_closed_form(dim: int, channels: int, pools: str, residual: str) -> None:
    assert count(PatchStem(channels, dim, LIF_FACTORY, pools, residual)) == stem_size(channels, dim)


@pytest.mark.parametrize("residual", ["post", "membrane"])
@pytest.mark.parametrize("pools", ["0000", "0101", "1111"])
def test_stem_equations(residual: str, pools: str) -> None:
    stem = lively(PatchStem(2, 16, LIF_FACTORY, pools, residual))
    x = torch.rand(4, 2, 2, 16, 16, dtype=torch.float64) * 3

    def pooled(t: Tensor, flag: str) -> Tensor:
        return over_time(lambda s: F.max_pool2d(s, 3, 2, 1), t) if flag == "1" else t

    y = x
    for stage, flag in zip(stem.stages, pools[:3], strict=True):
        y = pooled(LIF()(conv_bn(stage.block, y)), flag)
    if residual == "post":
        s = pooled(LIF()(conv_bn(stem.last, y)), pools[3])
        expected = s + LIF()(conv_bn(stem.position, s))
        assert set(expected.unique().tolist()) == {0.0, 1.0, 2.0}
    else:
        m = pooled(conv_bn(stem.last, y), pools[3])
        expected = m + conv_bn(stem.position, LIF()(m))
    torch.testing.assert_close(stem(x), expected, rtol=0, atol=1e-12)
    assert stem(x).shape[-1] == 16 // 2 ** pools.count("1")


@given(side=st.integers(1, 300))
def test_automatic_pools_leave_at_most_eight_tokens_a_side(side: int) -> None:
    pools = pools_for((side, side))
    assert len(pools) == 4
    for _ in range(pools.count("1")):
        assert side > 8
        side = (side + 1) // 2
    assert side <= 8 or pools == "1111"


@pytest.mark.parametrize("size", [5, 8, 9, 14, 16])
@pytest.mark.parametrize(("pools", "tap"), [("00", 1), ("01", 0), ("10", 0), ("110", 1), ("0111", 2)])
def test_deformed_shortcut_equation_at_odd_sizes_too(size: int, pools: str, tap: int) -> None:
    widths = (2, 4, 8, 8, 8)[: len(pools) + 1]
    unit = lively(DeformedShortcut(widths, LIF_FACTORY, pools, tap))
    x = torch.rand(3, 2, 2, size, size, dtype=torch.float64) * 3
    points = [x]
    for conv, flag in zip(unit.convs, pools, strict=True):
        current = conv_bn(conv.block, points[-1])
        if flag == "1":
            current = over_time(lambda t: F.max_pool2d(t, 3, 2, 1), current)
        points.append(LIF()(current))
    shortcut = LIF()(conv_bn(unit.shortcut.block, points[tap]))
    torch.testing.assert_close(unit(x), points[-1] + shortcut, rtol=0, atol=1e-12)
    convs = sum(9 * i * o + 2 * o for i, o in itertools.pairwise(widths))
    assert count(unit) == convs + widths[tap] * widths[-1] + 2 * widths[-1]


def test_bad_flags_name_themselves() -> None:
    with pytest.raises(ArgumentError, match="pools must be a string of 4 flags"):
        PatchStem(3, 16, LIF_FACTORY, "011")
    with pytest.raises(ArgumentError, match="pools"):
        DeformedShortcut((2, 4, 8), LIF_FACTORY, "0x")
    with pytest.raises(ArgumentError, match="tap"):
        DeformedShortcut((2, 4, 8), LIF_FACTORY, "00", 2)
    with pytest.raises(ArgumentError, match="embed_dim"):
        PatchStem(3, 4, LIF_FACTORY)
