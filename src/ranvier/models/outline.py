"""Models as shapes without values: to count and to describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def outline() -> Iterator[None]:
    """Modules made in the block have weights on the meta device: shapes and dtypes, no memory.

    What would fill them (initialisation) is left out, and tensors made of given numbers stay on the CPU: PyTorch takes
    longer to work out that a number has no value than to compute with it.
    """
    with torch.device("meta"), _WithoutFilling():
        yield


class _WithoutFilling(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            filled = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta and name not in _CHANGE_MORE_THAN_VALUES:
                return filled
        if func in (torch.tensor, torch.as_tensor) and args and not isinstance(args[0], Tensor):
            return func(*args, **{"device": "cpu", **(kwargs or {})})  # numbers, such as a time constant
        return func(*args, **kwargs or {})


_CHANGE_MORE_THAN_VALUES = {
    "as_strided_", "detach_", "rename_", "requires_grad_", "resize_", "resize_as_", "set_", "squeeze_", "swapaxes_",
    "swapdims_", "t_", "transpose_", "unsqueeze_",
}  # fmt: skip
