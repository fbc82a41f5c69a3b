"""Compiled nets: the results are those of the graph, whatever the net is made of and however its layers run."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier import create_model
from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer import compile, convert
from ranvier.infer.engine import NotCompilableError
from ranvier.layers import DelayLinear, LeakyReadout
from ranvier.layers.delays import DenseDelayLinear
from ranvier.layers.quant import QuantConv2d, QuantLinear
from ranvier.layers.time import over_time
from ranvier.neurons import IF, LIF, PLIF, IntegerLIF
from ranvier.neurons.graded import ILIF, SpikeCount
from ranvier.state import carry


class Chain(nn.Module):
    """Layers on `[T, B, ...]`: those without time work on every step."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        timeless = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Flatten)
        self.timeless = [isinstance(layer, timeless) or "Pool" in type(layer).__name__ for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        for layer, timeless in zip(self.layers, self.timeless, strict=True):
            x = over_time(layer, x) if timeless else layer(x)
        return x


class Branches(nn.Module):
    """`a(x) + b(x)`, or another way to put two things together."""

    def __init__(self, a: nn.Module, b: nn.Module, how: str) -> None:
        super().__init__()
        self.a, self.b, self.how = a, b, how

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        if self.how == "cat":
            return torch.cat([a, b], 2)
        if self.how == "iand":
            return (1 - a) * b
        return a * b if self.how == "and" else a - b if self.how == "less" else a + b


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """With lively norms and statistics, in evaluation."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 2.0)
            nn.init.uniform_(m.bias, -0.3, 1.2)
            m.momentum = None
    net.train()
    with torch.no_grad():
        net(x)
    return net.eval()


def neuron(pick: random.Random, channels: int) -> nn.Module:
    each = {"tau": torch.rand(channels) + 1.2, "threshold": torch.rand(channels) + 0.4}
    return pick.choice([
        lambda: LIF(tau=pick.choice([1.5, 2.0]), threshold=0.6), lambda: IF(reset="soft"),
        lambda: PLIF(channels=channels), lambda: LIF(**each, decay_input=False, v_reset=-0.2),
        lambda: ILIF(levels=3), lambda: IntegerLIF(levels=4, decay=0.3), lambda: SpikeCount(levels=2),
        lambda: IntegerLIF(levels=2, tau=2.0, reset="hard", rounding="half_even"),
    ])()  # fmt: skip


def delayed(pick: random.Random, i: int, o: int) -> nn.Module:
    return pick.choice([
        lambda: nn.Linear(i, o), lambda: DelayLinear(i, o, pick.randint(0, 5), pick.randint(1, 2)),
        lambda: DelayLinear(i, o, 3, delay_type=pick.choice(["axonal", "dendritic"]), bias=True),
        lambda: DenseDelayLinear(i, o, 2), lambda: DelayLinear(i, o, 4, sparsity=0.5),
    ])()  # fmt: skip


def random_net(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A net of a few random layers and the shape of its input."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    kind = pick.choice(["image", "image", "line", "vector"])
    layers: list[nn.Module] = []
    if kind == "vector":
        width = shape = pick.choice([3, 70, 130])
        for _ in range(pick.randint(1, 3)):
            out = pick.choice([1, 17, 64])
            layer = delayed(pick, width, out)
            layers += [layer, *([nn.BatchNorm1d(out)] if pick.random() < 0.6 else []), neuron(pick, out)]
            width = out
        layers += pick.choice([[nn.Linear(width, 4), LeakyReadout(2.0)], [nn.Linear(width, 4, bias=False)]])
        return Chain(*layers), (shape,)
    two = kind == "image"
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if two else (nn.Conv1d, nn.BatchNorm1d)
    grid = (pick.randint(6, 9), pick.randint(6, 9)) if two else (pick.randint(8, 12),)
    channels = pick.choice([1, 2, 4])
    shape = (channels, *grid)
    for _ in range(pick.randint(1, 3)):
        groups = pick.choice([1, 1, channels])
        out = groups * pick.choice([1, 3, 8])
        kernel = pick.choice([1, 2, 3])
        branches = pick.random() < 0.4

        def block(out: int = out, groups: int = groups, kernel: int = kernel, inside: int = channels,
                  same: bool = branches) -> list[nn.Module]:  # fmt: skip
            stride, padding, dilation = (
                (1, 1, 1) if same else (pick.randint(1, 2), pick.randint(0, 2), pick.choice([1, 1, 2]))
            )
            k = 3 if same else kernel
            made: list[nn.Module] = [
                conv(inside, out, k, stride, padding + dilation, dilation, groups, pick.random() < 0.5)
            ]
            if same:
                made = [conv(inside, out, 3, 1, 1, groups=groups)]
            if pick.random() < 0.7:
                made.append(norm(out))
            return [*made, neuron(pick, out)]

        if branches:
            how = pick.choice(["add", "cat", "and", "iand", "less"])
            layers.append(Branches(Chain(*block()), Chain(*block()), how))
            channels = out * (2 if how == "cat" else 1)
        else:
            layers += block()
            channels = out
        if pick.random() < 0.6:
            pools = {
                "max": lambda: (nn.MaxPool2d if two else nn.MaxPool1d)(3, 2, 1),
                "plain": lambda: (nn.MaxPool2d if two else nn.MaxPool1d)(2),
                "mean": lambda: (nn.AvgPool2d if two else nn.AvgPool1d)(2, 1, 1),
                "border": lambda: (nn.AvgPool2d if two else nn.AvgPool1d)(3, 2, 1, count_include_pad=False),
            }
            layers.append(pick.choice(list(pools.values()))())
    with torch.no_grad():
        size = Chain(*layers)(torch.zeros(1, 2, *shape))[0, 0].numel()
    return Chain(*layers, nn.Flatten(1), nn.Linear(size, 5)), shape


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


SMALL = {
    "spikformer": {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 16},
    "spiking_mlp": {"hidden": (24, 16)},
    "spiking_conv_net": {"channels": (4, 8), "hidden": 16, "img_size": 12},
    "delay_mlp_shd": {"hidden": (24, 16), "max_delay": 6},
    "delay_mlp_shd_dense": {"hidden": (24, 16), "max_delay": 3},
}


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


def quantised(bits: int = 4) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    net = Chain(
        QuantConv2d(1, 8, 3, padding=1, bits=bits), nn.BatchNorm2d(8), ILIF(levels=4),
        QuantConv2d(8, 8, 3, 2, bits=bits), nn.BatchNorm2d(8), LIF(threshold=0.4), nn.Flatten(1),
        QuantLinear(8 * 4 * 4, 20, bits=bits), IF(), QuantLinear(20, 5, bits=bits),
    )  # fmt: skip
    return net, torch.rand(6, 3, 1, 10, 10)


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


def test_unsupported_parts_are_listed_together() -> None:
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
