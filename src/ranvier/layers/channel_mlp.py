"""The spiking MLP of a transformer block: two 1×1 convolutions, each with batch norm and a neuron."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.layers.conv import ConvBN
from ranvier.layers.residual import Residual, check_residual
from ranvier.neurons import NeuronFactory


class ChannelMLP(nn.Module):
    """The branch that a block adds to `[T, B, C, H, W]`.

    "post" (Zhou et al., Spikformer, ICLR 2023): `LIF(BN(W₂ LIF(BN(W₁ x))))`.
    "membrane" (Yao et al., Spike-driven Transformer, NeurIPS 2023): `BN(W₂ LIF(BN(W₁ LIF(x))))`.

    Args:
        dim, hidden: widths C and of the hidden layer.
        neuron: factory of the two neurons.
        residual: "post" or "membrane".
        inner_shortcut: the membrane order with a second shortcut, from the input to what enters the second neuron
            (needs hidden = dim); the released Spike-driven Transformer does this when its MLP ratio is 1.
        bias: whether the convolutions have biases.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        inner_shortcut: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_residual(residual)
        self.post = residual == "post"
        self.inner_shortcut = inner_shortcut
        self.fc1 = ConvBN(dim, hidden, 1, bias=bias, dims=1)
        self.neuron1 = neuron(channels=hidden if self.post else dim)
        self.fc2 = ConvBN(hidden, dim, 1, bias=bias, dims=1)
        self.neuron2 = neuron(channels=dim if self.post else hidden)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(3)
        if self.post:
            y = self.neuron2(self.fc2(self.neuron1(self.fc1(tokens))))
        else:
            y = self.fc1(self.neuron1(tokens))
            if self.inner_shortcut:
                y = y + self.fc2(self.neuron2(tokens + y))
            else:
                y = self.fc2(self.neuron2(y))
        return y.view_as(x)


SpikingMLP = ChannelMLP
"""The name of the literature."""
