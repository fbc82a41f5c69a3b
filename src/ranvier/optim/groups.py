"""Parameter groups for sparse moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ranvier.errors import ArgumentError


def sparse_param_groups(
    model: nn.Module, density: float, include: Sequence[str] = ("attn", "mlp"), min_ndim: int = 2
) -> list[dict[str, Any]]:
    """Two groups for `SPAM`: weights with moments for a share of their entries, and all other parameters.

    Sparse are the weights of at least `min_ndim` dimensions of linear and convolution layers whose module name holds
    one of `include`; embeddings, norms, biases and the head stay dense. Raises `ArgumentError` where nothing matches.
    """
    if isinstance(include, str):
        include = (include,)
    layers = (nn.Linear, nn.modules.conv._ConvNd)
    chosen = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, layers) and module.weight.dim() >= min_ndim and any(part in name for part in include)
    }
    sparse = [p for p in model.parameters() if p.requires_grad and id(p) in chosen]
    dense = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    if not sparse:
        names = [name for name, m in model.named_modules() if isinstance(m, layers)][:6]
        raise ArgumentError(
            f"include: no layer's name holds any of {list(include)!r}; the model has {', '.join(names)}"
        )
    groups: list[dict[str, Any]] = [{"params": sparse, "density": density, "min_ndim": min_ndim}]
    return [*groups, {"params": dense, "density": 1.0}] if dense else groups
