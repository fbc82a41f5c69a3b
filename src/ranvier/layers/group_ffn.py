"""Group-wise feed-forward network (GWFFN) of SpikingResformer."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.conv import ConvBN
from ranvier.layers.embed import Embed
from ranvier.neurons import NeuronFactory


class GWFFN(nn.Module):
    """The branch `BN(W₂ LIF(u + BN(G LIF(u))))` with `u = BN(W₁ LIF(x))` (Shi et al., SpikingResformer, CVPR 2024).

    W₁ and W₂ are 1×1 convolutions (D to rD and back), G a grouped 3×3 one; no biases, every synapse sees spikes.

    Args:
        dim: width D.
        neuron: factory of the neurons.
        ratio: r, hidden width over D.
        group_size: channels of a group of G; fewer hidden channels than this are one group.
        num_convs: grouped convolutions in a row, each behind a neuron.
    """

    def __init__(
        self, dim: int, neuron: NeuronFactory, ratio: int = 4, group_size: int = 64, num_convs: int = 1
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = dim * ratio
        groups = max(1, hidden // group_size) if group_size >= 1 else 0
        if not groups or hidden % groups or (groups > 1 and hidden % group_size):
            raise ArgumentError(f"group_size must be positive and divide the hidden width {hidden}, got {group_size!r}")
        self.up = Embed(dim, hidden, neuron, kernel=1)
        self.convs = nn.Sequential(
            *(
                nn.Sequential(neuron(channels=hidden), ConvBN(hidden, hidden, groups=groups))
                for _ in range(num_convs)
            )
        )  # fmt: skip
        self.down = Embed(hidden, dim, neuron, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        u = self.up(x)
        return self.down(u + self.convs(u))
