"""What shapes go in and come out, checked at run time by jaxtyping and beartype wherever a test calls a module.

No `from __future__ import annotations` here: the annotations are objects that are looked at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from ranvier.layers import ChannelMLP, SpikingAttention, TransformerBlock
from ranvier.neurons import Neuron


@jaxtyped(typechecker=beartype)
def same_sequence(x: Float[Tensor, "T B *features"], y: Float[Tensor, "T B *features"]) -> None:  # noqa: F722
    """Neurons, and the branches and blocks of transformers: `[T, B, ...]` to the same shape."""


_KEEPING = (Neuron, SpikingAttention, ChannelMLP, TransformerBlock)


@contextmanager
def shapes_checked() -> Iterator[None]:
    """Inside the block, every call of a module with a contract is checked against it."""

    def check(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, _KEEPING) and inputs:
            same_sequence(inputs[0], output)
            if isinstance(module, Neuron):
                assert output.dtype == inputs[0].dtype, f"{type(module).__name__} changed {inputs[0].dtype}"

    handle = torch.nn.modules.module.register_module_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()
