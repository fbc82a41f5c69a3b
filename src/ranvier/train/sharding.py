"""A net whose parameters lie in parts on several processes (FSDP2), and the whole tensors of it."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from ranvier.errors import ConfigError


def sharded(net: nn.Module) -> bool:
    """Whether `shard` was applied to `net`."""
    return any(hasattr(p, "device_mesh") for p in net.parameters())


def whole(t: Tensor) -> Tensor:
    """All of a distributed tensor, on every process (called by all of them); any other tensor as it is."""
    return cast(Any, t).full_tensor() if hasattr(t, "device_mesh") else t


def part_like(value: Tensor, p: Tensor) -> Tensor:
    """The whole tensor `value` as a distributed one laid out like `p`; as it is where `p` is not distributed."""
    if not hasattr(p, "device_mesh") or value.shape != p.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    layout = cast(Any, p)
    with warnings.catch_warnings():  # PyTorch 2.6 warns of random operators on CPUs; none is used
        warnings.filterwarnings("ignore", message="DTensor random operators")
        return distribute_tensor(value.to(p.device), layout.device_mesh, layout.placements)


def shard(net: nn.Module, device: torch.device, world: int) -> nn.Module:
    """Share the parameters of `net`, in place, evenly among `world` processes; returns it.

    The blocks (members of a `ModuleList` that are more than a layer) are gathered one at a time, the rest with the
    whole net. Buffers stay whole. Raises `ConfigError` for parameters that cannot be cut.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    scalar = next((name for name, p in net.named_parameters() if p.dim() == 0), None)
    if scalar is not None:
        raise ConfigError(
            f"train.strategy: fsdp cuts parameters along their first dimension, and {scalar!r} of this model is a "
            "single number (a learnable constant of a neuron, say); use train.strategy=ddp"
        )
    if device.type == "cpu":
        _complete_streams()
    mesh = init_device_mesh(device.type, (world,))
    for block in _blocks(net):
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def _complete_streams() -> None:
    """Give the stream of the CPU, which does nothing, two methods that FSDP2 calls and PyTorch 2.6 leaves out."""
    stream: Any = torch.cpu.Stream
    for name in ("record_event", "wait_event"):
        if not hasattr(stream, name):
            setattr(stream, name, lambda *_: None)


def gather(net: nn.Module, into: nn.Module) -> nn.Module:
    """Put the whole weights and the buffers of the sharded `net` into a plain net; called by every process."""
    into.load_state_dict({name: whole(value) for name, value in net.state_dict().items()})
    return into


def _blocks(net: nn.Module) -> list[nn.Module]:
    """Members of module lists that hold several modules with parameters and are not inside such a member."""
    found: list[nn.Module] = []
    for name, child in net.named_children():
        del name
        if isinstance(child, nn.ModuleList):
            for member in child:
                rich = sum(any(True for _ in m.parameters(recurse=False)) for m in member.modules()) > 1
                found += [member] if rich else _blocks(member)
        else:
            found += _blocks(child)
    return found
