"""LIF (τ = 2, θ = 1, hard reset to 0) in every library, as a module from `[T, B, ...]` to spikes `[T, B, ...]`.

Not every library has every convention, so each peer has its twin: Ranvier's LIF with the same charge (whether the input
is divided by τ), the same surrogate and the same reset gradient. Peers run as their documentation has it for training,
in the fastest of their ways on a CPU.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ranvier.neurons import LIF

Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Peer:
    """A library: its package, its LIF, and the name of Ranvier's twin (a key of `TWINS`)."""

    package: str
    neuron: Factory
    twin: str

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.package} {importlib.metadata.version(self.package)}"


TWINS: dict[str, Factory] = {
    "x/tau, atan, detached": lambda: LIF(surrogate="atan"),
    "x, atan, detached": lambda: LIF(decay_input=False, surrogate="atan"),
    "x/tau, triangle, attached": lambda: LIF(surrogate={"type": "triangle", "alpha": 1.0}, detach_reset=False),
}


class SpikingJelly(nn.Module):
    """`LIFNode` in multi-step mode, reset before every sequence."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate  # pyright: ignore[reportMissingImports]

        self.node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        self.node.reset()
        return self.node(x)


class SnnTorch(nn.Module):
    """`Leaky` in the user's loop over steps."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch  # pyright: ignore[reportMissingImports]
        from snntorch import surrogate  # pyright: ignore[reportMissingImports]

        self.leaky = snntorch.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0), reset_mechanism="zero")

    def forward(self, x: Tensor) -> Tensor:
        membrane, spikes = self.leaky.reset_mem(), []
        for x_t in x.unbind(0):
            s, membrane = self.leaky(x_t, membrane)
            spikes.append(s)
        return torch.stack(spikes)


class Norse(nn.Module):
    """`LIFBoxCell` in a loop over steps; its module over sequences is quadratic in T."""

    def __init__(self) -> None:
        super().__init__()
        from norse.torch import LIFBoxCell, LIFBoxParameters  # pyright: ignore[reportMissingImports]

        p = LIFBoxParameters(
            tau_mem_inv=torch.tensor(500.0), v_leak=torch.tensor(0.0), v_th=torch.tensor(1.0),
            v_reset=torch.tensor(0.0), method="triangle", alpha=torch.tensor(1.0),
        )  # fmt: skip
        self.cell = LIFBoxCell(p, dt=0.001)

    def forward(self, x: Tensor) -> Tensor:
        state, spikes = None, []
        for x_t in x.unbind(0):
            s, state = self.cell(x_t, state)
            spikes.append(s)
        return torch.stack(spikes)


def _atan(v: Tensor, threshold: Tensor) -> Tensor:
    return 1 / (1 + (math.pi * (v - threshold)) ** 2)


class Sinabs(nn.Module):
    """`LIF` on `[B, T, ...]`, its own layout, with one spike a step."""

    def __init__(self) -> None:
        super().__init__()
        import sinabs.activation as activation  # pyright: ignore[reportMissingImports]
        import sinabs.layers  # pyright: ignore[reportMissingImports]

        self.lif = sinabs.layers.LIF(
            tau_mem=1 / math.log(2), norm_input=False, spike_fn=activation.SingleSpike,
            reset_fn=activation.MembraneReset(), surrogate_grad_fn=_atan,
        )  # fmt: skip
        self.lif.requires_grad_(False)  # its time constant is a parameter, which the others learn elsewhere

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset_states()
        return self.lif(x.transpose(0, 1)).transpose(0, 1)


PEERS = (
    Peer("spikingjelly", SpikingJelly, "x/tau, atan, detached"),
    Peer("snntorch", SnnTorch, "x, atan, detached"),
    Peer("norse", Norse, "x/tau, triangle, attached"),
    Peer("sinabs", Sinabs, "x, atan, detached"),
)
