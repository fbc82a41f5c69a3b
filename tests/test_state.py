from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, StateError
from ranvier.neurons import IF, LIF


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.first = LIF()
        self.shared = IF(threshold=1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.linear(x) * 3)
        return self.shared(x) + self.shared(x * 0.4)  # one module, two streams


@pytest.fixture
def net() -> TwoLayers:
    return TwoLayers().double()


def test_calls_do_not_remember_each_other(net: TwoLayers) -> None:
    x = torch.randn(7, 3, 6, dtype=torch.float64)
    first = net(x)
    net(torch.randn(2, 9, 6, dtype=torch.float64))  # another batch size, another length
    assert torch.equal(net(x), first)
    first.sum().backward()
    net(x).sum().backward()  # a second backward pass needs nothing from the first


@pytest.mark.parametrize("cuts", [(1, 6), (3, 3, 1), (1,) * 7, (7,)])
def test_any_chunking_equals_one_pass(net: TwoLayers, cuts: tuple[int, ...]) -> None:
    x = torch.randn(7, 3, 6, dtype=torch.float64)
    whole = net(x)
    with ranvier.carry(net) as memory:
        pieces = [net(chunk) for chunk in x.split(cuts)]
    assert torch.equal(torch.cat(pieces), whole)
    assert len(memory) == 3  # one state for the first layer, one for each call of the shared one
    assert memory.nbytes == 3 * 3 * 5 * 8
    assert torch.equal(net(x), whole), "nothing is left behind after the block"


def test_the_functional_form_leaves_its_memory_alone(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64)
    y1, after1 = ranvier.stream(net, x[:2])
    kept = {key: state[0].clone() for key, state in after1.states.items()}
    y2, _ = ranvier.stream(net, x[2:], after1)
    again, _ = ranvier.stream(net, x[2:], after1)
    assert torch.equal(torch.cat([y1, y2]), net(x))
    assert torch.equal(again, y2)
    assert all(torch.equal(after1.states[key][0], value) for key, value in kept.items())


def test_a_part_called_on_its_own_continues_its_stream(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 5, dtype=torch.float64)
    with ranvier.carry(net):
        pieces = [net.first(x[:3]), net.first(x[3:])]
    assert torch.equal(torch.cat(pieces), net.first(x))


def test_nested_blocks_are_separate_streams(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64)
    with ranvier.carry(net):
        first = net(x[:3])
        with ranvier.carry(net):
            net(torch.randn_like(x))
        second = net(x[3:])
    assert torch.equal(torch.cat([first, second]), net(x))


def test_memory_can_be_resumed_cloned_and_reset(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64)
    with ranvier.carry(net) as memory:
        first = net(x[:3])
    branch = memory.clone()
    with ranvier.carry(net, memory):
        second = net(x[3:])
    assert torch.equal(torch.cat([first, second]), net(x))
    with ranvier.carry(net, branch):
        assert torch.equal(net(x[3:]), second)
        branch.reset()
        assert torch.equal(net(x[3:]), ranvier.stream(net, x[3:])[0])


def test_gradients_cross_chunks_until_detached(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64, requires_grad=True)
    with ranvier.carry(net):
        torch.cat([net(x[:3]), net(x[3:])]).sum().backward()
    chunked = x.grad
    x.grad = None
    net(x).sum().backward()
    torch.testing.assert_close(chunked, x.grad)
    x.grad = None
    with ranvier.carry(net) as memory:
        net(x[:3])
        memory.detach()
        net(x[3:]).sum().backward()
    assert x.grad is not None and torch.equal(x.grad[:3], torch.zeros_like(x.grad[:3]))


def test_state_that_does_not_fit_names_the_layer_and_the_remedy(net: TwoLayers) -> None:
    with ranvier.carry(net) as memory:
        net(torch.randn(2, 3, 6, dtype=torch.float64))
        with pytest.raises(StateError, match=r"'first'.*\(3, 5\).*\(4, 5\).*memory\.reset\(\)"):
            net(torch.randn(2, 4, 6, dtype=torch.float64))
        memory.reset()
        net(torch.randn(2, 4, 6, dtype=torch.float64))


def test_a_failing_pass_does_not_shift_the_streams(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64)
    with ranvier.carry(net):
        first = net(x[:3])
        with pytest.raises(RuntimeError):
            net(torch.randn(3, 2, 99, dtype=torch.float64))
        second = net(x[3:])
    assert torch.equal(torch.cat([first, second]), net(x))


def test_copies_and_pickles_do_not_share_the_stream(net: TwoLayers) -> None:
    x = torch.randn(6, 2, 6, dtype=torch.float64)
    with ranvier.carry(net):
        net(x[:3])
        twin = copy.deepcopy(net)
        other = pickle.loads(pickle.dumps(net))
        assert torch.equal(twin(x), other(x))
    assert torch.equal(twin(x), net(x))


def test_carry_refuses_what_is_not_a_module() -> None:
    with pytest.raises(ArgumentError, match="Module"), ranvier.carry(lambda x: x):  # pyright: ignore
        pass
