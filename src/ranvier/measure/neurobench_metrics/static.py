"""Static metrics of NeuroBench: bytes of the model, and the share of its weights that are zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.measure.neurobench_metrics.layers import STATELESS


def footprint(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def connection_sparsity(model: nn.Module) -> float | None:
    """Zero weights over all weights of linear, convolutional and recurrent layers, to four decimals.

    Biases count in recurrent layers only, as NeuroBench has it. None for a model without such a layer.
    """
    zeros = total = 0
    for child in model.children():
        for weight in _weights(child):
            zeros += weight.numel() - int(torch.count_nonzero(weight))
            total += weight.numel()
    return round(zeros / total, 4) if total else None


def _weights(module: nn.Module) -> list[Tensor]:
    children = list(module.children())
    if children:
        return [weight for child in children for weight in _weights(child)]
    if isinstance(module, STATELESS):
        return [module.weight]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return [parameter for name, parameter in module.named_parameters() if name.startswith(("weight", "bias"))]
    return []
