"""The two extractors of SpikePoint: inside groups of neighbours, and over all groups."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.models.spikepoint.blocks import CodeLookup, LinearNorm, Order, ResF
from ranvier.neurons import NeuronFactory

Pool = Literal["max", "max_rate", "max_membrane"]


class LocalExtractor(nn.Module):
    """PLIF(LinearNorm), a bottleneck residual, and the maximum over the neighbours of a group."""

    def __init__(self, in_channels: int, channels: int, make: NeuronFactory, order: Order) -> None:
        super().__init__()
        self.enter = CodeLookup(in_channels, channels)
        self.neuron = make(channel_axis=-1)
        self.residual = ResF(channels, make, bottleneck=True, order=order)

    def forward(self, x: Tensor) -> Tensor:
        """Codes `[T, B, M, K]` (or values with a last axis of channels) to `[T, B, M, C]`."""
        return self.residual(self.neuron(self.enter(x))).max(3).values  # one winner gets the gradient


class GlobalExtractor(nn.Module):
    """PLIF(LinearNorm) with growing width and residuals, and the maximum over all groups.

    Args:
        widths: C1 (input), C2, C3, C4.
        pool: "max" takes the maximum of the spikes at every step; "max_rate" that of their sums over time (all steps
            get the winner's spikes); "max_membrane" the maximum of the currents, which then drive one neuron.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], make: NeuronFactory, order: Order, pool: Pool
    ) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = []
        for before, c in zip((in_channels, *widths[:-2]), widths[:-1], strict=True):
            layers += [LinearNorm(before, c), make(channel_axis=-1), ResF(c, make, order=order)]
        self.layers = nn.Sequential(*layers)
        self.last = LinearNorm(widths[-2], widths[-1])
        self.neuron = make(channel_axis=-1)
        self.pool: Pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, M, C1]` to `[T, B, C4]`."""
        current = self.last(self.layers(x))
        if self.pool == "max_membrane":
            return self.neuron(current.max(2).values)
        spikes = self.neuron(current)
        if self.pool == "max":
            return spikes.max(2).values
        winner = spikes.sum(0).argmax(1)  # [B, C]: the group that fires most
        return spikes.gather(2, winner[None, :, None].expand(len(spikes), -1, 1, -1))[:, :, 0]
