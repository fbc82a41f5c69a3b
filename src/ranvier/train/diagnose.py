"""Where a number stopped being finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.errors import RanvierError
from ranvier.optim.finite import local


class NonFiniteError(RanvierError):
    """The loss or a gradient became NaN or infinite; the message names the step and, if it can be found, the layer."""


_NOTHING = "every layer's output is finite when the batch is repeated"


def blame(net: nn.Module, x: Tensor, trained: nn.Module | None = None) -> str:
    """A sentence on what is not finite when `net` sees the batch `x`: input, a weight, or the first layer's output.

    `trained` is the module whose parameters have the gradients; `net` itself by default.
    """
    if not torch.isfinite(x).all():
        return "the input batch holds values that are not finite"
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"{name!r} holds values that are not finite"
    layer = _first_layer(net, x)
    if layer is not None:
        return f"the first layer whose output is not finite is {layer!r}"
    # The backward pass goes from the last layer to the first, so the last one is where it began.
    gradients = ((name, p.grad) for name, p in (trained or net).named_parameters())
    spoilt = [name for name, grad in gradients if grad is not None and not torch.isfinite(local(grad)).all()]
    if spoilt:
        return f"every layer's output is finite, but not the gradient of {spoilt[-1]!r}"
    return _NOTHING


def unexplained(sentence: str) -> bool:
    """Whether `blame` found nothing."""
    return sentence == _NOTHING


def spoilt_part(net: nn.Module, dataset: Dataset[Any]) -> str:
    """A sentence on why a loss over `dataset` is not finite: the first sample that is not, a weight, or neither."""
    for number in range(len(dataset)):  # pyright: ignore[reportArgumentType]
        x = dataset[number][0]
        if isinstance(x, Tensor) and x.is_floating_point() and not torch.isfinite(x).all():
            return f"sample number {number} of that part holds NaN or infinite values"
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"{name!r} holds values that are not finite"
    return "data, weights and statistics are finite, the outputs overflow"


@torch.no_grad()
def _first_layer(net: nn.Module, x: Tensor) -> str | None:
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple | list) else [output]
            tensors = [t for t in outputs if isinstance(t, Tensor) and t.is_floating_point()]
            if not found and not all(bool(torch.isfinite(t).all()) for t in tensors):
                found.append(name)

        return hook

    leaves = {name: m for name, m in net.named_modules() if name and next(m.children(), None) is None}
    handles = [module.register_forward_hook(look(name)) for name, module in leaves.items()]
    try:
        net(x)
    except Exception:
        return found[0] if found else None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
