"""Training memory: keep spikes as bits and recompute the rest on the way back.

A block of convolution, batch norm and neuron keeps three tensors of floats for the backward pass: the input of each.
Only the first is needed to compute the others again, and it consists of spikes, which fit into bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ranvier.errors import ArgumentError
from ranvier.layers.attention import SpikingAttention
from ranvier.layers.channel_mlp import ChannelMLP
from ranvier.neurons import Neuron
from ranvier.ops.spike_codes import SpikeCodes, encode
from ranvier.state import Memory, Stateful

_WHOLE = (SpikingAttention, ChannelMLP)
_SYNAPTIC = (nn.Linear, nn.modules.conv._ConvNd)
Blocks = type[nn.Module] | Sequence[type[nn.Module]] | Sequence[str] | Callable[[nn.Module], bool]


def compact_spikes() -> AbstractContextManager[None]:
    """Inside the block, autograd keeps tensors of few distinct values in few bits: spikes in one, counts in four.

    Lossless, for any module; what is not spikes is kept as it is.
    """
    return saved_tensors_hooks(_keep, _restore)  # pyright: ignore[reportReturnType]


def _keep(t: Tensor) -> Tensor | SpikeCodes:
    if t.is_leaf and t.requires_grad:  # a parameter is alive anyway
        return t
    codes = encode(t)
    return t if codes is None else codes


def _restore(kept: Tensor | SpikeCodes) -> Tensor:
    return kept.decode() if isinstance(kept, SpikeCodes) else kept


def recompute(net: nn.Module, blocks: Blocks | None = None, enable: bool = True) -> nn.Module:
    """Make `net` keep almost nothing for the backward pass: of every block its input, in bits where it is spikes.

    The rest of a block is computed once more on the way back (about a third more time), and everything else that the
    net keeps is packed into bits where it is spikes (`compact_spikes`). Results and gradients are the same: dropout
    draws the same numbers, running statistics move once, carried state (`ranvier.carry`) is left alone. Parameters and
    their names do not change. Works on eager nets; a compiled net should be compiled before, block by block.

    Args:
        net: any module; changed in place and returned.
        blocks: which submodules are blocks: a type or several, their names, or a function of a module. By default an
            `nn.Sequential` with neurons is cut behind each of them, an attention or an MLP is one block, and any other
            module is one that has a neuron of its own beside synapses, unless a part of it is a block already.
        enable: False takes it back.

    Raises `ArgumentError` where there is no block.
    """
    if not isinstance(net, nn.Module):
        raise ArgumentError(f"recompute needs a torch.nn.Module, got {type(net).__name__}")
    for module in net.modules():
        if isinstance(module.__dict__.get("forward"), _Compact):
            del module.forward
    if not enable:
        return net
    found = _default_blocks(net) if blocks is None else _chosen_blocks(net, blocks)
    if not found:
        raise ArgumentError(
            f"{type(net).__name__} has no block to recompute; name some with blocks=, a type or names of submodules"
        )
    for block in found:
        segmented = blocks is None and isinstance(block, nn.Sequential)
        block.__dict__["forward"] = _Segments(block) if segmented else _Recomputed(block)
    net.__dict__.setdefault("forward", _Compact(net))
    return net


def _own(module: nn.Module, kind: Any) -> bool:
    return any(isinstance(child, kind) for child in module.children())


def _default_blocks(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, Neuron):
        return []
    if isinstance(module, _WHOLE):
        return [module]
    inner = [block for child in module.children() for block in _default_blocks(child)]
    if isinstance(module, nn.Sequential) and _own(module, Neuron):
        return [*inner, module]
    synaptic = any(isinstance(m, _SYNAPTIC) for m in module.modules())
    return inner if inner or not synaptic or not _own(module, Neuron) else [module]


def _chosen_blocks(net: nn.Module, blocks: Blocks) -> list[nn.Module]:
    if isinstance(blocks, type):
        return [m for m in net.modules() if isinstance(m, blocks)]
    if callable(blocks):
        return [m for m in net.modules() if blocks(m)]
    types = tuple(b for b in blocks if isinstance(b, type))
    if types and len(types) == len(blocks):
        return [m for m in net.modules() if isinstance(m, types)]
    named = dict(net.named_modules())
    blocks = [str(b) for b in blocks]
    unknown = [name for name in blocks if name not in named]
    if unknown:
        raise ArgumentError(f"blocks names {unknown[0]!r}, which {type(net).__name__} has not")
    return [named[name] for name in blocks]


class _Compact:
    """The `forward` of a net whose spikes are kept in bits."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's class defines."""
        return type(self.module).forward(self.module, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.plain(*args, **kwargs)
        with compact_spikes():
            return self.plain(*args, **kwargs)


class _Recomputed(_Compact):
    """The `forward` of a block that is computed again on the way back."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.plain(*args, **kwargs)
        return _checkpointed([self.module], self.plain, *args, **kwargs)


class _Segments(_Compact):
    """The `forward` of an `nn.Sequential` that is computed again piece by piece, each up to a neuron."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.apart = [_has_blocks(child) for child in module.children()]  # these take care of themselves

    def __call__(self, x: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.plain(x)
        piece: list[nn.Module] = []
        for child, apart in zip(self.module.children(), self.apart, strict=True):
            if apart:
                with compact_spikes():
                    x = child(_through(piece, x))
                piece = []
                continue
            piece.append(child)
            if isinstance(child, Neuron):
                x = _checkpointed(piece, _Chain(piece), x)
                piece = []
        with compact_spikes():
            return _through(piece, x)


def _has_blocks(module: nn.Module) -> bool:
    return any(isinstance(m.__dict__.get("forward"), _Compact) for m in module.modules())


class _Chain:
    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = list(modules)

    def __call__(self, x: Any) -> Any:
        return _through(self.modules, x)


def _through(modules: Sequence[nn.Module], x: Any) -> Any:
    for module in modules:
        x = module(x)
    return x


def _checkpointed(modules: Sequence[nn.Module], run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _AsBefore(modules)

    with compact_spikes():
        return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)


class _AsBefore:
    """A context in which `modules` run as they would now, and leave no trace: the same carried state and packing, and
    no buffer (running statistics) changed. It can be entered again."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.inside = [m for module in modules for m in module.modules()]
        stateful = [m for m in self.inside if isinstance(m, Stateful)]
        self.stateful = [(m, _copy_of(m._carried), m._packing) for m in stateful]
        # Most buffers are written only; a module that also reads what it writes says so.
        reads = [m for m in self.inside if getattr(m, "reads_own_buffers", False)]
        self.read = [(m._buffers, n, b.clone()) for m in reads for n, b in m._buffers.items() if b is not None]

    def __enter__(self) -> None:
        twins: dict[Tensor, Tensor] = {}  # what the second pass writes (running statistics) is dropped with them
        self.buffers = [(m._buffers, n, b) for m in self.inside for n, b in m._buffers.items() if b is not None]
        for holder, name, buffer in self.buffers:
            holder[name] = twins.setdefault(buffer, buffer.clone())
        for holder, name, before in self.read:
            holder[name] = before.clone()
        self.now = [(m, m._carried, m._packing) for m, _, _ in self.stateful]
        for module, carried, packing in self.stateful:
            module._carried, module._packing = _copy_of(carried), packing

    def __exit__(self, *_: object) -> None:
        for holder, name, buffer in self.buffers:
            holder[name] = buffer
        for module, carried, packing in self.now:
            module._carried, module._packing = carried, packing


def _copy_of(carried: tuple[Memory, str] | None) -> tuple[Memory, str] | None:
    """The same memory at this moment, for a module of this name: what is remembered later does not reach it."""
    if carried is None:
        return None
    memory, name = carried
    twin = Memory()
    twin.states = {key: state for key, state in memory.states.items() if key[0] == name}
    twin._calls, twin._in_pass = {name: memory._calls.get(name, 0)}, memory._in_pass
    return twin, name
