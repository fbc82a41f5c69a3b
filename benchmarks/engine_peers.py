"""Parts of other libraries, and of plain torch, for nets that run one step at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.infer.plan import replace as put
from ranvier.layers import DelayLinear
from ranvier.neurons import LIF


class Foreign(nn.Module):
    """A LIF of another library, one step `[1, 1, ...]` at a time, with the constants of ours."""

    def __init__(self, library: str, ours: LIF) -> None:
        super().__init__()
        k, theta = float(ours.decay()), float(ours.threshold)
        self.library, self.state, scaled = library, None, ours.dynamics.decay_input
        self.factor = 1.0
        if library == "spikingjelly":
            from spikingjelly.activation_based import neuron  # pyright: ignore[reportMissingImports]

            self.cell = neuron.LIFNode(tau=1 / k, decay_input=scaled, v_threshold=theta, v_reset=0.0)
        elif library == "snntorch":
            import snntorch  # pyright: ignore[reportMissingImports]

            self.factor = k if scaled else 1.0
            self.cell = snntorch.Leaky(beta=1 - k, threshold=theta, reset_mechanism="zero")
        elif library == "norse":
            from norse.torch import LIFBoxCell, LIFBoxParameters  # pyright: ignore[reportMissingImports]

            self.factor = 1.0 if scaled else 1 / k
            self.cell = LIFBoxCell(LIFBoxParameters(
                tau_mem_inv=torch.tensor(1000 * k), v_leak=torch.tensor(0.0), v_th=torch.tensor(theta),
                v_reset=torch.tensor(0.0),
            ), dt=0.001)  # fmt: skip
        else:
            import sinabs.activation as activation  # pyright: ignore[reportMissingImports]
            import sinabs.layers  # pyright: ignore[reportMissingImports]

            self.factor = k if scaled else 1.0
            self.cell = sinabs.layers.LIF(
                tau_mem=-1 / math.log(1 - k), norm_input=False, spike_threshold=theta,
                spike_fn=activation.SingleSpike, reset_fn=activation.MembraneReset(),
            )  # fmt: skip

    def forget(self) -> None:
        self.state = None
        if self.library == "spikingjelly":
            self.cell.reset()
        elif self.library == "sinabs":
            self.cell.reset_states()

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.factor == 1 else x * self.factor
        if self.library == "spikingjelly":
            return self.cell(x)
        if self.library == "snntorch":
            if self.state is None:
                self.state = self.cell.reset_mem()
            s, self.state = self.cell(x, self.state)
            return s
        if self.library == "norse":
            s, self.state = self.cell(x, self.state)
            return s
        return self.cell(x.flatten(0, 1).unsqueeze(1)).view_as(x)


class History(nn.Module):
    """Delays as the other libraries can have them: the last inputs times a dense kernel."""

    def __init__(self, layer: DelayLinear) -> None:
        super().__init__()
        kernel = layer.kernel().detach()  # [O, I, K], the last tap for the newest input
        self.weight = nn.Parameter(kernel.permute(0, 2, 1).flatten(1).contiguous(), requires_grad=False)
        self.bias = layer.bias
        self.register_buffer("past", torch.zeros(kernel.shape[2], kernel.shape[1]))

    def forget(self) -> None:
        self.past = torch.zeros(self.past.shape)

    def forward(self, x: Tensor) -> Tensor:
        self.past = torch.cat([self.past[1:], x.view(1, -1)])
        return F.linear(self.past.view(1, 1, -1), self.weight, self.bias)


class OwnLIF(nn.Module):
    """LIF in plain torch, as a user writes it."""

    def __init__(self, ours: LIF) -> None:
        super().__init__()
        self.k, self.theta, self.scaled = float(ours.decay()), float(ours.threshold), ours.dynamics.decay_input
        self.v: Tensor | None = None

    def forget(self) -> None:
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x) if self.v is None else self.v
        v = v + self.k * (x - v) if self.scaled else v - self.k * v + x
        s = (v >= self.theta).to(x.dtype)
        self.v = torch.where(s > 0, 0.0, v)
        return s


class Leak(nn.Module):
    """The readout of the delays net, one step at a time."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep, self.u = keep, 0.0

    def forget(self) -> None:
        self.u = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.u = x + self.keep * self.u
        return self.u


def swapped(model: nn.Module, neuron: Callable[[LIF], nn.Module]) -> nn.Module:
    """The folded net with other neurons, delays and readout."""
    net = copy.deepcopy(model)
    for name, module in list(net.named_modules()):
        if isinstance(module, LIF):
            put(net, name, neuron(module))
        elif isinstance(module, DelayLinear):
            put(net, name, History(module))
        elif type(module).__name__ == "LeakyReadout":
            put(net, name, Leak(1 - 1 / module.tau))
        elif type(module).__name__ == "SequenceDropout":
            put(net, name, nn.Identity())
    return net
