"""Dual spike self-attention: its scales, its moving averages, and what they promise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import DSSA, GWFFN, recompute
from ranvier.neurons import LIF, NeuronFactory

MAKE = NeuronFactory("lif")


def firing(dim: int = 8, heads: int = 2, **options: object) -> DSSA:
    torch.manual_seed(3)
    attention = DSSA(dim, heads, MAKE, **options).double()  # pyright: ignore
    nn.init.uniform_(attention.embed.bn.bias, 0, 1.5)
    return attention


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_the_scale_keeps_unit_variance(rate: float) -> None:
    """c₁ Y₁ᵀ S has a standard deviation of one for normal Y₁; without c₁ it grows with √(f d)."""
    torch.manual_seed(0)
    attention = DSSA(64, 1, MAKE).double().train()
    spikes = (torch.rand(4, 4, 1, 64, 256, dtype=torch.float64) < rate).double()
    c1 = attention._scale(attention.input_rate, spikes, 64)
    product = torch.randn(4, 4, 1, 256, 64, dtype=torch.float64) @ spikes
    assert (c1 * product).std().item() == pytest.approx(1, rel=0.05)
    assert product.std().item() == pytest.approx((rate * 64) ** 0.5, rel=0.05)


def test_first_batch_sets_the_averages_and_later_ones_move_them() -> None:
    attention = firing(momentum=0.75).train()
    x = [2 * torch.randn(3, 2, 8, 4, 4, dtype=torch.float64) + m for m in (0, 1, 2)]
    rates = [LIF()(t).view(3, 2, 2, 4, 4, 4).mean((0, 1, 3, 4, 5)) for t in x]
    attention(x[0])
    torch.testing.assert_close(attention.input_rate.flatten(), rates[0])
    attention(x[1])
    expected = 0.75 * rates[0] + 0.25 * rates[1]
    torch.testing.assert_close(attention.input_rate.flatten(), expected)
    attention.eval()(x[2])
    torch.testing.assert_close(attention.input_rate.flatten(), expected)
    assert {"input_rate", "map_rate"} <= set(attention.state_dict())


def test_without_training_nothing_is_divided_by_zero() -> None:
    y = firing().eval()(2 * torch.randn(3, 2, 8, 4, 4, dtype=torch.float64))
    assert y.isfinite().all()


@pytest.mark.parametrize(("patch", "grid"), [(1, (4, 4)), (2, (4, 6)), (2, (5, 5))])
def test_equation(patch: int, grid: tuple[int, int]) -> None:
    attention = firing(patch_size=patch).eval()
    attention.input_rate.uniform_(0.1, 0.4)
    attention.map_rate.uniform_(0.1, 0.4)
    x = 2 * torch.randn(3, 2, 8, *grid, dtype=torch.float64)
    s = LIF()(x)
    y = attention.embed(s).flatten(3).unflatten(2, (2, 8))
    spikes = s.flatten(3).unflatten(2, (2, 4))
    a = LIF()(torch.einsum("tbhdl,tbhdn->tbhln", y[:, :, :, :4], spikes) / (4 * attention.input_rate).sqrt())
    columns = (grid[0] // patch) * (grid[1] // patch)
    assert a.shape[3] == columns and 0 < a.mean() < 1
    z = torch.einsum("tbhdl,tbhln->tbhdn", y[:, :, :, 4:], a) / (columns * attention.map_rate).sqrt()
    expected = attention.proj(LIF()(z.flatten(2, 3).view_as(x)))
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)


def test_permuted_tokens_give_permuted_outputs() -> None:
    attention = firing(dims=1).eval()
    attention.input_rate.fill_(0.2)
    attention.map_rate.fill_(0.2)
    x = 2 * torch.randn(3, 2, 8, 9, dtype=torch.float64)
    order = torch.randperm(9)
    torch.testing.assert_close(attention(x[..., order]), attention(x)[..., order], rtol=0, atol=1e-12)


def test_recomputed_training_steps_are_the_same() -> None:
    """A recomputed pass must read the averages of the pass that it repeats."""
    nets: list[nn.Module] = [firing(momentum=0.5).train()]
    nets.append(recompute(copy.deepcopy(nets[0])))
    results: list[list[Tensor]] = []
    for net in nets:
        torch.manual_seed(5)
        for _ in range(3):
            net.zero_grad()
            net(2 * torch.randn(3, 2, 8, 4, 4, dtype=torch.float64)).square().sum().backward()
        results.append([p.grad.clone() for p in net.parameters() if p.grad is not None] + list(net.buffers()))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=1e-12)


def test_half_precision_products_are_exact_enough() -> None:
    attention = firing().eval()
    attention.input_rate.fill_(0.3)
    attention.map_rate.fill_(0.3)
    x = 2 * torch.randn(3, 2, 8, 4, 4)
    single = attention.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = single(x)
    assert y.isfinite().all() and y.shape == x.shape


def test_group_wise_network() -> None:
    ffn = GWFFN(32, MAKE).double().eval()
    assert sum(p.numel() for p in ffn.parameters()) == 8 * 32**2 + 4 * 32 * 64 * 9 + 18 * 32
    x = 2 * torch.randn(3, 2, 32, 4, 4, dtype=torch.float64)
    u = ffn.up.block(LIF()(x))
    expected = ffn.down.block(LIF()(u + ffn.convs[0][1](LIF()(u))))  # pyright: ignore
    torch.testing.assert_close(ffn(x), expected, rtol=0, atol=1e-12)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="patch_size must be"):
        DSSA(8, 2, MAKE, patch_size=0)
    with pytest.raises(ArgumentError, match="momentum must be"):
        DSSA(8, 2, MAKE, momentum=1.0)
    with pytest.raises(ArgumentError, match="larger than the token grid"):
        DSSA(8, 2, MAKE, patch_size=4)(torch.randn(1, 1, 8, 3, 3))
    with pytest.raises(ArgumentError, match="divide the hidden width"):
        GWFFN(32, MAKE, group_size=0)
