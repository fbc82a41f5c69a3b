"""What conversion has to do to a net: which layers merge, which norms and scales go into which weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.layers import LayerScale
from ranvier.layers.quant import QuantSynapse
from ranvier.layers.quant.integer import Synapse
from ranvier.measure.count import undisturbed

Affine = nn.BatchNorm1d | nn.BatchNorm2d | LayerScale


@dataclass(frozen=True)
class Plan:
    """Names of modules.

    `merge`: those with a `fuse` method. `fold`: for each synaptic layer the norms and layer scales that follow it, in
    order. `synapses`: all synaptic layers after merging. `unfolded`: norms that follow something else and stay.
    """

    merge: tuple[str, ...]
    fold: dict[str, tuple[str, ...]]
    synapses: tuple[str, ...]
    unfolded: tuple[str, ...]
    requantize: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(
            merge=tuple(document["merge"]), fold={k: tuple(v) for k, v in document["fold"].items()},
            synapses=tuple(document["synapses"]), unfolded=tuple(document["unfolded"]),
            requantize=document["requantize"],
        )  # fmt: skip


def mergeable(model: nn.Module) -> tuple[str, ...]:
    """Names of the outermost modules with a `fuse` method."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name == outer or name.startswith(outer + ".") for outer in found)
        if name and not inside and callable(getattr(module, "fuse", None)):
            found.append(name)
    return tuple(found)


def follow(model: nn.Module, x: Tensor, merge: tuple[str, ...] = (), requantize: int | None = None) -> Plan:
    """Run `model` once on `x` and see which batch norms and layer scales directly follow a synaptic layer.

    Follows storage: a norm belongs to a layer when it takes the very numbers that the layer just made, reshaped
    perhaps, every time that both run. `merge` must have been done already; it is only noted.
    """
    names = {id(module): name for name, module in model.named_modules()}
    chains: dict[str, tuple[str, ...]] = {}
    broken: set[str] = set()
    seen: set[str] = set()
    last: list[tuple[str, tuple[str, ...], Tensor]] = []

    def after_synapse(module: nn.Module, _: Any, out: Tensor) -> None:
        close()
        last[:] = [(names[id(module)], (), out)]

    def close() -> None:
        for name, chain, _ in last:
            if chains.setdefault(name, chain) != chain:
                broken.add(name)
        last.clear()

    def after_affine(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
        seen.add(names[id(module)])
        follows = bool(last) and _same(given[0], last[0][2])
        if follows:
            name, chain, _ = last[0]
            last[:] = [(name, (*chain, names[id(module)]), out)]
        else:
            close()

    handles: list[Any] = []
    for module in model.modules():
        hook: Callable[..., None] | None = None
        if isinstance(module, Synapse | QuantSynapse):
            hook = after_synapse
        elif isinstance(module, Affine):
            hook = after_affine
        if hook is not None:
            handles.append(module.register_forward_hook(hook))
    try:
        with undisturbed(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    close()
    claimed: dict[str, int] = {}
    for chain in chains.values():
        for name in chain:
            claimed[name] = claimed.get(name, 0) + 1
    fold = {
        name: chain
        for name, chain in chains.items()
        if chain and name not in broken and all(claimed[n] == 1 for n in chain)
    }
    # An unmerged RepConv asks its own norm for the value of its border.
    kept = mergeable(model)
    fold = {name: chain for name, chain in fold.items() if not any(name.startswith(outer + ".") for outer in kept)}
    inside = {name for chain in fold.values() for name in chain}
    synapses = tuple(n for n, m in model.named_modules() if isinstance(m, Synapse | QuantSynapse))
    return Plan(merge, fold, synapses, tuple(sorted(seen - inside)), requantize)


def _same(a: Any, b: Tensor) -> bool:
    if not isinstance(a, Tensor) or a.numel() != b.numel():
        return False
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() and a.storage_offset() == b.storage_offset()


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `name` is."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def evaluating(model: nn.Module) -> torch.nn.Module:
    """`model` in evaluation mode, without gradients for its parameters."""
    return model.eval().requires_grad_(False)
