"""Patch embeddings of Max-Former: order of the parts, sizes, odd images, one dimension."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import (
    AvgEmbed,
    Embed,
    Embed1Max,
    EmbedMax,
    EmbedMaxPlus,
    EmbedOrig,
    EmbedQKInit,
    MaxEmbed,
    MSDownsampling,
    halving_pool,
    over_time,
)
from ranvier.neurons import LIF, NeuronFactory

MAKE = NeuronFactory("lif")


def lively(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0, 1)
            nn.init.uniform_(norm.running_var, 0.05, 0.2)
    return module.double().eval()


def synapse(embed: Embed, x: Tensor) -> Tensor:
    return torch.stack([embed.block.bn(embed.block.conv(x_t)) for x_t in x])


def pool(x: Tensor) -> Tensor:
    return torch.stack([F.max_pool2d(x_t, 3, 2, 1) for x_t in x])


@pytest.mark.parametrize("size", [32, 33, (12, 20), (17, 9)])
@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (lambda i, o: EmbedOrig(i, o, MAKE), 1), (lambda i, o: EmbedOrig(i, o, MAKE, "imagenet"), 4),
        (lambda i, o: EmbedOrig(i, o, MAKE, "stage"), 2), (lambda i, o: EmbedMax(i, o, MAKE), 2),
        (lambda i, o: EmbedMax(i, o, MAKE, pool_shortcut=False), 2), (lambda i, o: EmbedMax(i, o, MAKE, pool="avg"), 2),
        (lambda i, o: Embed1Max(i, o, MAKE), 2), (lambda i, o: Embed1Max(i, o, MAKE, "early"), 2),
        (lambda i, o: EmbedMaxPlus(i, o, MAKE), 8), (lambda i, o: EmbedQKInit(i, o, MAKE), 4),
    ],
)  # fmt: skip
def test_output_sizes(make: object, factor: int, size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    y = make(4, 16)(torch.randn(2, 1, 4, height, width))
    assert y.shape == (2, 1, 16, -(-height // factor), -(-width // factor))


@pytest.mark.parametrize("make", [EmbedOrig, EmbedMax, Embed1Max, EmbedMaxPlus, EmbedQKInit, MaxEmbed, AvgEmbed])
def test_one_dimension(make: type[nn.Module]) -> None:
    y = make(4, 16, MAKE, dims=1)(torch.randn(2, 3, 4, 37))
    assert y.shape[:3] == (2, 3, 16) and y.shape[3] in (37, 19, 10, 5)


def test_embed_max_pools_membranes_in_both_branches() -> None:
    embed = lively(EmbedMax(4, 6, MAKE))
    x = 2 * torch.randn(3, 2, 4, 9, 9, dtype=torch.float64)
    s = LIF()(x)
    main = synapse(embed.main[1], LIF()(pool(synapse(embed.main[0], s))))
    torch.testing.assert_close(embed(x), main + pool(synapse(embed.shortcut, s)), rtol=0, atol=1e-12)


def test_embed_1max_places_its_pool() -> None:
    x = 2 * torch.randn(3, 2, 4, 8, 8, dtype=torch.float64)
    s = LIF()(x)
    late, early = lively(Embed1Max(4, 6, MAKE)), lively(Embed1Max(4, 6, MAKE, "early"))
    main = pool(synapse(late.main[1], LIF()(synapse(late.main[0], s))))
    torch.testing.assert_close(late(x), main + synapse(late.shortcut, s), rtol=0, atol=1e-12)
    main = synapse(early.main[1], LIF()(pool(synapse(early.main[0], s))))
    torch.testing.assert_close(early(x), main + synapse(early.shortcut, s), rtol=0, atol=1e-12)


def test_embed_orig_shares_its_neuron_and_takes_an_analog_image() -> None:
    embed = lively(EmbedOrig(3, 8, MAKE))
    x = torch.rand(2, 2, 3, 6, 6, dtype=torch.float64)
    s = LIF()(synapse(embed.first, x))
    torch.testing.assert_close(embed(x), synapse(embed.main, s) + synapse(embed.shortcut, s), rtol=0, atol=1e-12)
    assert sum(isinstance(m, LIF) for m in embed.modules()) == 1


def test_max_pool_of_membranes_is_not_that_of_spikes() -> None:
    # Equal at the first step only: a position that fired is reset, its neighbour that did not is not.
    embed = lively(MaxEmbed(2, 2, None))
    x = torch.rand(4, 1, 2, 8, 8, dtype=torch.float64)
    before, after = LIF()(embed(x)), over_time(halving_pool(), LIF()(synapse(embed, x)))
    assert torch.equal(before[0], after[0]) and not torch.equal(before, after)


def test_downsampling_has_a_bias_and_a_closed_size() -> None:
    for i, o, k in ((3, 8, 7), (8, 12, 3)):
        assert sum(p.numel() for p in MSDownsampling(i, o, MAKE, k).parameters()) == k * k * i * o + 3 * o


def test_average_leaves_padding_out() -> None:
    assert torch.equal(halving_pool(kind="avg")(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EmbedOrig(3, 7, MAKE), "multiple of 2"), (lambda: EmbedMaxPlus(2, 12, MAKE), "multiple of 8"),
        (lambda: EmbedOrig(3, 8, MAKE, "svhn"), "kind must be"), (lambda: Embed1Max(3, 8, MAKE, "first"), "order must"),
        (lambda: halving_pool(3), "dims = 1 or 2"), (lambda: Embed(3, 8, MAKE, dims=3), "dims must be 1 or 2"),
    ],
)  # fmt: skip
def test_bad_arguments(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
