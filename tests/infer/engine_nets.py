"""Nets for the engine's tests: random ones, small models, one of integer weights."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from ranvier.layers import DelayLinear, LeakyReadout
from ranvier.layers.delays import DenseDelayLinear
from ranvier.layers.quant import QuantConv2d, QuantLinear
from ranvier.layers.time import over_time
from ranvier.neurons import IF, LIF, PLIF, IntegerLIF
from ranvier.neurons.conversion import QCFSIF
from ranvier.neurons.graded import ILIF, SpikeCount

SMALL = {
    "spikformer": {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 16},
    "spiking_mlp": {"hidden": (24, 16)},
    "spiking_conv_net": {"channels": (4, 8), "hidden": 16, "img_size": 12},
    "delay_mlp_shd": {"hidden": (24, 16), "max_delay": 6},
    "delay_mlp_shd_dense": {"hidden": (24, 16), "max_delay": 3},
}


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
        lambda: QCFSIF(pick.choice([0.5, 1.0]), scale_output=pick.random() < 0.7),
        lambda: QCFSIF(torch.rand(channels) + 0.4, start=0.3),
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


def quantised(bits: int = 4) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    net = Chain(
        QuantConv2d(1, 8, 3, padding=1, bits=bits), nn.BatchNorm2d(8), ILIF(levels=4),
        QuantConv2d(8, 8, 3, 2, bits=bits), nn.BatchNorm2d(8), LIF(threshold=0.4), nn.Flatten(1),
        QuantLinear(8 * 4 * 4, 20, bits=bits), IF(), QuantLinear(20, 5, bits=bits),
    )  # fmt: skip
    return net, torch.rand(6, 3, 1, 10, 10)
