"""Where tensors come from: the input of the net, its weights, or directly a synaptic op. Kept by storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

INPUT, WEIGHT = 1, 2

# Ops whose result is the same linear function of their one activation, up to constants that fold into weights.
_AFFINE = frozenset({
    "add", "sub", "mul", "div", "clone", "contiguous", "_to_copy", "native_batch_norm", "cudnn_batch_norm",
    "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "_batch_norm_with_update", "copy_",
    "add_", "sub_", "mul_", "div_", "_reshape_copy", "batch_norm_inference",
})  # fmt: skip


class Lineage:
    """Origins of the storages that are alive in one forward pass of a net.

    An output has the union of its operands' origins; a fresh output at a reused address forgets the old ones.
    """

    def __init__(self, weights: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        self._origin: dict[int, int] = {}
        self._source: dict[int, Any] = {}
        for tensor in weights:
            self._origin[_storage(tensor)] = WEIGHT
        for tensor in inputs:
            self._origin[_storage(tensor)] = INPUT

    def of(self, tensor: Tensor) -> int:
        """Bits of `INPUT` and `WEIGHT`; 0 for constants."""
        return self._origin.get(_storage(tensor), 0)

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether only weights went into `tensor`."""
        return self.of(tensor) == WEIGHT

    def source(self, tensor: Tensor) -> Any:
        """The synaptic op whose result `tensor` is, up to constants and layout; None for anything else."""
        return self._source.get(_storage(tensor))

    def mark(self, tensor: Tensor, source: Any) -> None:
        """Note that `tensor` is the result of a synaptic op."""
        self._source[_storage(tensor)] = source

    def follow(self, name: str, operands: Sequence[Tensor], outputs: Sequence[Tensor], writes: bool) -> None:
        """Take note of one op; with `writes` an output that is an operand was written to, else it is a view."""
        places = [_storage(t) for t in operands]
        origin = 0
        for place in places:
            origin |= self._origin.get(place, 0)
        sources = {id(s): s for place in places if (s := self._source.get(place)) is not None}
        activations = sum(1 for place in places if self._origin.get(place, 0) & INPUT)
        source = next(iter(sources.values())) if len(sources) == 1 and activations <= 1 and name in _AFFINE else None
        for output in outputs:
            place = _storage(output)
            if place in places:  # a view or an operation in place
                self._origin[place] = self._origin.get(place, 0) | origin
                if writes and source is None:
                    self._source.pop(place, None)
                continue
            self._origin[place] = origin
            if source is None:
                self._source.pop(place, None)
            else:
                self._source[place] = source


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # layouts without a storage
        return -id(tensor)
