"""Haar transforms and the token mixer made of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import FATM, HaarTransform, build_mixer, haar_matrix
from ranvier.neurons import LIF, NegIF, NeuronFactory

MAKE = NeuronFactory("lif")


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 64])
def test_orthonormal(size: int) -> None:
    h = haar_matrix(size)
    torch.testing.assert_close(h @ h.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
    x = torch.randn(3, size, size, dtype=torch.float64)
    torch.testing.assert_close(h.T @ (h @ x @ h.T) @ h, x, rtol=0, atol=1e-12)


def test_recursion() -> None:
    """Coarse rows are the smaller matrix, stretched; fine rows are differences of neighbours."""
    for size in (2, 8, 32):
        coarse = torch.kron(haar_matrix(size // 2), torch.ones(1, 2, dtype=torch.float64)) / 2**0.5
        fine = torch.kron(torch.eye(size // 2), torch.tensor([[1.0, -1.0]])).double() / 2**0.5
        torch.testing.assert_close(haar_matrix(size), torch.cat([coarse, fine]), rtol=0, atol=1e-12)


def test_transforms() -> None:
    factory = NeuronFactory({"type": "neg_if", "neg_threshold": 0.5})
    neuron = NegIF(neg_threshold=0.5)
    h = haar_matrix(4)
    s = (torch.rand(3, 2, 5, 4, 4) < 0.5).double()
    forward = HaarTransform(factory, 5, (4, 4))(s)
    torch.testing.assert_close(forward, h @ neuron(s @ h.T), rtol=0, atol=1e-12)
    x = 2 * torch.randn(3, 2, 5, 4, 4, dtype=torch.float64)
    back = HaarTransform(factory, 5, inverse=True)(x)
    torch.testing.assert_close(back, h.T @ neuron(neuron(x) @ h), rtol=0, atol=1e-12)
    with pytest.raises(ShapeError, match="maps of 4x4"):
        HaarTransform(factory, 5, (4, 4))(torch.zeros(1, 1, 5, 8, 8))


@pytest.mark.parametrize("grid", [None, (4, 8)])
def test_mixer_is_its_equation(grid: tuple[int, int] | None) -> None:
    mixer = FATM(8, 2, MAKE, grid=grid).double().eval()
    nn.init.normal_(mixer.weight)
    for norm in (mixer.transform_bn, mixer.weight_bn, mixer.inverse_bn):
        nn.init.uniform_(norm.bias, -0.5, 1.5)
    x = 2 * torch.randn(3, 2, 8, 4, 8, dtype=torch.float64)
    s = LIF()(x)

    def norm(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return layer(x.flatten(0, 1)).view_as(x)

    y = LIF()(norm(mixer.transform_bn, mixer.transform(s)))
    y = torch.einsum("tbgdhw,gdk->tbgkhw", y.unflatten(2, (2, 4)), mixer.weight).flatten(2, 3)
    y = norm(mixer.inverse_bn, mixer.inverse(norm(mixer.weight_bn, y)))
    for conv, bn in ((mixer.conv1, mixer.conv1_bn), (mixer.conv3, mixer.conv3_bn)):
        halves = [conv(half.flatten(0, 1)) for half in s.chunk(2, 2)]
        y = y + bn(torch.cat(halves, 1)).view_as(x)
    torch.testing.assert_close(mixer(x), y, rtol=0, atol=1e-12)


def test_odd_grids_are_padded_with_silence() -> None:
    mixer = FATM(4, 2, MAKE, grid=(3, 5)).double().eval()
    x = 2 * torch.randn(3, 2, 4, 3, 5, dtype=torch.float64)
    wide = nn.functional.pad(LIF()(x), (0, 3, 0, 1))
    assert mixer.transform(wide).shape[-2:] == (4, 8)
    assert mixer(x).shape == x.shape


def test_by_name() -> None:
    assert isinstance(build_mixer("fatm", 8, 2, MAKE).fn, FATM)
    x = torch.randn(2, 1, 8, 4, 4, requires_grad=True)
    build_mixer("fatm", 8, 2, MAKE)(x).sum().backward()
    assert x.grad is not None and x.grad.any()


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="power of two, got 12"):
        haar_matrix(12)
    with pytest.raises(ArgumentError, match="must divide the width 8"):
        FATM(8, 3, MAKE)
    with pytest.raises(ArgumentError, match="transforms images"):
        FATM(8, 2, MAKE)(torch.randn(2, 1, 8, 4))
    with pytest.raises(ArgumentError, match="'fatm' transforms images"):
        build_mixer("fatm", 8, 2, MAKE, dims=1)
