"""The two mixers of an RWKV-4 block, over time and over channels, with spikes where SpikeGPT puts them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.layers.token_shift import TokenShift, token_mix
from ranvier.layers.wkv_attention import WKV
from ranvier.neurons import NeuronFactory


def _share(dim: int) -> nn.Parameter:
    return nn.Parameter(torch.full((1, 1, dim), 0.5))


class _Gate(nn.Module):
    """What stands before a linear layer: nothing, or a neuron layer that makes its input spikes."""

    def __init__(self, neuron: NeuronFactory | None, names: tuple[str, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.gates = nn.ModuleDict()
        if neuron is not None:
            for name, width in zip(names, channels, strict=True):
                self.gates[name] = neuron(channels=width, channel_axis=2)

    def forward(self, name: str, x: Tensor) -> Tensor:
        return self.gates[name](x) if name in self.gates else x


class TimeMix(nn.Module):
    """`W_o (σ(W_r x_r) ⊙ WKV(W_k x_k, W_v x_v))`, each x a mix of a token with the one before it.

    Args:
        dim: channels.
        neuron: makes the input of every linear layer spikes; None leaves it real, as published.
        attend: False takes the value of the present token in place of WKV (an ablation: no long memory).
    """

    def __init__(self, dim: int, neuron: NeuronFactory | None = None, attend: bool = True) -> None:
        super().__init__()
        self.attend = attend
        self.shift = TokenShift()
        self.wkv = WKV(dim)
        self.time_mix_k, self.time_mix_v, self.time_mix_r = _share(dim), _share(dim), _share(dim)
        self.key, self.value, self.receptance, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.before = _Gate(neuron, ("key", "value", "receptance", "output"), (dim,) * 4)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, C]` to `[T, B, C]`."""
        last = self.shift(x)
        r = torch.sigmoid(self.receptance(self.before("receptance", token_mix(x, last, self.time_mix_r))))
        v = self.value(self.before("value", token_mix(x, last, self.time_mix_v)))
        if self.attend:
            v = self.wkv(self.key(self.before("key", token_mix(x, last, self.time_mix_k))), v)
        return self.output(self.before("output", r * v))


class ChannelMix(nn.Module):
    """`σ(W_r x_r) ⊙ W_v relu(W_k x_k)²`; arguments as in `TimeMix`, `ratio` times as wide inside."""

    def __init__(self, dim: int, neuron: NeuronFactory | None = None, ratio: int = 4) -> None:
        super().__init__()
        self.shift = TokenShift()
        self.time_mix_k, self.time_mix_r = _share(dim), _share(dim)
        self.key = nn.Linear(dim, ratio * dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(ratio * dim, dim, bias=False)
        self.before = _Gate(neuron, ("key", "receptance", "value"), (dim, dim, ratio * dim))

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, C]` to `[T, B, C]`."""
        last = self.shift(x)
        k = self.key(self.before("key", token_mix(x, last, self.time_mix_k))).relu().square()
        r = torch.sigmoid(self.receptance(self.before("receptance", token_mix(x, last, self.time_mix_r))))
        return r * self.value(self.before("value", k))
