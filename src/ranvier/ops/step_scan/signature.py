"""What a trace of a neuron depends on, as a hashable value: neurons that are alike share their kernels, and a changed
attribute means another kernel."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_INTERNAL = frozenset(nn.Module().__dict__) - {"training"} | {"_carried", "_packing"}
_AS_THEY_ARE = (str, bytes, type(None), torch.dtype, torch.device, enum.Enum)


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a step can read: parameters, buffers and tensor attributes, by dotted name."""
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        prefix = path + "." if path else ""
        for holder in (part._parameters, part._buffers, part.__dict__):
            for name, value in holder.items():
                if isinstance(value, Tensor):
                    found[prefix + name] = value
    return found


def signature(module: nn.Module) -> Hashable:
    """A value that differs whenever the trace of `module` could: class, attributes, form of the tensors."""
    return _of_module(module, set())


def _of_module(module: nn.Module, open_ids: set[int]) -> Hashable:
    open_ids = open_ids | {id(module)}
    kind = type(module)
    parts: list[Hashable] = [kind, getattr(kind, "step", None), module.__dict__["training"]]
    for holder in (module._parameters, module._buffers):
        parts.append(tuple((name, None if t is None else _of_tensor(t)) for name, t in holder.items()))
    for name, value in module.__dict__.items():
        if name not in _INTERNAL:
            parts.append((name, _freeze(value, open_ids)))
    for name, child in module._modules.items():
        parts.append((name, None if child is None else _freeze(child, open_ids)))
    return tuple(parts)


def _of_tensor(t: Tensor) -> Hashable:
    return type(t), t.shape, t.stride(), t.dtype, t.device, t.requires_grad


def _freeze(value: Any, open_ids: set[int]) -> Hashable:
    if isinstance(value, _AS_THEY_ARE):
        return type(value), value
    if isinstance(value, float):
        return float, value.hex()  # tells −0 from 0, and one NaN is like another
    if isinstance(value, int | complex):
        return type(value), value
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if id(value) in open_ids:
        return "again", type(value)
    if isinstance(value, nn.Module):
        return _of_module(value, open_ids)
    open_ids = open_ids | {id(value)}
    if isinstance(value, tuple | list):
        return type(value), tuple(_freeze(v, open_ids) for v in value)
    if isinstance(value, Mapping):
        return type(value), tuple((_freeze(k, open_ids), _freeze(v, open_ids)) for k, v in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(_freeze(v, open_ids) for v in value)
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.shape, str(value.dtype), value.tobytes()
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, _freeze((cells, value.__defaults__, value.__kwdefaults__), open_ids)
    if isinstance(value, MethodType):
        return value.__func__, _freeze(value.__self__, open_ids)
    if isinstance(value, type | BuiltinFunctionType):
        return value
    attributes = getattr(value, "__dict__", None)
    if attributes is not None:
        return type(value), tuple((name, _freeze(v, open_ids)) for name, v in attributes.items())
    return value if isinstance(value, Hashable) else id(value)
