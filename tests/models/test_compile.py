"""Whole nets under torch.compile: one graph, one node a neuron, whatever the number of steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.conftest import input_of, lively, small_model
from torch import nn

import ranvier
from ranvier.neurons import Neuron

# torch's tracer makes an instance of an autograd function, which torch itself then warns about.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

NETS = ("spiking_conv_net", "spikformer_cifar_4_256")
NEURONS = ("lif", "plif", "ni_lif", "alif", "clif", "sliding_psn")


@pytest.fixture(autouse=True)
def anew() -> None:
    torch._dynamo.reset()


def awake(net: nn.Module) -> nn.Module:
    """Neurons that fire; running statistics that a graph can update (a cumulative average reads its counter)."""
    for norm in lively(net).modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = 0.1
    return net


def graph_of(net: nn.Module) -> tuple[Any, list[torch.fx.GraphModule]]:
    """The net compiled as a single graph, and the graphs of its forward pass."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(graph)
        return aot_eager(graph, inputs)

    return torch.compile(net, backend=backend, fullgraph=True, dynamic=False), graphs


@pytest.mark.parametrize(
    ("name", "neuron"), [*((NETS[0], n) for n in NEURONS), (NETS[1], "lif"), (NETS[1], "alif")], ids=str
)
def test_one_graph_with_one_node_a_neuron(name: str, neuron: str) -> None:
    net = awake(small_model(name, neuron=neuron, **({"depth": 1} if name == NETS[1] else {})))
    x = input_of(net, None, 2, torch.float32)
    compiled, graphs = graph_of(net)
    want = net(x)
    torch.testing.assert_close(compiled(x), want, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 1
    scans = [n for n in graphs[0].graph.nodes if n.op == "call_function" and "ranvier" in str(n.target)]
    assert len(scans) == sum(isinstance(m, Neuron) for m in net.modules())


def test_gradients_of_a_compiled_net() -> None:
    net = awake(small_model("spiking_conv_net"))
    x = input_of(net, None, 4, torch.float32)
    net(x).square().sum().backward()
    want = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    compiled, _ = graph_of(net)
    compiled(x).square().sum().backward()
    for p, w in zip(net.parameters(), want, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, w, atol=1e-4, rtol=1e-4)


def test_the_size_of_the_graph_does_not_depend_on_t() -> None:
    sizes = []
    for steps in (2, 16):
        torch._dynamo.reset()
        net = small_model("spiking_conv_net", T=steps)
        compiled, graphs = graph_of(net)
        compiled(input_of(net, None, 2, torch.float32))
        sizes.append(len(graphs[0].graph.nodes))
    assert sizes[0] == sizes[1]


def test_a_compiled_stream_carries_its_state() -> None:
    net = lively(small_model("spiking_conv_net")).eval()
    compiled = torch.compile(net, backend="aot_eager")
    x = input_of(net, 6, 2, torch.float32)
    with torch.no_grad(), ranvier.carry(compiled):
        streamed = torch.cat([compiled(chunk) for chunk in x.split(2)])
    torch.testing.assert_close(streamed, net(x), atol=1e-5, rtol=1e-5)
