"""Compiled nets: the results are those of the graph, whatever the net is made of and however its layers run."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from tests.infer.engine_nets import SMALL, Chain, quantised, random_net, settled
from torch import Tensor, nn

from ranvier import create_model
from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer import compile, convert
from ranvier.infer.engine import NotCompilableError
from ranvier.layers import DelayLinear, LeakyReadout
from ranvier.neurons import IF, LIF
from ranvier.state import carry


@pytest.mark.parametrize("seed", range(40))
def test_random_nets_equal_their_graphs(seed: int) -> None:
    net, shape = random_net(seed)
    net = net.double()
    x = (torch.rand(7, 4, *shape) < 0.3).double() * (torch.rand(1) < 0.5).double().add(1)
    net = settled(net, x)
    mode = ("event", "dense", "auto")[seed % 3]
    engine = compile(net, x, modes=mode, verify=False)
    with torch.no_grad():
        wanted = net(x[:, :1])[:, 0].numpy()
    np.testing.assert_allclose(engine.run(x[:, 0].numpy()), wanted, atol=1e-10)
    engine.reset()
    stepped = np.stack([engine.step(x_t) for x_t in x[:, 0].numpy()])
    np.testing.assert_array_equal(stepped, engine_run(engine, x))


def engine_run(engine, x: Tensor) -> np.ndarray:
    engine.reset()
    return engine.run(x[:, 0].numpy())


@pytest.mark.parametrize("name", SMALL)
def test_models_equal_their_graphs_in_any_mode(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, **SMALL[name]).double()
    x = torch.rand(6, 3, *model.input_shape, dtype=torch.float64)
    model = settled(model, x)
    with torch.no_grad():
        wanted = model(x[:, :1])[:, 0].numpy()
    assert np.abs(wanted).max() > 0
    for mode in ("event", "dense"):
        engine = compile(model, x, modes=mode)
        assert engine.report().equivalence["max_difference"] < 1e-10
        np.testing.assert_allclose(engine.run(x[:, 0].numpy()), wanted, atol=1e-10)


def test_published_models_equal_their_graphs(convertible: str, lively_model) -> None:
    """On images, merged or not, and as the converted net of binary spikes."""
    model, images = lively_model(convertible)
    engine = compile(model, images[:1])
    assert engine.report().equivalence["max_difference"] < 1e-9
    done = convert(model, images[:1], verify=False)
    if not any(type(m).__name__ == "TimeWise" for m in done.net.modules()):
        again = compile(done.net, images[:1])
        assert again.report().equivalence["max_difference"] < 1e-9


def test_event_driven_and_dense_give_the_same_bits() -> None:
    """Sums are made in the same order."""
    torch.manual_seed(1)
    net = settled(Chain(nn.Conv2d(2, 9, 3, 1, 1), nn.BatchNorm2d(9), LIF(), nn.Conv2d(9, 6, 3, 2), LIF(), nn.Flatten(1),
                        nn.Linear(96, 70), IF(), nn.Linear(70, 3)), torch.rand(4, 2, 2, 9, 9))  # fmt: skip
    x = torch.rand(20, 1, 2, 9, 9)
    event, dense = (compile(net, x, modes=mode, verify=False) for mode in ("event", "dense"))
    np.testing.assert_array_equal(event.run(x[:, 0].numpy()), dense.run(x[:, 0].numpy()))


def test_layers_are_chosen_by_name_and_reported() -> None:
    torch.manual_seed(0)
    model = settled(create_model("spiking_mlp", hidden=(24, 16)), torch.rand(4, 2, 1, 8, 8))
    engine = compile(model, torch.rand(5, 1, 1, 8, 8), modes={"": "event", "linears.1": "dense"})
    rows = {row.where.split(" ")[0]: row for row in engine.report().layers}
    assert (rows["linears.0"].choice, rows["linears.1"].choice, rows["head"].choice) == ("event", "dense", "event")
    assert rows["linears.0"].density == 1.0 and 0 <= rows["linears.1"].density < 1
    assert rows["linears.1"].event_us > 0 and "linears.1" in str(engine.report())
    with pytest.raises(ArgumentError, match=r"no layer 'linear\.7'"):
        compile(model, torch.rand(5, 1, 1, 8, 8), modes={"linear.7": "dense"})
    with pytest.raises(ArgumentError, match="modes must be"):
        compile(model, torch.rand(5, 1, 1, 8, 8), modes="sparse")


@pytest.mark.parametrize("mode", ["event", "dense"])
def test_integer_weights_are_summed_exactly(mode: str) -> None:
    """Bit for bit the numbers of the converted net, which adds integers too."""
    net, x = quantised()
    net = settled(net, x)
    done = convert(net, x.flatten(0, 1)[:, None].transpose(0, 1)[:1], verify=False)
    engine = compile(done.net, x, modes=mode, verify=False)
    assert {row.operation for row in engine.report().layers if "int8" in row.operation}
    with torch.no_grad():
        wanted = done.net(x[:, :1])[:, 0].numpy()
    np.testing.assert_array_equal(engine.run(x[:, 0].numpy()), np.asarray(wanted))
    trained = compile(net.double(), x.double(), modes=mode)
    with torch.no_grad():
        wanted = net(x[:, :1].double())[:, 0].numpy()
    np.testing.assert_allclose(trained.run(x[:, 0].numpy()), wanted, atol=1e-9)


def test_static_images_go_through_the_encoder() -> None:
    torch.manual_seed(0)
    model = settled(create_model("spiking_mlp", hidden=(24, 16)), torch.rand(4, 2, 1, 8, 8))
    images = torch.rand(2, 1, 8, 8)
    engine = compile(model, images)
    with torch.no_grad():
        wanted = model(images[:1])[:, 0].numpy()
    np.testing.assert_allclose(engine.run(images[0].expand(model.T, 1, 8, 8).numpy()), wanted, atol=1e-5)


def test_events_are_steps() -> None:
    torch.manual_seed(0)
    model = settled(create_model("spiking_conv_net", in_channels=2, channels=(4, 8), hidden=16, img_size=12),
                    (torch.rand(4, 2, 2, 12, 12) < 0.2).float())  # fmt: skip
    x = (torch.rand(9, 2, 12, 12) < 0.1).float().numpy()
    engine = compile(model, torch.from_numpy(x)[:, None])
    wanted = engine.run(x)
    engine.reset()
    out = np.empty(10, np.float32)
    for x_t, y in zip(x, wanted, strict=True):
        np.testing.assert_array_equal(engine.step_events(np.flatnonzero(x_t), out=out), y)
    engine.reset()
    for x_t, y in zip(x, wanted, strict=True):  # dense, with sizes, and as events, in turn
        where = np.flatnonzero(x_t)
        made = engine.step(x_t) if len(where) % 2 else engine.step_events(where, np.ones(len(where)))
        np.testing.assert_array_equal(made, y)
    engine.reset()
    twice, once = engine.step_events([5, 5]), None
    engine.reset()
    once = engine.step_events([5], [2.0])
    np.testing.assert_array_equal(twice, once)
    engine.reset()
    assert engine.step_events([]).shape == (10,)
    for bad in ([-1], [2 * 12 * 12], [[1]]):
        with pytest.raises(ArgumentError, match="indices"):
            engine.step_events(bad)


def test_state_is_that_of_a_carried_stream_and_reset_forgets() -> None:
    torch.manual_seed(0)
    net = settled(Chain(DelayLinear(12, 20, 7), LIF(tau=3.0), DelayLinear(20, 3, 5), LeakyReadout(4.0)).double(),
                  torch.rand(5, 2, 12).double())  # fmt: skip
    x = (torch.rand(50, 1, 12) < 0.3).double()
    engine = compile(net, x)
    with torch.no_grad(), carry(net):
        for x_t in x:
            np.testing.assert_allclose(engine.step(x_t[0].numpy()), net(x_t[None])[0, 0].numpy(), atol=1e-12)
    first = engine_run(engine, x)
    np.testing.assert_array_equal(first, engine_run(engine, x))
    assert not np.array_equal(first, engine.run(x[:, 0].numpy()))  # it goes on without a reset


def test_copies_branch_the_stream() -> None:
    torch.manual_seed(0)
    net = settled(Chain(nn.Conv2d(1, 3, 3), LIF(), nn.MaxPool2d(2), nn.Flatten(1), nn.Linear(12, 3), LeakyReadout(4.0)),
                  torch.rand(5, 2, 1, 6, 6))  # fmt: skip
    x = torch.rand(20, 1, 6, 6).numpy()
    engine = compile(net, torch.from_numpy(x)[:, None])
    wanted = engine.run(x)
    engine.reset()
    engine.run(x[:10])
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        np.testing.assert_array_equal(other.run(x[10:]), wanted[10:])
    np.testing.assert_array_equal(engine.run(x[10:]), wanted[10:])
    assert other.report().layers == engine.report().layers


def test_unsupported_parts_are_listed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", "reference")  # no kernels for a neuron that runs once

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            from ranvier.neurons import CLIF

            self.first, self.neuron, self.norm = nn.Linear(4, 4), CLIF(), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(self.norm(self.neuron(self.first(x))), -1)

    with pytest.raises(NotCompilableError, match=r"3 of its parts") as caught:
        compile(Odd(), torch.rand(2, 1, 4))
    message = str(caught.value)
    assert "neuron (CLIF)" in message and "norm (LayerNorm)" in message and "softmax" in message


class OverTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).cumsum(0) if len(x) > 1 else self.linear(x)


def test_a_net_that_mixes_steps_is_found_out() -> None:
    with pytest.raises(NotCompilableError, match="mixes steps"):
        compile(OverTime(), torch.rand(3, 1, 4))


def test_bad_input() -> None:
    net = Chain(nn.Linear(4, 3), LIF())
    x = torch.rand(3, 1, 4)
    with pytest.raises(ArgumentError, match="model"):
        compile("net", x)  # pyright: ignore
    with pytest.raises(ArgumentError, match="example"):
        compile(net, torch.rand(4))
    with pytest.raises(ArgumentError, match="precision"):
        compile(net, x, precision="float16")  # pyright: ignore
    with pytest.raises(NotCompilableError, match="tail"):
        compile(Chain(DelayLinear(4, 3, 2, tail=1)), x)
    engine = compile(net, x)
    with pytest.raises(ShapeError, match="one step"):
        engine.step(np.zeros((1, 4)))
    with pytest.raises(ShapeError, match="sequence"):
        engine.run(np.zeros((0, 4)))
    with pytest.raises(ShapeError, match="values"):
        engine.step_events([1, 2], [1.0])


def test_a_step_allocates_nothing_that_stays() -> None:
    import tracemalloc

    net = Chain(nn.Linear(40, 300), LIF(), nn.Linear(300, 5))
    engine = compile(net, torch.rand(3, 1, 40))
    x, out = np.random.default_rng(0).random((40,), np.float32), np.empty(5, np.float32)
    engine.step(x, out)
    tracemalloc.start()
    for _ in range(50):
        engine.step(x, out)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 1000 and peak < 4000  # views and boxed numbers, whatever the size of the net
