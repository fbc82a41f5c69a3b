"""One spiking net that sees two domains: shared layers, a head for each domain, features for the alignment."""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ranvier.errors import ArgumentError, ShapeError, nearest
from ranvier.train.transfer.tap import Tap, check_tap, default_tap, tapped

Sharing = Literal["separate", "shared"]


class DomainOutputs(NamedTuple):
    """Logits `[T, B, K]` and features `[T, B, ...]` of both domains."""

    static_logits: Tensor
    event_logits: Tensor
    static_features: Tensor
    event_features: Tensor


class TwoDomainNet(nn.Module):
    """`net` on events, and on static samples through a head of their own (He et al., AAAI 2024).

    The layers are shared. Each domain has a pass of its own, first the static one; as nothing carries state, they do
    not touch each other, but batch norms that are shared update their statistics in both.

    Args:
        net: any classifier of sequences `[T, B, C, H, W]`. It is not changed and not copied: it stays the event net.
        tap: where the features are taken; by default the net's own `transfer_tap`, else its last neurons.
        heads: "separate" copies the head for the static domain, with new weights; "shared" has one.
        norms: "separate" gives the static domain batch norms of its own.
        head: name of the head in `net`; by default its `head_name`, else "head".
    """

    def __init__(
        self,
        net: nn.Module,
        tap: Tap | str | None = None,
        heads: Sharing = "separate",
        norms: Sharing = "shared",
        head: str | None = None,
    ) -> None:
        super().__init__()
        for name, given in (("heads", heads), ("norms", norms)):
            if given not in ("separate", "shared"):
                raise ArgumentError(f"{name} must be 'separate' or 'shared', got {given!r}")
        self.net = net
        self.tap = default_tap(net) if tap is None else Tap(tap) if isinstance(tap, str) else tap
        check_tap(net, self.tap)
        self.head_name: str = head or getattr(net, "head_name", "head")
        self.static_head: nn.Module | None = None
        if heads == "separate":
            modules = dict(net.named_modules())
            if self.head_name not in modules or not any(True for _ in modules[self.head_name].parameters()):
                raise ArgumentError(
                    f"{type(net).__name__} has no head {self.head_name!r}{nearest(self.head_name, modules)}; pass "
                    "head=... or heads='shared'"
                )
            self.static_head = _renewed(modules[self.head_name])
        self.static_norms: nn.ModuleDict | None = None
        if norms == "separate":
            found = {name: m for name, m in net.named_modules() if isinstance(m, _BatchNorm)}
            if not found:
                raise ArgumentError(f"{type(net).__name__} has no batch norms to separate; use norms='shared'")
            self.static_norms = nn.ModuleDict({name.replace(".", "/"): copy.deepcopy(m) for name, m in found.items()})

    def forward(self, static: Tensor, event: Tensor) -> DomainOutputs:
        """Both passes, of samples `[T, B, C, H, W]` that are paired by class; T and B must be the same."""
        if static.dim() == event.dim() and static.shape[:2] != event.shape[:2]:
            axis = 0 if static.shape[0] != event.shape[0] else 1
            raise ShapeError(
                f"both domains must have the same {('steps T', 'samples B')[axis]}: the static samples have "
                f"{static.shape[axis]}, the events {event.shape[axis]}"
            )
        with tapped(self.net, self.tap) as static_features:
            static_logits = self.static_pass(static)
        with tapped(self.net, self.tap) as event_features:
            event_logits = self.net(event)
        return DomainOutputs(static_logits, event_logits, static_features[0], event_features[0])

    def static_pass(self, static: Tensor) -> Tensor:
        """Logits of the static branch, `[T, B, K]`."""
        own = self._own()
        return functional_call(self.net, own, (static,)) if own else self.net(static)

    def export(self) -> nn.Module:
        """The event net alone, a copy in eval mode: what is deployed, without a trace of the static branch."""
        return copy.deepcopy(self.net).eval()

    def static_state(self) -> dict[str, Tensor]:
        """The state that belongs to the static branch alone."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("net.")}

    def _own(self) -> dict[str, Any]:
        """What the static pass has in place of the net's tensors, under the names in the net."""
        own: dict[str, Any] = {}
        parts: list[tuple[str, nn.Module]] = []
        if self.static_head is not None:
            parts.append((self.head_name, self.static_head))
        if self.static_norms is not None:
            parts += [(name.replace("/", "."), norm) for name, norm in self.static_norms.items()]
        for name, part in parts:
            for key, tensor in [*part.named_parameters(), *part.named_buffers()]:
                own[f"{name}.{key}"] = tensor
        return own


def _renewed(head: nn.Module) -> nn.Module:
    """A copy with new weights, where its layers know how to make them."""
    made = copy.deepcopy(head)
    for module in made.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return made


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Any) -> int:
    """Set the running statistics of all batch norms to those of `batches` (event inputs, or pairs with labels).

    For a training that was stopped before the static samples were gone: until then the statistics mix both domains.
    Returns the number of batches; raises `ArgumentError` when there is none.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    modes = {module: module.training for module in net.modules()}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    net.train()
    count = 0
    try:
        for batch in batches:
            net(batch[0] if isinstance(batch, tuple | list) else batch)
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    if not count:
        raise ArgumentError("batches must hold at least one batch of events")
    return count
