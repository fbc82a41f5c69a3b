"""Nets to NIR and back: the same spikes, the same delays, and errors that name what cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.infer.exchange import from_nir, to_nir
from ranvier.infer.exchange.nir_order import components, feedback_edges
from ranvier.layers import LeakyReadout
from ranvier.layers.delays import DelayConv2d, DelayLinear, DenseDelayLinear
from ranvier.neurons import IF, LIF, PLIF, CubaLIF

nir: Any = pytest.importorskip("nir")


def _lively(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 0.3)
    return net.eval().double()


def _both(net: nn.Module, path: Path, x: Tensor, **options: Any) -> tuple[Tensor, Tensor, Any]:
    """Outputs of a net and of the file that it is written to and read from."""
    to_nir(net, path, example=x, **options)
    again = from_nir(path)
    with torch.no_grad():
        return net(x), again(x), again


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("spiking_mlp", {"hidden": [16, 12]}, {}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "plif", "tau": 2.5, "v_reset": -0.1}}, {}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "cuba_lif", "reset": "hard"}}, {}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "lif", "reset": "soft"}}, {"soft_reset": "subgraph"}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "if", "reset": "soft"}}, {"soft_reset": "subgraph"}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "cuba_lif"}}, {"soft_reset": "subgraph"}),
        ("spiking_mlp", {"hidden": [16], "neuron": {"type": "cuba_lif"}}, {"soft_reset": "metadata"}),
        ("spiking_conv_net", {"img_size": 8, "channels": (4, 6), "hidden": 10}, {}),
        ("delay_mlp_shd", {"hidden": [16, 12], "in_channels": 20}, {}),
        ("delay_mlp_shd", {"hidden": [16], "in_channels": 20, "kernel_count": 2, "bias": True}, {}),
        ("delay_mlp_shd", {"hidden": [16], "in_channels": 20, "delay_type": "axonal"}, {}),
        ("delay_mlp_shd_dense", {"hidden": [12], "in_channels": 20, "max_delay": 5}, {}),
        ("ms_resnet18", {"img_size": 16, "num_classes": 5, "widths": (4, 6, 8), "blocks": (1, 1, 1)}, {}),
    ],
)
def test_a_model_survives_the_round_trip(tmp_path: Path, name: str, arguments: Any, options: Any) -> None:
    model = _lively(ranvier.create_model(name, **arguments))
    shape: Any = model.input_shape
    x = torch.rand(3 if name == "ms_resnet18" else 10, 2, *shape, dtype=torch.float64) * 2
    before, after, again = _both(model, tmp_path / "model.nir", x, **options)
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    with torch.no_grad(), ranvier.carry(again):  # loops and delays stream too
        parts = [again(x[:1]), again(x[1:])]
    torch.testing.assert_close(torch.cat(parts), before, rtol=0, atol=1e-12)


def test_planted_delays_and_weights_come_back(tmp_path: Path) -> None:
    layer = DelayLinear(7, 5, 9).eval()
    layer.delay.data = torch.randint(0, 10, (5, 7, 1)).float()
    graph = to_nir(nn.Sequential(layer, LIF()), example=torch.zeros(2, 1, 7))
    kinds = [type(n).__name__ for n in graph.nodes.values()]
    assert {"Delay", "Affine", "LIF"} <= set(kinds)
    again: Any = from_nir(graph).nodes["n0"]
    assert isinstance(again, DelayLinear)
    assert torch.equal(again.delay, layer.delay) and torch.equal(again.weight, layer.weight)


def test_axonal_delays_need_no_copies_of_lines() -> None:
    layer = DelayLinear(4, 3, 5, delay_type="axonal").double().eval()
    layer.delay.data = torch.tensor([1.0, 5.0, 0.0, 2.0], dtype=torch.float64).reshape(1, 4, 1)
    graph = to_nir(layer, example=torch.zeros(2, 1, 4), dt=1e-3)
    assert [type(n).__name__ for n in graph.nodes.values()] == ["Input", "Delay", "Affine", "Output"]
    delay = next(n.delay for n in graph.nodes.values() if isinstance(n, nir.Delay))
    np.testing.assert_allclose(delay, [1e-3, 5e-3, 0, 2e-3])


@pytest.mark.parametrize("layer", [DelayConv2d(2, 3, 3, 4), DelayConv2d(2, 4, 3, 2, stride=2, padding=0, groups=2),
                                   DelayConv2d(2, 3, 3, 2, bias=True)])  # fmt: skip
def test_delays_of_a_convolution(tmp_path: Path, layer: DelayConv2d) -> None:
    x = (torch.rand(9, 2, 2, 6, 6) < 0.4).double()
    before, after, _ = _both(layer.double().eval(), tmp_path / "a.nir", x)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [DelayLinear(6, 4, 5, groups=2), DelayLinear(6, 4, 5, delay_type="dendritic"),
                                   DelayLinear(6, 4, 5, sparsity=0.5), DelayLinear(6, 4, 0),
                                   DelayLinear(6, 4, 3, round_in_eval=False), DenseDelayLinear(6, 4, 3, bias=True),
                                   nn.Sequential(DelayLinear(6, 4, 5), LeakyReadout(3.0))])  # fmt: skip
def test_every_delayed_layer(tmp_path: Path, layer: nn.Module) -> None:
    x = (torch.rand(9, 2, 6) < 0.4).double()
    before, after, _ = _both(layer.double().eval(), tmp_path / "a.nir", x)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("neuron", [LIF(tau=2.0), LIF(tau=1.0), LIF(tau=1.7, decay_input=False), PLIF(), IF(),
                                    LIF(tau=torch.tensor([1.5, 2.0, 3.0]), threshold=torch.tensor([0.5, 1.0, 2.0])),
                                    CubaLIF(reset="hard")])  # fmt: skip
def test_a_membrane_exactly_at_threshold_fires(neuron: nn.Module) -> None:
    """NIR fires at v > θ and the library at v ≥ θ: the graph says so exactly, in single precision too."""
    x = torch.tensor([0.5, 1.0, 2.0, 0.25]).repeat(5).reshape(-1, 1, 1).expand(-1, 1, 3).contiguous()
    again = from_nir(to_nir(neuron, example=x))
    with torch.no_grad():
        assert torch.equal(again(x), neuron(x)) and neuron(x).sum() > 0


def test_parameters_are_those_of_the_definition() -> None:
    graph = to_nir(nn.Sequential(LIF(tau=4.0, decay_input=False, v_reset=-0.5)), example=torch.zeros(2, 1, 3), dt=1e-3)
    node = next(n for n in graph.nodes.values() if isinstance(n, nir.LIF))
    np.testing.assert_allclose(node.tau, 4e-3)
    np.testing.assert_allclose(node.r, 4.0)
    np.testing.assert_allclose(node.v_leak, -0.5)
    np.testing.assert_allclose(node.v_reset, -0.5)
    assert (node.v_threshold == np.nextafter(np.float32(1), np.float32(0))).all()
    readout = to_nir(LeakyReadout(5.0), example=torch.zeros(2, 1, 3))
    li = next(n for n in readout.nodes.values() if isinstance(n, nir.LI))
    np.testing.assert_allclose(li.tau, 5e-4)


def test_general_nodes_follow_eulers_rule() -> None:
    """Nodes that no neuron of the library is: every parameter of every element its own."""
    n, dt, rng = 4, 1e-3, np.random.default_rng(0)
    tau, tau_syn = rng.uniform(2e-3, 9e-3, (2, n))
    r, leak, theta, reset, w = rng.uniform(0.2, 2, (5, n))
    x = rng.normal(1, 1, (20, 2, n))
    theta = theta + 1
    lif = nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=theta, v_reset=reset)
    cuba = nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=leak, v_threshold=theta, v_reset=reset, w_in=w)
    for node in (lif, cuba, nir.LI(tau, r, leak), nir.CubaLI(tau_syn, tau, r, leak, w), nir.I(r),
                 nir.IF(r / dt, theta, reset)):  # fmt: skip
        net = from_nir(nir.NIRGraph.from_list(node), dt=dt, dtype=torch.float64)
        v = np.zeros((2, n)) + (leak if hasattr(node, "v_leak") else 0)
        i = np.zeros((2, n))
        want = []
        for x_t in x:
            drive = x_t
            if hasattr(node, "tau_syn"):
                i = i + dt / tau_syn * (-i + w * x_t)
                drive = i
            if hasattr(node, "v_leak"):
                v = v + dt / tau * (leak - v + r * drive)
            else:
                v = v + dt * node.r * drive
            if not hasattr(node, "v_threshold"):
                want.append(v)
                continue
            want.append((v > theta).astype(float))
            v = np.where(v > theta, reset, v)
        with torch.no_grad():
            got = net(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(got, np.stack(want), atol=1e-12, err_msg=type(node).__name__)


def test_recurrent_weights_carry_the_step_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w, back = rng.normal(0, 1, (5, 3)), rng.normal(0, 0.7, (5, 5))
    ones = np.ones(5)
    nodes = {
        "input": nir.Input(np.array([3])), "w": nir.Linear(w), "back": nir.Linear(back),
        "lif": nir.LIF(2e-4 * ones, 2 * ones, 0 * ones, ones), "output": nir.Output(np.array([5])),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    nir.write(tmp_path / "r.nir", nir.NIRGraph(nodes, edges))
    net = from_nir(tmp_path / "r.nir")
    x = rng.normal(0, 1, (15, 2, 3))
    v, s, want = np.zeros((2, 5)), np.zeros((2, 5)), []
    for x_t in x:
        v = 0.5 * v + x_t @ w.T + s @ back.T
        s = (v > 1).astype(float)
        v = np.where(s > 0, 0, v)
        want.append(s)
    with torch.no_grad():
        given = torch.from_numpy(x)
        assert np.array_equal(net(given).numpy(), np.stack(want)) and np.stack(want).mean() > 0.05
        with ranvier.carry(net):
            assert np.array_equal(torch.cat([net(given[:4]), net(given[4:])]).numpy(), np.stack(want))


def test_a_subgraph_is_read() -> None:
    inner = nir.NIRGraph.from_list(nir.Linear(np.eye(3) * 2.0), nir.Scale(np.array([1.0, 2.0, 3.0])))
    nodes = {"input": nir.Input(np.array([3])), "part": inner, "output": nir.Output(np.array([3]))}
    net = from_nir(nir.NIRGraph(nodes, [("input", "part"), ("part", "output")], type_check=False))
    torch.testing.assert_close(net(torch.ones(1, 1, 3).double())[0, 0], torch.tensor([2.0, 4.0, 6.0]).double())


def test_what_comes_back_trains() -> None:
    net = from_nir(to_nir(ranvier.create_model("delay_mlp_shd", hidden=[8], in_channels=6, max_delay=4))).train()
    net(torch.rand(6, 2, 6, 1, 1)).sum().backward()
    delays = next(m for m in net.modules() if isinstance(m, DelayLinear))
    assert delays.delay.grad is not None and delays.delay.grad.abs().sum() > 0


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) * 0.5
        return y + y


class _Product(_Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * x


def test_a_sum_of_the_same_twice(tmp_path: Path) -> None:
    x = torch.rand(4, 2, 3)
    before, after, _ = _both(_Twice().eval(), tmp_path / "t.nir", x)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (nn.Sequential(LIF(reset="soft")), (3,), "resets softly"),
        (nn.Sequential(nn.Linear(3, 3), ranvier.neurons.IntegerLIF()), (3,), "IntegerLIF"),
        (nn.Sequential(DelayLinear(3, 3, 2, tail=1)), (3,), "tail"),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), (3,), "relu"),
        (_Product(), (3,), "mul"),
        (nn.Linear(3, 3), (4, 3), "last axis"),
    ],
)
def test_what_cannot_be_said_is_named(net: nn.Module, shape: tuple[int, ...], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        to_nir(net, example=torch.zeros(2, 1, *shape))


def test_attention_is_named() -> None:
    with pytest.raises(ArgumentError, match="attention"):
        to_nir(ranvier.create_model("spikformer", img_size=32))


def test_bad_arguments_and_files(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), LIF())
    with pytest.raises(ArgumentError, match="example"):
        to_nir(model)
    x = torch.zeros(2, 1, 3)
    for options, named in (({"dt": 0.0}, "dt"), ({"target": "nors"}, "norse"), ({"soft_reset": "no"}, "soft_reset")):
        with pytest.raises(ArgumentError, match=named):
            to_nir(model, example=x, **options)
    with pytest.raises(DataError, match="no such file"):
        from_nir(tmp_path / "none.nir")
    (tmp_path / "bad.nir").write_bytes(b"\x89HDF nothing")
    with pytest.raises(DataError, match="is not a graph"):
        from_nir(tmp_path / "bad.nir")
    graph = to_nir(model, tmp_path / "good.nir", example=x)
    whole = (tmp_path / "good.nir").read_bytes()
    (tmp_path / "cut.nir").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a graph"):
        from_nir(tmp_path / "cut.nir")
    with pytest.raises(ArgumentError, match="shorter than the step"):
        from_nir(graph, dt=1.0)
    with pytest.raises(ShapeError, match="takes"):
        from_nir(graph)(torch.zeros(2, 1, 4))
    next(n for n in graph.nodes.values() if isinstance(n, nir.Affine)).weight[0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        from_nir(graph)


def test_order_of_nodes() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]
    assert components(["d", "c", "b", "a"], edges)[0] == ["a"]
    assert sorted(components(["d", "c", "b", "a"], edges)[1]) == ["b", "c"]
    assert feedback_edges(["b", "c"], edges, set()) == (["b", "c"], [("c", "b")])
    assert feedback_edges(["b", "c"], edges, {"c"}) == (["c", "b"], [("b", "c")])
