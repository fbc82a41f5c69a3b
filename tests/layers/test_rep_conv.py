"""Re-parameterised convolutions: what is merged is what was staged, borders included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.layers import ChannelConv, RepConv, RepConvBN, SeparableBN, SepConv
from ranvier.layers.rep_conv import norm_affine
from ranvier.neurons import NeuronFactory


def lively(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.1, 2)
    return module.double().eval()


@pytest.mark.parametrize("made", [RepConv, RepConvBN])
@pytest.mark.parametrize(("dims", "grid"), [(2, (5, 7)), (2, (1, 1)), (1, (6,))])
def test_merged_is_staged_with_borders(made: type[nn.Module], dims: int, grid: tuple[int, ...]) -> None:
    rep = lively(made(3, 5, dims=dims))
    x = torch.randn(2, 2, 3, *grid, dtype=torch.float64)
    torch.testing.assert_close(rep.fuse()(x), rep(x), rtol=0, atol=1e-12)


def test_merged_weight_and_bias_are_the_closed_form() -> None:
    rep = lively(RepConv(3, 4))
    (g1, b1), (g2, b2) = norm_affine(rep.bn1), norm_affine(rep.bn2)
    a, d, p = rep.conv1.weight[..., 0, 0], rep.depthwise.weight[:, 0], rep.conv2.weight[..., 0, 0]
    merged = rep.fuse().module
    for o in range(4):
        for i in range(3):
            expected = sum(g2[o] * p[o, m] * d[m] * g1[m] * a[m, i] for m in range(3))
            torch.testing.assert_close(merged.weight[o, i], expected, rtol=0, atol=1e-12)
        bias = g2[o] * sum(p[o, m] * d[m].sum() * b1[m] for m in range(3)) + b2[o]
        torch.testing.assert_close(merged.bias[o], bias, rtol=0, atol=1e-12)


def test_the_border_is_the_norm_of_zero_and_not_written_in_place() -> None:
    rep = lively(RepConv(2))
    x = torch.randn(1, 1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    y = rep.bn1(rep.conv1(x[0]))
    padded = rep._padded(y)
    zero = rep.bn1(torch.zeros(1, 2, 1, 1, dtype=torch.float64))
    assert torch.equal(padded[..., 1:-1, 1:-1], y)
    for edge in (padded[..., 0, :], padded[..., -1, :], padded[..., :, 0], padded[..., :, -1]):
        torch.testing.assert_close(edge, zero[..., 0].expand_as(edge), rtol=0, atol=1e-12)
    rep(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(("dims", "grid"), [(2, (8, 5)), (1, (9,))])
def test_separable_merges_into_a_dense_convolution(dims: int, grid: tuple[int, ...]) -> None:
    block = lively(SeparableBN(6, 4, 7, dims))
    x = torch.randn(2, 3, 6, *grid, dtype=torch.float64)
    torch.testing.assert_close(block.fuse()(x), block(x), rtol=0, atol=1e-12)


def plain(x: Tensor, layers: list[nn.Module]) -> Tensor:
    for layer in layers:
        x = torch.stack([layer(x_t) for x_t in x]) if not hasattr(layer, "step") else layer(x)
    return x


def test_the_branches_of_a_convolution_block() -> None:
    make = NeuronFactory("lif")
    x = 2 * torch.randn(3, 2, 4, 8, 8, dtype=torch.float64)
    sep, chan = lively(SepConv(4, make)), lively(ChannelConv(4, make))
    parts = sep.contract
    order = [sep.neuron1, sep.expand.conv, sep.expand.bn, sep.neuron2, parts.depthwise, parts.pointwise, parts.bn]
    torch.testing.assert_close(sep(x), plain(x, order), rtol=0, atol=1e-12)
    order = [chan.neuron1, chan.conv1.conv, chan.conv1.bn, chan.neuron2, chan.conv2.conv, chan.conv2.bn]
    torch.testing.assert_close(chan(x), plain(x, order), rtol=0, atol=1e-12)
    assert parts.depthwise.weight.shape == (8, 1, 7, 7) and chan.conv1.conv.weight.shape == (16, 4, 3, 3)


@pytest.mark.parametrize("dim", [8, 32])
def test_sizes_of_the_branches(dim: int) -> None:
    make = NeuronFactory("ie_lif")
    size = sum(p.numel() for m in (SepConv(dim, make), ChannelConv(dim, make)) for p in m.parameters())
    assert size == 76 * dim**2 + 114 * dim


def test_in_training_the_border_follows_the_running_statistics() -> None:
    rep = RepConv(2).train()
    rep(torch.randn(2, 2, 2, 4, 4))
    value = norm_affine(rep.bn1)[1]
    padded = rep._padded(torch.zeros(1, 2, 1, 1))
    assert torch.equal(padded[0, :, 0, 0], value.detach())
    assert F.pad(torch.ones(1, 1), [1] * 4).sum() == 1
