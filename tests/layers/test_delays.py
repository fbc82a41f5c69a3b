"""Layers with delays: closed forms, equal executors, learning."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.layers.delay_lines import D, M, N, T, loop, spikes
from torch import nn

import ranvier
from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.layers import (
    DelayAnnealer,
    DelayConv2d,
    DelayLinear,
    DenseDelayLinear,
    EventQueue,
    SynapseTable,
    clamp_delays_,
    delay_layers,
    delay_param_groups,
    freeze_delays_,
    integer_delays,
    round_delays_,
)


@pytest.mark.parametrize("kind", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("count", "sparsity"), [(1, 0.0), (2, 0.5)])
def test_every_executor_is_the_loop(kind: str, groups: int, count: int, sparsity: float) -> None:
    layer = DelayLinear(N, M, D, count, kind, groups=groups, sparsity=sparsity).double()  # pyright: ignore[reportArgumentType]
    layer.sigma.fill_(0.4)
    x = spikes()
    torch.testing.assert_close(layer(x), loop(layer, x), rtol=0, atol=1e-13)
    chunks = [[5, 6, 7, 12], list(range(1, T))]
    with ranvier.carry(layer):
        torch.testing.assert_close(
            torch.cat([layer(c) for c in x.tensor_split(chunks[0])]), loop(layer, x), rtol=0, atol=1e-13
        )
    layer.eval()
    wanted = loop(layer, x)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-13)  # with a graph
    with torch.no_grad():
        for backend in ("auto", "conv", "fft", "gather", "scatter"):
            layer.backend = backend
            torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-13)
            for cuts in chunks:
                with ranvier.carry(layer) as memory:
                    y = torch.cat([layer(c) for c in x.tensor_split(cuts)])
                assert len(memory) == 1
                torch.testing.assert_close(y, wanted, rtol=0, atol=1e-13)
    queue = EventQueue(SynapseTable.from_module(layer))
    y = torch.cat([queue.run(c) for c in x[:, 0].tensor_split([4, 9])])
    torch.testing.assert_close(y, wanted[:, 0], rtol=0, atol=1e-13)
    fan = len(queue.table) // N
    assert sparsity or queue.operations == int(x[:, 0].sum()) * fan


@pytest.mark.parametrize("delay", [0, 3, D])
def test_one_delay_for_all_is_a_linear_layer_and_a_shift(delay: int) -> None:
    layer = DelayLinear(N, M, D, learn_delay=False).double().eval()
    nn.init.constant_(layer.delay, delay)
    x = spikes()
    wanted = F.pad(F.linear(x, layer.weight.squeeze(-1)), (0, 0, 0, 0, delay, 0))[:T]
    with torch.no_grad():
        torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-13)


def test_causal_and_independent_of_the_batch() -> None:
    layer = DelayLinear(N, M, D).double()
    x = spikes()
    later = torch.cat([x[:9], spikes(6)])
    assert torch.equal(layer(later)[:9], layer(x)[:9]) or torch.allclose(layer(later)[:9], layer(x)[:9], atol=1e-13)
    torch.testing.assert_close(layer(x[:, 1:2]), layer(x)[:, 1:2], rtol=0, atol=1e-13)


def test_sequences_shorter_than_the_delays() -> None:
    layer = DelayLinear(N, M, 40).double()
    x = spikes(3)
    torch.testing.assert_close(layer(x), layer(torch.cat([x, spikes(50)]))[:3], rtol=0, atol=1e-13)


def test_evaluation_rounds_and_leaves_no_trace() -> None:
    layer = DelayLinear(N, M, D).double()
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    x = spikes()
    soft = layer(x)
    hard = layer.eval()(x)
    with integer_delays(layer.train()):
        assert torch.equal(layer(x), hard)
    with integer_delays(layer.eval(), False):
        assert torch.equal(layer(x), soft)
    assert torch.equal(layer.train()(x), soft) and not torch.allclose(soft, hard)
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())
    layer.eval()
    round_delays_(layer)
    assert torch.equal(layer.delay, layer.delay.round()) and torch.equal(layer(x), hard)
    unrounded = DelayLinear(N, M, D, round_in_eval=False).double()
    assert torch.equal(unrounded(x), unrounded.eval()(x))


def test_frozen_delays_train_weights_only() -> None:
    layer = DelayLinear(N, M, D).double()
    freeze_delays_(layer)
    x = spikes()
    y = layer(x)
    y.sum().backward()
    assert layer.delay.grad is None and layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    torch.testing.assert_close(y, layer.eval()(x), rtol=0, atol=1e-13)
    with torch.no_grad():
        layer.delay.add_(0.2)
    layer.after_update()
    torch.testing.assert_close(y, layer(x), rtol=0, atol=1e-13)
    freeze_delays_(layer, False)
    layer.train()(x).sum().backward()
    assert layer.delay.grad is not None


def test_a_delay_finds_its_place() -> None:
    torch.manual_seed(0)
    layer = DelayLinear(1, 1, 12)
    with torch.no_grad():
        layer.delay.fill_(3.0)
        layer.weight.fill_(1.0)
    layer.sigma.fill_(4.0)
    x = (torch.rand(200, 4, 1) < 0.1).float()
    target = F.pad(x, (0, 0, 0, 0, 7, 0))[:200]
    annealer = DelayAnnealer(layer, start=4.0, epochs=200)
    optimizer = torch.optim.Adam(delay_param_groups(layer, lr=0.02))
    for step in range(300):
        annealer.step(step)
        optimizer.zero_grad()
        F.mse_loss(layer(x), target).backward()
        optimizer.step()
    assert abs(layer.delay.item() - 7) < 0.05


def test_annealing_is_the_published_schedule() -> None:
    net = nn.Sequential(DelayLinear(3, 3, 24), DelayLinear(3, 3, 24, learn_delay=False), DelayLinear(3, 3, 30))
    first, fixed, longer = delay_layers(net)
    annealer = DelayAnnealer(net, epochs=37)
    annealer.step(0)
    assert first.sigma == 12 and fixed.sigma == 0 and longer.sigma == 15
    annealer.step(1)
    assert float(first.sigma) == pytest.approx(12 * 0.8986, rel=1e-4)
    for epoch in (37, 38, 1000):
        annealer.step(epoch)
        assert float(first.sigma) == pytest.approx(0.23, abs=1e-6) and fixed.sigma == 0
    assert DelayAnnealer(net, "linear", start=4, end=2, epochs=4).sigma(1, 4) == 3.5
    assert DelayAnnealer(net, epochs=0).sigma(0, 12) == pytest.approx(0.23)
    for wrong in ({"schedule": "cosine"}, {"end": 0.0}, {"epochs": 1.5}):
        with pytest.raises(ArgumentError):
            DelayAnnealer(net, **wrong)  # pyright: ignore[reportArgumentType]


def test_initial_values() -> None:
    layer = DelayLinear(200, 100, 24, kernel_count=2)
    bound = (6 / 400) ** 0.5
    assert 0.98 * bound < layer.weight.abs().max() <= bound
    assert layer.delay.min() >= 0 and layer.delay.max() == 24 and layer.sigma == 12
    at_end = float((layer.delay == 24).float().mean())
    assert at_end == pytest.approx(1 / 25, rel=0.15), "the draw reaches one step beyond the buffer"
    assert layer.delay.mean().item() == pytest.approx(12.48, abs=0.15)
    shapes = [tuple(DelayLinear(6, 4, 3, 2, kind).delay.shape) for kind in ("synaptic", "axonal", "dendritic")]  # pyright: ignore[reportArgumentType]
    assert shapes == [(4, 6, 2), (1, 6, 2), (4, 1, 2)]


def test_sparse_connectivity_stays() -> None:
    layer = DelayLinear(50, 40, D, sparsity=0.9)
    assert layer.mask is not None
    kept = float(layer.mask.float().mean())
    assert 0.07 < kept < 0.13
    layer(torch.rand(9, 2, 50)).sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad != 0, layer.mask & (layer.weight.grad != 0))
    optimizer = torch.optim.Adam(delay_param_groups(layer, weight_decay=0.1))
    optimizer.step()
    nn.init.constant_(layer.weight, 1.0)
    clamp_delays_(layer)
    assert torch.equal(layer.weight != 0, layer.mask)
    assert len(SynapseTable.from_module(layer)) == int(layer.mask.sum())


def test_parameter_groups() -> None:
    net = nn.Sequential(DelayLinear(3, 4, D, bias=True), nn.BatchNorm1d(4), DelayConv2d(2, 3, 3, D))
    groups = {group["name"]: group for group in delay_param_groups(net, 1e-3, 0.1, 1e-5)}
    assert [p.shape for p in groups["delays"]["params"]] == [(4, 3, 1), (3, 18, 1)]
    assert groups["delays"]["lr"] == 0.1 and groups["delays"]["weight_decay"] == 0
    assert groups["weights"]["weight_decay"] == 1e-5 and len(groups["weights"]["params"]) == 2
    assert groups["others"]["weight_decay"] == 0 and len(groups["others"]["params"]) == 3


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    layer = DelayConv2d(4, 6, 3, 5, stride=2, groups=groups).double()
    layer.synapses.sigma.fill_(0.5)
    x = torch.rand(8, 2, 4, 7, 9, dtype=torch.float64)
    kernel = layer.kernel()
    assert kernel.shape == (6, 4 // groups, 6, 3, 3)
    padded = F.pad(x.movedim(0, 2), (1, 1, 1, 1, 5, 0))
    wanted = F.conv3d(padded, kernel, stride=(1, 2, 2), groups=groups).movedim(2, 0)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-11)
    layer.eval()
    with torch.no_grad(), ranvier.carry(layer):
        full = torch.cat([layer(c) for c in x.tensor_split([3, 4])])
    kernel = layer.kernel()
    wanted = F.conv3d(padded, kernel, stride=(1, 2, 2), groups=groups).movedim(2, 0)
    torch.testing.assert_close(full, wanted.detach(), rtol=1e-10, atol=1e-11)
    with pytest.raises(ShapeError, match=r"\[T, B, 4, H, W\]"):
        layer(torch.rand(8, 2, 3, 7, 9))


def test_dense_delays() -> None:
    layer = DenseDelayLinear(N, M, D, bias=True).double()
    x = spikes()
    wanted = F.conv1d(F.pad(x.permute(1, 2, 0), (D, 0)), layer.weight, layer.bias).permute(2, 0, 1)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-11)
    with ranvier.carry(layer):
        torch.testing.assert_close(
            torch.cat([layer(c) for c in x.tensor_split([1, 8])]), wanted, rtol=1e-10, atol=1e-11
        )


def test_half_precision_and_autocast() -> None:
    layer = DelayLinear(N, M, D)
    x = spikes().float()
    y = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), y, rtol=0.02, atol=0.02)
    half = copy.deepcopy(layer).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert half.eval()(x.bfloat16()).dtype == torch.bfloat16


def test_compiles() -> None:
    layer = DelayLinear(N, M, D)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = spikes().float()
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
    compiled(x).sum().backward()
    assert layer.delay.grad is not None


def test_delays_that_an_update_moved_out_come_back() -> None:
    layer = DelayLinear(N, M, D)
    with torch.no_grad():
        layer.delay[0, 0, 0], layer.delay[1, 1, 0] = -0.4, D + 0.4
    layer(spikes().float())
    assert layer.delay[0, 0, 0] == 0 and layer.delay[1, 1, 0] == D


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_delay": -1}, "max_delay must be a whole number"),
        ({"max_delay": 2.5}, "max_delay must be a whole number"),
        ({"in_features": 0}, "in_features must be an integer"),
        ({"groups": 4}, "groups=4 must divide"),
        ({"kernel_count": 0}, "kernel_count"),
        ({"delay_type": "somatic"}, "delay_type must be"),
        ({"backend": "cuda"}, "backend must be one of"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"tail": -2}, "tail"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DelayLinear(**{"in_features": 6, "out_features": 4, "max_delay": 7, **arguments})  # pyright: ignore[reportArgumentType]


def test_bad_input() -> None:
    layer = DelayLinear(N, M, D)
    x = spikes().float()
    for wrong in (x[0], x[:, :, :5], x[:0], x.unsqueeze(0)):
        with pytest.raises(ShapeError, match=r"\[T, B, 6\]"):
            layer(wrong)
    with pytest.raises(ArgumentError, match="floating-point"):
        layer(x.long())
    nn.init.constant_(layer.delay, D + 2.0)
    for training in (True, False):
        with pytest.raises(ArgumentError, match=r"0 \.\. 7 steps, the buffer of this layer; got 9 \.\. 9"):
            layer.train(training)(x)
    nn.init.constant_(layer.delay, float("nan"))
    with pytest.raises(ArgumentError, match="got nan"):
        layer(x)
    tailed = DelayLinear(N, M, D, tail=2)
    with pytest.raises(StateError, match="set tail = 0"), ranvier.carry(tailed):
        tailed(x)
