"""Layers with delays in a stream: what is on its way, gradients, copies, state that does not fit."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tests.layers.delay_lines import B, D, M, N, T, loop, spikes

import ranvier
from ranvier.errors import ArgumentError, StateError
from ranvier.layers import (
    DelayLinear,
    LeakyReadout,
    SequenceDropout,
)


def test_tail_shows_what_is_still_on_its_way() -> None:
    layer = DelayLinear(N, M, D, tail=5).double()
    x = spikes()
    longer = torch.cat([x, x.new_zeros(5, B, N)])
    y = layer(x)
    layer.tail = 0
    assert torch.equal(layer(longer), y) and y.shape[0] == T + 5


@pytest.mark.parametrize("training", [False, True])
def test_gradients_through_a_stream(training: bool) -> None:
    layer = DelayLinear(N, M, D, backend="fft").double().train(training)
    layer.sigma.fill_(0.5)
    x = spikes().requires_grad_()
    expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.delay))
    with ranvier.carry(layer):
        y = torch.cat([layer(c) for c in x.tensor_split([4, 5, 11])])
    for a, b in zip(torch.autograd.grad(y.square().sum(), (x, layer.weight, layer.delay)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_a_stream_may_go_from_spikes_to_gradients_and_back() -> None:
    layer = DelayLinear(N, M, D).double().eval()
    x = spikes()
    wanted = loop(layer, x)
    with ranvier.carry(layer):
        with torch.no_grad():
            first = layer(x[:4])
        second = layer(x[4:9])
        with torch.no_grad():
            third = layer(x[9:])
    torch.testing.assert_close(torch.cat([first, second, third]), wanted, rtol=0, atol=1e-13)


def test_a_stream_sees_new_weights_and_its_past_is_not_changed() -> None:
    layer = DelayLinear(N, M, D).double().eval()
    x = spikes()
    with torch.no_grad(), ranvier.carry(layer) as memory:
        layer(x[:5])
        layer(x[5:7])
        before = memory.clone()
        layer.weight.mul_(2)
        changed = layer(x[7:])
        with ranvier.carry(layer, before.clone()):
            again = layer(x[7:])
        assert torch.equal(changed, again)
        fresh = DelayLinear(N, M, D).double().eval()
        fresh.load_state_dict(layer.state_dict())
        with ranvier.carry(fresh, before.clone()):
            assert torch.equal(fresh(x[7:]), changed)


def test_copies_do_not_share_a_stream() -> None:
    layer = DelayLinear(N, M, D).double().eval()
    x = spikes()
    with torch.no_grad():
        y = layer(x)
        with ranvier.carry(layer):
            layer(x)
            layer(x)
            assert torch.equal(copy.deepcopy(layer)(x), y)
            assert torch.equal(pickle.loads(pickle.dumps(layer))(x), y)


@pytest.mark.parametrize("kind", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("training", [False, True])
def test_state_that_does_not_fit(kind: str, training: bool) -> None:
    layer = DelayLinear(N, M, D, delay_type=kind).train(training)  # pyright: ignore[reportArgumentType]
    x = spikes().float()
    with torch.no_grad(), ranvier.carry(layer) as memory:
        layer(x)
        with pytest.raises(StateError, match=r"memory\.reset"):
            layer(x[:, :2])
        memory.reset()
        layer(x[:, :2])


def test_memory_can_be_selected_by_sample() -> None:
    layer = DelayLinear(N, M, D).double().eval()
    x = spikes()
    with torch.no_grad(), ranvier.carry(layer) as memory:
        wanted = layer(x)[9:, 1:]
        memory.reset()
        layer(x[:9])
        memory.map(lambda t: t[1:])
        torch.testing.assert_close(layer(x[9:, 1:]), wanted, rtol=0, atol=1e-13)


def test_dropout_keeps_one_mask_a_sequence() -> None:
    dropout = SequenceDropout(0.4)
    x = torch.ones(7, 50, 30)
    y = dropout(x)
    assert torch.equal(y, y[:1].expand_as(y)) and not torch.equal(y, dropout(x))
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert float((y == 0).float().mean()) == pytest.approx(0.4, abs=0.05)
    with ranvier.carry(dropout):
        assert torch.equal(dropout(x), dropout(x))
    assert dropout.eval()(x) is x
    with pytest.raises(ArgumentError, match="dropout must be"):
        SequenceDropout(1.0)


@pytest.mark.parametrize("tau", [1.0, 1.005, 1.5, 400.0])
def test_readout_integrates(tau: float) -> None:
    x = torch.randn(300, 2, 3, dtype=torch.float64)
    readout = LeakyReadout(tau)
    u, wanted = torch.zeros(2, 3, dtype=torch.float64), []
    for x_t in x:
        u = (1 - 1 / tau) * u + x_t
        wanted.append(u)
    torch.testing.assert_close(readout(x), torch.stack(wanted), rtol=1e-11, atol=1e-11)
    with ranvier.carry(readout):
        y = torch.cat([readout(c) for c in x.tensor_split([1, 2, 150])])
    torch.testing.assert_close(y, torch.stack(wanted), rtol=1e-11, atol=1e-11)
    with pytest.raises(ArgumentError, match="tau"):
        LeakyReadout(0.5)
