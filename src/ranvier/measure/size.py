"""How much a net has to hold: parameters, and the state of a stream."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.measure.batches import each
from ranvier.measure.count import undisturbed
from ranvier.state import carry


def parameter_count(model: nn.Module, trainable: bool = True) -> int:
    """Parameters of `model`, shared ones once; with `trainable` only those that take a gradient."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def state_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of state that a stream of batches like `x` carries from one call to the next.

    A stream that is being carried around this call is not touched.
    """
    [batch] = each(x)
    with undisturbed(model), carry(model) as memory:
        model(batch)
    return memory.nbytes
