"""Custom autograd functions that are quick to call."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

F = TypeVar("F", bound=type[Any])


def signed(function: F) -> F:
    """Keep the signature of the `forward` of a `torch.autograd.Function` with it.

    PyTorch binds the arguments of a function with a `setup_context` anew at every call; reading the signature from the
    code is half of what such a call costs, and `inspect` takes the one that it finds here.
    """
    function.forward.__signature__ = inspect.signature(function.forward)
    return function
