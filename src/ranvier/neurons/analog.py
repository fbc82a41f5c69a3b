"""The activation of conventional nets behind the contract of a neuron: for float teachers and controls."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS
from ranvier.state import State


@NEURONS.register("relu")
class ReLU(Neuron):
    """`max(x, 0)`, memoryless and real-valued: not a spiking neuron.

    In any model of the library it makes the conventional twin of the net (with `T=1`, since all steps are alike). It
    has no threshold: models that lower the one behind a product need `attn_threshold=None`.
    """

    def __init__(self) -> None:
        super().__init__()

    def initial_state(self, like: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return F.relu(x_t), ()

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        return F.relu(x), () if keep_state else None
