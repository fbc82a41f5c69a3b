"""Nets and input for the parity with NeuroBench: made of arithmetic, so that every machine has the same.

`python neurobench_nets.py` writes what NeuroBench itself finds for them to standard output, as JSON; it needs
neurobench 2.3.0 and snnTorch beside Ranvier.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

import torch
from torch import Tensor, nn

import ranvier
from ranvier.measure import neurobench, to_neurobench


def pattern(shape: tuple[int, ...], period: int = 7, share: int = 3) -> Tensor:
    """Multiples of 1/4 between -1 and 1, exact in floating point, with zeros among them."""
    n = torch.arange(int(torch.tensor(shape).prod()), dtype=torch.int64)
    values = ((n * 2654435761) % 9973) % (2 * period + 1) - period
    return torch.where(values.abs() < share, 0.0, values / 4.0).reshape(shape).float()


def fixed(net: nn.Module) -> nn.Module:
    """`net` in eval mode with weights from `pattern`, a part of them zero."""
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(pattern(tuple(parameter.shape), 5 + number % 3, 2))
    return net.eval()


def mlp() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Sequential(nn.Linear(30, 16), nn.ReLU()), nn.Linear(16, 4))
    return fixed(net), pattern((6, 20))


def conv_net() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=False), nn.Sigmoid(),
        nn.Conv2d(6, 4, (1, 3), padding=1, padding_mode="circular"), nn.ReLU(),
        nn.Flatten(2), nn.Conv1d(4, 3, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5),
    )  # fmt: skip
    x = pattern((3, 4, 9, 8))
    net.eval()(x)  # the last layer learns its size
    return fixed(net), x


def spiking_mlp() -> tuple[nn.Module, Tensor]:
    net = ranvier.create_model("spiking_mlp", img_size=6, in_channels=1, T=3, num_classes=4, hidden=[24, 12])
    return fixed(net), pattern((5, 1, 6, 6)).abs().clamp(0, 1)


def spikformer() -> tuple[nn.Module, Tensor]:
    net = ranvier.create_model("spikformer", img_size=8, in_channels=1, T=2, num_classes=4)
    return fixed(net), pattern((2, 1, 8, 8)).abs().clamp(0, 1)


class SnnTorchNet(nn.Module):
    """Two leaky layers of snnTorch; one step."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch  # pyright: ignore[reportMissingImports]

        self.fc1, self.fc2 = nn.Linear(20, 24), nn.Linear(24, 4)
        self.lif1 = snntorch.Leaky(beta=0.5, init_hidden=True)
        self.lif2 = snntorch.Leaky(beta=0.75, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.lif2(self.fc2(self.lif1(self.fc1(x))))

    def reset(self) -> None:
        for lif in (self.lif1, self.lif2):
            lif.mem = torch.zeros(0)


def snntorch_net() -> tuple[nn.Module, Tensor]:
    net = SnnTorchNet()
    with torch.no_grad():
        for layer in (net.fc1, net.fc2):
            layer.weight.copy_(pattern(tuple(layer.weight.shape), 5, 2))
            layer.bias.copy_(pattern(tuple(layer.bias.shape), 5, 2))
    return net.eval(), (pattern((4, 6, 20)) > 0.7).float()


def steps(net: nn.Module, x: Tensor) -> Tensor:
    """`[B, T, ...]` through a net of snnTorch, as NeuroBench's own wrapper does it: outputs `[T, B, ...]`."""
    net.reset()  # type: ignore[operator]
    return torch.stack([net(x_t)[0] for x_t in x.unbind(1)])


NETS = {"mlp": mlp, "conv_net": conv_net, "spiking_mlp": spiking_mlp, "spikformer": spikformer}


def labels(samples: int) -> Tensor:
    return torch.arange(samples) % 4


def ours(name: str) -> dict[str, Any]:
    """What we find."""
    if name == "snntorch":
        net, x = snntorch_net()
        return neurobench(net, x, labels(len(x)), run=steps).metrics
    net, x = NETS[name]()
    return neurobench(net, [x[:2], x[2:]] if len(x) > 2 else x, None).metrics


def theirs(name: str) -> dict[str, Any]:
    """What NeuroBench finds."""
    from neurobench.benchmarks import Benchmark  # pyright: ignore[reportMissingImports]
    from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
    from neurobench.metrics.workload import (
        ActivationSparsity,
        ClassificationAccuracy,
        MembraneUpdates,
        SynapticOperations,
    )
    from neurobench.models import SNNTorchModel
    from torch.utils.data import DataLoader, TensorDataset

    static, workload = [Footprint, ParameterCount, ConnectionSparsity], [ActivationSparsity, SynapticOperations]
    if name == "snntorch":
        net, x = snntorch_net()
        model, post, size = SNNTorchModel(net), [lambda spikes: spikes.mean(1).argmax(-1)], len(x)
        workload += [MembraneUpdates, ClassificationAccuracy]
    else:
        net, x = NETS[name]()
        model, post, size = to_neurobench(net, time_axis=False), [], 2
    loader = DataLoader(TensorDataset(x, labels(len(x))), batch_size=size if name == "snntorch" else max(size, 1))
    with contextlib.redirect_stdout(io.StringIO()):
        found = Benchmark(model, loader, [], post, [static, workload]).run(quiet=True)
    return dict(found)


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*NETS, "snntorch"]
    print(json.dumps({name: {"neurobench": theirs(name), "ranvier": ours(name)} for name in wanted}, indent=1))
