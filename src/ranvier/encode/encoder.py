"""What every encoder is: a static image in [0, 1] becomes a sequence `[T, B, ...]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.registry import Registry, check_keywords

ENCODERS: Registry[type[Encoder]] = Registry("encoder")


class Encoder(nn.Module):
    """Base of the encoders: `forward(x: [B, ...], T) -> [T, B, ...]` in the dtype of `x`, on its device.

    Encoders have no parameters and keep no state. `sparse` encoders emit nothing but zeros and a few amplitudes; they
    need `x` in [0, 1], not normalised, and say so otherwise.
    """

    name: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    sparse: ClassVar[bool] = True

    def __init__(self) -> None:  # without the **kwargs of nn.Module, which would hide a wrong keyword from `build`
        super().__init__()

    def forward(self, x: Tensor, T: int) -> Tensor:
        """The sequence of `T` steps for the batch `x`.

        Raises `ShapeError` for an `x` without a batch axis and `ArgumentError` for a `T` below one, an `x` that is not
        floating point or, for the sparse encoders, has values outside [0, 1] (NaN included).
        """
        self.check(x, T)
        return self.encode(x, T)

    def check(self, x: Tensor, T: int) -> None:
        """Raise what `forward` documents for an `x` or a `T` that cannot be encoded."""
        if not isinstance(T, int) or isinstance(T, bool) or T < 1:
            raise ArgumentError(f"encoder {self.name!r}: T must be an integer of at least 1, got {T!r}")
        if x.ndim == 0:
            raise ShapeError(f"encoder {self.name!r}: x must be [B, ...], got a scalar")
        if not x.is_floating_point():
            raise ArgumentError(f"encoder {self.name!r}: x must be floating point in [0, 1], got {x.dtype}")
        if self.sparse:
            _check_unit_interval(x, self.name)

    def encode(self, x: Tensor, T: int) -> Tensor:
        """The sequence for an `x` and a `T` that have been checked."""
        raise ArgumentError(f"encoder {type(self).__name__} defines no encode(x, T)")

    def config(self) -> dict[str, Any]:
        """`{"type": name, ...arguments}`: `ranvier.encode.build` turns it back into an equal encoder."""
        return {"type": self.name}

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.config().items() if key != "type")


def _check_unit_interval(x: Tensor, name: str) -> None:
    if not _has_values(x):
        return
    low, high = torch.stack(torch.aminmax(x.detach())).tolist()  # NaN passes through aminmax; one device sync
    if not (low >= 0 and high <= 1):
        raise ArgumentError(
            f"encoder {name!r}: x must lie in [0, 1], got values from {low:g} to {high:g}; give it the image before "
            "normalisation (only the direct encoder takes mean and std)"
        )


def _has_values(x: Tensor) -> bool:
    """False where values cannot be read: nothing there, meta or fake tensors, tracing, compiling, vmap."""
    if x.numel() == 0 or x.is_meta or torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return False
    in_vmap = torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore[reportAttributeAccessIssue]
    return type(x) in (Tensor, nn.Parameter) and not in_vmap


def steps_like(x: Tensor, T: int, start: int = 0) -> Tensor:
    """`start, start + 1, ...` as int64 `[T, 1, ...]` that broadcasts over `x`."""
    return torch.arange(start, start + T, device=x.device).view(T, *([1] * x.ndim))


def build(spec: str | Mapping[str, Any] | Encoder) -> Encoder:
    """An encoder from a name (`"rate"`), a mapping (`{"type": "direct", "mean": [...], "std": [...]}`) or itself.

    Raises `UnknownNameError` for an unknown name and `ArgumentError` for a keyword that the encoder does not take.
    """
    if isinstance(spec, Encoder):
        return spec
    if isinstance(spec, str):
        return ENCODERS[spec]()
    if not isinstance(spec, Mapping) or "type" not in spec:
        raise ArgumentError(f"encoder must be a name, a mapping with a 'type', or an Encoder; got {spec!r}")
    arguments = {key: value for key, value in spec.items() if key != "type"}
    cls = ENCODERS[spec["type"]]
    check_keywords(cls, arguments, f"encoder {spec['type']!r}")
    return cls(**arguments)
