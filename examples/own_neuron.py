"""A neuron of one's own: the equations of one step; forward, kernels and streaming follow."""

import torch
from torch import Tensor

import ranvier
from ranvier.neurons import Neuron
from ranvier.ops.step_scan import explain
from ranvier.state import State


class Resonator(Neuron):
    """Two variables that turn into each other: it answers best to one rhythm."""

    def __init__(self, damping: float = 0.95, turn: float = 0.6) -> None:
        super().__init__("atan")
        self.damping, self.turn = damping, turn
        self.state_names = ("u", "v")

    def initial_state(self, like: Tensor) -> State:
        return torch.zeros_like(like), torch.zeros_like(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        u, v = state
        u, v = self.damping * (u - self.turn * v) + x_t, self.damping * (v + self.turn * u)
        spike = self.surrogate(v - 1.0)
        return spike, (u, v * (1 - spike.detach()))


neuron = Resonator()
print(explain(neuron))

time = torch.arange(200)
for period in (5, 10, 20, 40):
    x = 0.25 * torch.sin(2 * torch.pi * time / period).view(-1, 1, 1)
    print(f"period {period:2}: {int(neuron(x).sum()):3} spikes")

x = torch.randn(50, 2, 8, requires_grad=True)
neuron(x).sum().backward()
print(f"gradient reaches the first step: {bool(x.grad is not None and (x.grad[0] != 0).any())}")

with torch.no_grad():
    whole = neuron(x)
    with ranvier.carry(neuron):
        pieces = torch.cat([neuron(x[:7]), neuron(x[7:])])
print(f"in two pieces as in one: {torch.equal(pieces, whole)}")
