"""Federated averaging over clients with different word lengths and widths (after HaLo-FL)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError

BITS = (4, 6, 8, 16)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def stochastic_round(x: Tensor, bits: int, generator: torch.Generator | None = None) -> Tensor:
    """`x` on a symmetric grid of 2^bits − 1 levels up to its largest magnitude, rounded up or down at random so that
    the mean is `x`. 16 bits and more leave float32 as it is to seven digits: it is returned unchanged."""
    if bits not in BITS:
        raise ArgumentError(f"bits must be one of {BITS}, got {bits!r}")
    if bits == 16 or not x.numel():
        return x
    step = x.detach().abs().max() / (2 ** (bits - 1) - 1)
    if not float(step) > 0:
        return x
    draw = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    rounded = torch.floor(x.detach() / step + draw) * step
    return x + (rounded - x).detach()  # the gradient goes straight through


class _RoundBoth(torch.autograd.Function):
    """Rounds on the way there and rounds the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, generator: torch.Generator) -> Tensor:
        ctx.bits, ctx.generator = bits, generator
        return stochastic_round(x, bits, generator).clone()

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, None, None]:
        return stochastic_round(errors[0], ctx.bits, ctx.generator), None, None


class QuantisedTraining:
    """Quantises weights, activations and gradients of a net inside a `with` block, with straight-through gradients."""

    def __init__(self, net: nn.Module, bits: int, seed: int = 0) -> None:
        if bits not in BITS:
            raise ArgumentError(f"bits must be one of {BITS}, got {bits!r}")
        self.net, self.bits = net, bits
        self.generator = torch.Generator().manual_seed(seed)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> QuantisedTraining:
        for module in self.net.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d):
                self._hooks.append(module.register_forward_hook(self._activation))
        return self

    def _activation(self, module: nn.Module, args: object, output: Tensor) -> Tensor:
        del module, args
        return _RoundBoth.apply(output, self.bits, self.generator)

    def weights(self) -> None:
        """Round the weights themselves (after an optimiser step)."""
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.copy_(stochastic_round(parameter, self.bits, self.generator))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def owned(shape: Sequence[int], width: float, full: Sequence[bool]) -> tuple[slice, ...]:
    """The leading part of a tensor that a client of this width owns; `full[i]`: axis i is never cut (network input and
    output, kernels)."""
    if width not in WIDTHS:
        raise ArgumentError(f"width must be one of {WIDTHS}, got {width!r}")
    return tuple(
        slice(None) if keep or index >= 2 else slice(0, max(1, round(size * width)))
        for index, (size, keep) in enumerate(zip(shape, full, strict=True))
    )


@dataclass(frozen=True)
class Client:
    """A client: how much it has (`samples`), its word length and its share of the channels."""

    samples: int
    bits: int = 16
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.bits not in BITS or self.width not in WIDTHS:
            raise ArgumentError(f"expected samples >= 1, bits in {BITS}, width in {WIDTHS}; got {self}")


class FedAvg:
    """Averages each entry over the clients that own it, weighted by their samples.

    Args:
        net: the server's net.
        clients: who takes part.
        uncut: names of parameters, by a test, whose first (`True, False`) or second axis is never cut, because it is
            the net's own input or output; default: no axis is cut but those that exist in every client.
    """

    def __init__(self, net: nn.Module, clients: Sequence[Client],
                 uncut: Callable[[str], tuple[bool, bool]] | None = None) -> None:  # fmt: skip
        if not clients:
            raise ArgumentError("clients: expected at least one")
        self.net, self.clients = net, tuple(clients)
        self.uncut = uncut or (lambda _: (False, False))

    def _part(self, name: str, value: Tensor, width: float) -> tuple[slice, ...]:
        full = (*self.uncut(name), *(True,) * value.dim())[: value.dim()]
        return owned(value.shape, width, full)

    def download(self, client: Client) -> dict[str, Tensor]:
        """The server's weights as this client gets them: zero outside its width, rounded to its bits."""
        out: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(0)
        for name, value in self.net.state_dict().items():
            if not value.is_floating_point() or not value.dim():
                out[name] = value.clone()
                continue
            kept = torch.zeros_like(value)
            part = self._part(name, value, client.width)
            kept[part] = value[part]
            out[name] = stochastic_round(kept, client.bits, generator)
        return out

    @torch.no_grad()
    def average(self, updates: Sequence[Mapping[str, Tensor]]) -> None:
        """Replace the server's weights by the average; entries that nobody owns stay."""
        if len(updates) != len(self.clients):
            raise ArgumentError(f"updates: expected {len(self.clients)}, got {len(updates)}")
        for name, value in self.net.state_dict().items():
            if not value.is_floating_point():
                continue
            total = torch.zeros_like(value, dtype=torch.float64)
            weight = torch.zeros_like(total)
            for client, update in zip(self.clients, updates, strict=True):
                part = self._part(name, value, client.width) if value.dim() else ()
                total[part] += client.samples * update[name][part].double()
                weight[part] += client.samples
            value.copy_(torch.where(weight > 0, total / weight.clamp_min(1e-30), value.double()).to(value.dtype))

    def round(self, train: Callable[[nn.Module, int, Client], None], fresh: Callable[[], nn.Module]) -> None:
        """One round: every client gets the weights, trains (`train(net, index, client)`), and the server averages."""
        updates: list[dict[str, Tensor]] = []
        for index, client in enumerate(self.clients):
            net = fresh()
            net.load_state_dict(self.download(client))
            with QuantisedTraining(net, client.bits, index):
                train(net, index, client)
            mask = {name: value.clone() for name, value in net.state_dict().items()}
            updates.append(mask)
        self.average(updates)
