"""Surrogate gradients: the forward pass is a Heaviside step (fires at 0), the backward pass a smooth stand-in.

Each surrogate is an immutable object with a `name`, a `formula`, a `primitive` (the smooth step whose slope is used)
and its `derivative`. Calling it on `x = membrane - threshold` gives 0/1 spikes whose gradient is
`derivative(x)`. Peak values and areas are those of the literature's normalised forms: all but the straight-through
estimator integrate to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ranvier.autograd import signed
from ranvier.errors import ArgumentError
from ranvier.registry import Registry, check_keywords

SURROGATES: Registry[type[Surrogate]] = Registry("surrogate")


@signed
class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (x >= 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.surrogate = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(x), None


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogates. `code` and `slope` are what fused kernels need to know; `code` is None for a
    surrogate that kernels do not support, which then always runs through the reference."""

    name: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    code: ClassVar[int | None] = None

    def __call__(self, x: Tensor) -> Tensor:
        """Spikes `1[x >= 0]` in the dtype of `x`, any shape."""
        return _Spike.apply(x, self)  # pyright: ignore[reportReturnType]

    @property
    def slope(self) -> float:
        """The one shape parameter of the kernel form (0 when there is none)."""
        return 0.0

    def primitive(self, x: Tensor) -> Tensor:
        """The smooth step of which `derivative` is the slope."""
        raise ArgumentError(f"surrogate {type(self).__name__} defines no primitive")

    def derivative(self, x: Tensor) -> Tensor:
        """The gradient that stands in for the Dirac impulse."""
        raise ArgumentError(f"surrogate {type(self).__name__} defines no derivative")

    def config(self) -> dict[str, Any]:
        """`{"type": name, ...parameters}`: `ranvier.surrogates.build` turns it back into an equal object."""
        return {"type": self.name, **asdict(self)}


def _positive(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ArgumentError(f"{name} must be a positive number, got {value!r}")


@SURROGATES.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """Derivative of a logistic of steepness `alpha`; peak alpha / 4."""

    name: ClassVar[str] = "sigmoid"
    formula: ClassVar[str] = "α σ(αx) (1 − σ(αx))"
    code: ClassVar[int | None] = 0
    alpha: float = 4.0

    def __post_init__(self) -> None:
        _positive("alpha", self.alpha)

    @property
    def slope(self) -> float:
        return float(self.alpha)

    def primitive(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * x)

    def derivative(self, x: Tensor) -> Tensor:
        z = self.alpha * x
        return self.alpha * torch.sigmoid(z) * torch.sigmoid(-z)  # 1 − σ(z) would cancel for large z


@SURROGATES.register("atan")
@dataclass(frozen=True)
class Atan(Surrogate):
    """Derivative of an arctangent of steepness `alpha`; peak alpha / 2."""

    name: ClassVar[str] = "atan"
    formula: ClassVar[str] = "(α/2) / (1 + (παx/2)²)"
    code: ClassVar[int | None] = 1
    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive("alpha", self.alpha)

    @property
    def slope(self) -> float:
        return float(self.alpha)

    def primitive(self, x: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def derivative(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x).square())


@SURROGATES.register("triangle")
@dataclass(frozen=True)
class Triangle(Surrogate):
    """The triangular gate (QGate of BrainCog): support (−1/alpha, 1/alpha), peak alpha."""

    name: ClassVar[str] = "triangle"
    formula: ClassVar[str] = "max(0, α − α²|x|)"
    code: ClassVar[int | None] = 2
    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive("alpha", self.alpha)

    @property
    def slope(self) -> float:
        return float(self.alpha)

    def primitive(self, x: Tensor) -> Tensor:
        z = (self.alpha * x).clamp(-1, 1)
        return 0.5 + z - 0.5 * z * z.abs()

    def derivative(self, x: Tensor) -> Tensor:
        return (self.alpha - self.alpha**2 * x.abs()).clamp_min(0)


@SURROGATES.register("rectangle")
@dataclass(frozen=True)
class Rectangle(Surrogate):
    """A box of the given `width`, both edges included; height 1 / width."""

    name: ClassVar[str] = "rectangle"
    formula: ClassVar[str] = "1[|x| ≤ w/2] / w"
    code: ClassVar[int | None] = 3
    width: float = 1.0

    def __post_init__(self) -> None:
        _positive("width", self.width)

    @property
    def slope(self) -> float:
        return float(self.width)

    def primitive(self, x: Tensor) -> Tensor:
        return (x / self.width + 0.5).clamp(0, 1)

    def derivative(self, x: Tensor) -> Tensor:
        return (x.abs() <= self.width / 2).to(x.dtype) / self.width


@SURROGATES.register("straight_through")
@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """The identity as a stand-in: gradient one everywhere (does not integrate to one)."""

    name: ClassVar[str] = "straight_through"
    formula: ClassVar[str] = "1"
    code: ClassVar[int | None] = 4

    def primitive(self, x: Tensor) -> Tensor:
        return x

    def derivative(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def build(spec: str | Mapping[str, Any] | Surrogate) -> Surrogate:
    """A surrogate from a name (`"atan"`), a mapping (`{"type": "atan", "alpha": 2.0}`) or itself.

    Raises `UnknownNameError` for an unknown name and `ArgumentError` for a keyword that the surrogate does not take:
    nothing is swallowed.
    """
    if isinstance(spec, Surrogate):
        return spec
    if isinstance(spec, str):
        return SURROGATES[spec]()
    if not isinstance(spec, Mapping) or "type" not in spec:
        raise ArgumentError(f"surrogate must be a name, a mapping with a 'type', or a Surrogate; got {spec!r}")
    arguments = {key: value for key, value in spec.items() if key != "type"}
    cls = SURROGATES[spec["type"]]
    check_keywords(cls, arguments, f"surrogate {spec['type']!r}")
    return cls(**arguments)
