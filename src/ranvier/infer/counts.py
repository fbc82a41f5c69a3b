"""A tensor of spike counts that turns every product into additions of binary spikes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.infer.slots import slot

# Ops that only move entries, or choose among them: what holds for the counts before holds afterwards.
_MOVES = frozenset({
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "unsqueeze", "squeeze",
    "expand", "expand_as", "contiguous", "clone", "detach", "__getitem__", "narrow", "select", "index_select", "roll",
    "flip", "chunk", "split", "unbind", "tensor_split", "repeat", "repeat_interleave", "view_as", "reshape_as", "t",
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "_max_pool1d",
    "_max_pool2d", "_max_pool3d", "boolean_dispatch", "amax", "gather", "take_along_dim", "cpu", "cuda", "alias",
    "view_copy", "requires_grad_", "unfold",
})  # fmt: skip
_CASTS = frozenset({"to", "float", "double", "half", "bfloat16", "type"})
_VIEW_PROPERTIES = frozenset({"T", "mT", "H", "mH"})
_BILINEAR = frozenset({
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul",
    "__matmul__", "__rmatmul__", "mm", "bmm", "einsum", "sparse_conv",
})  # fmt: skip
_TIMES = frozenset({"mul", "__mul__", "__rmul__", "multiply"})
_PLUS = frozenset({"add", "__add__", "__radd__"})
_OVER = frozenset({"div", "__truediv__", "true_divide"})
_REDUCTIONS = frozenset({"sum", "mean"})

MOST_SLOTS = 4096


class Counts(Tensor):
    """Spike counts 0..`levels` of value `scale` each; the tensor stands for `scale · counts`.

    Products with it are computed in binary: `f(counts) = Σ_d f(slot d)`, with bias and scale applied once; of a product
    of two counts one is expanded, the other stays an integer, so that there are only additions. Ops that move
    entries, max-pools, sums, means and multiplications by positive constants keep counts counts. Everything else sees
    the plain value. Made for inference: no gradient flows.
    """

    levels: int
    scale: float

    @staticmethod
    def of(counts: Tensor, levels: int, scale: float = 1.0) -> Counts:
        """Annotate integer `counts` (in a floating dtype)."""
        made: Counts = torch.Tensor._make_subclass(Counts, counts.detach())  # pyright: ignore[reportAttributeAccessIssue]
        made.levels, made.scale = int(levels), float(scale)
        return made

    @property
    def integers(self) -> Tensor:
        """The counts as a plain tensor."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(Tensor)

    @property
    def value(self) -> Tensor:
        """`scale · counts` as a plain tensor."""
        return self.integers if self.scale == 1 else self.integers * self.scale

    def slots(self) -> list[Tensor]:
        """The binary virtual steps that hold a spike; the ones behind them are empty."""
        n = self.integers
        if self.levels == 1:
            return [n]
        most = int(n.amax()) if n.numel() else 0
        return [slot(n, d) for d in range(most)]

    def summed(self, linear: Callable[[Tensor], Tensor]) -> Tensor:
        """`Σ_d linear(slot d)`: what a linear map makes of the counts, without their scale."""
        slots = self.slots() or [torch.zeros_like(self.integers)]
        total = linear(slots[0])
        for spikes in slots[1:]:
            total = total + linear(spikes)
        return total

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return _property(func, args)
        for names, rule in _RULES:
            if name in names:
                made = rule(func, args, kwargs)
                if made is not NotImplemented:
                    return made
        return func(*_values(args), **_values(kwargs))


def plain(x: Any) -> Any:
    """`x`, by its value if it is counts."""
    return x.value if isinstance(x, Counts) else x


def _values(tree: Any) -> Any:
    if isinstance(tree, Counts):
        return tree.value
    if isinstance(tree, tuple | list):
        return type(tree)(_values(v) for v in tree) if type(tree) in (tuple, list) else tree
    if isinstance(tree, dict):
        return {k: _values(v) for k, v in tree.items()}
    return tree


def _integers(tree: Any) -> Any:
    if isinstance(tree, Counts):
        return tree.integers
    if isinstance(tree, tuple | list) and type(tree) in (tuple, list):
        return type(tree)(_integers(v) for v in tree)
    if isinstance(tree, dict):
        return {k: _integers(v) for k, v in tree.items()}
    return tree


def _again(made: Any, levels: int, scale: float) -> Any:
    if isinstance(made, Tensor):
        return Counts.of(made, levels, scale)
    return type(made)(_again(v, levels, scale) for v in made)


def _property(func: Any, args: tuple[Any, ...]) -> Any:
    x = args[0]
    name = getattr(getattr(func, "__self__", None), "__name__", "")
    if isinstance(x, Counts) and name in _VIEW_PROPERTIES:
        return Counts.of(func(x.integers), x.levels, x.scale)
    if name in ("data", "real"):
        return x
    return func(x.integers) if isinstance(x, Counts) else func(*args)


def _move(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args or not isinstance(args[0], Counts):
        return NotImplemented
    x = args[0]
    made = func(*_integers(args), **_integers(kwargs))
    if isinstance(made, tuple) and any(not torch.is_floating_point(v) for v in made):
        return NotImplemented  # with indices
    return _again(made, x.levels, x.scale)


def _cast(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if not isinstance(x, Counts):
        return NotImplemented
    made = func(x.integers, *_integers(args[1:]), **_integers(kwargs))
    return (
        Counts.of(made, x.levels, x.scale) if isinstance(made, Tensor) and made.is_floating_point() else NotImplemented
    )


def _join(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    parts = args[0]
    if not all(isinstance(p, Counts) for p in parts) or len({p.scale for p in parts}) != 1:
        return NotImplemented
    made = func([p.integers for p in parts], *args[1:], **kwargs)
    return Counts.of(made, max(p.levels for p in parts), parts[0].scale)


def _bilinear(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operand in binary, the other as integers or real numbers, the scale and a bias once."""
    first = 1 if func.__name__ == "einsum" else 0
    if len(args) == 2 and first and isinstance(args[1], tuple | list):
        args = (args[0], *args[1])
    operands = list(args[first : first + 2])
    if len(operands) != 2 or (len(args) > first + 2 and first):
        return NotImplemented
    convolution = func.__name__.startswith("conv") or func.__name__ == "linear"
    rest, bias = list(args[first + 2 :]), kwargs.get("bias")
    kwargs = {k: v for k, v in kwargs.items() if k != "bias"}
    if convolution:
        if rest:
            bias, rest = rest[0], rest[1:]
        rest = [None, *rest]
    found = [i for i in (0, 1) if isinstance(operands[i], Counts)]
    if not found:
        return NotImplemented
    one = min(found, key=lambda i: operands[i].levels)
    binary, other = operands[one], operands[1 - one]
    scale = binary.scale * (other.scale if isinstance(other, Counts) else 1.0)
    other = _integers(other)

    def product(spikes: Tensor) -> Tensor:
        pair = (spikes, other) if one == 0 else (other, spikes)
        return func(*args[:first], *pair, *rest, **kwargs)

    total = binary.summed(product)
    total = total if scale == 1 else total * scale
    if bias is None:
        return total
    trailing = 0 if func.__name__ == "linear" else int(func.__name__[-2])
    return total + _values(bias).view(-1, *[1] * trailing)


def _times(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[:2]
    if isinstance(a, Counts) and isinstance(b, Counts):
        if a.levels * b.levels > MOST_SLOTS:
            return NotImplemented
        return Counts.of(func(a.integers, b.integers), a.levels * b.levels, a.scale * b.scale)
    x, factor = (a, b) if isinstance(a, Counts) else (b, a)
    c = _constant(factor)
    return Counts.of(x.integers, x.levels, x.scale * c) if c is not None and c > 0 else NotImplemented


def _over(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, c = args[0], _constant(args[1])
    if isinstance(x, Counts) and c is not None and c > 0 and not kwargs:
        return Counts.of(x.integers, x.levels, x.scale / c)
    return NotImplemented


def _plus(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[:2]
    if kwargs or not (isinstance(a, Counts) and isinstance(b, Counts)):
        return NotImplemented
    fine, coarse = (a, b) if a.scale <= b.scale else (b, a)
    ratio = coarse.scale / fine.scale
    times = round(ratio)
    levels = fine.levels + times * coarse.levels
    if not math.isclose(ratio, times, rel_tol=1e-9) or levels > MOST_SLOTS:
        return NotImplemented
    return Counts.of(fine.integers + times * coarse.integers, levels, fine.scale)


def _complement(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`1 − s` of binary spikes."""
    x = args[0] if isinstance(args[0], Counts) else args[1]
    other = args[1] if x is args[0] else args[0]
    ordered = (x is args[1]) if func.__name__ in ("sub", "subtract", "__sub__") else (x is args[0])
    if not isinstance(x, Counts) or kwargs or not ordered or _constant(other) != 1 or (x.levels, x.scale) != (1, 1.0):
        return NotImplemented
    return Counts.of(1 - x.integers, 1)


def _reduce(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if not isinstance(x, Counts):
        return NotImplemented
    made = torch.sum(x.integers, *args[1:], **kwargs)
    folded = x.numel() // max(1, made.numel())
    scale = x.scale / folded if func.__name__ == "mean" else x.scale
    if not made.is_floating_point() or x.levels * folded > MOST_SLOTS:
        return NotImplemented
    return Counts.of(made, x.levels * folded, scale)


def _average(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An average pool whose windows are all whole."""
    x = args[0]
    if not isinstance(x, Counts):
        return NotImplemented
    ones = func(torch.ones_like(x.integers[:1, :1]), *args[1:], **kwargs)
    if not bool((ones == 1).all()):
        return NotImplemented
    spatial = int(func.__name__[-2])
    window: Any = kwargs.get("kernel_size", args[1] if len(args) > 1 else 1)
    window = (window,) * spatial if isinstance(window, int) else tuple(window)
    size = math.prod(window) if len(window) == spatial else window[0] ** spatial
    padding = kwargs.get("padding", args[3] if len(args) > 3 else 0)
    if x.levels * size > MOST_SLOTS or any(padding if isinstance(padding, tuple | list) else (padding,)):
        return NotImplemented
    return Counts.of((func(x.integers, *args[1:], **kwargs) * size).round(), x.levels * size, x.scale / size)


def _dropout(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Nothing is dropped outside training."""
    x = args[0]
    training = kwargs.get("training", args[2] if len(args) > 2 else True)
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return x if isinstance(x, Counts) and (not training or p == 0) else NotImplemented


def _constant(x: Any) -> float | None:
    """`x` as a number, None where it is a tensor of many."""
    if isinstance(x, Counts):
        return None
    if isinstance(x, Tensor):
        return float(x) if x.numel() == 1 else None
    return float(x) if isinstance(x, int | float) else None


_RULES: tuple[tuple[frozenset[str], Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]], ...] = (
    (_MOVES, _move),
    (_CASTS, _cast),
    (_BILINEAR, _bilinear),
    (_TIMES, _times),
    (_OVER, _over),
    (_PLUS, _plus),
    (_REDUCTIONS, _reduce),
    (frozenset({"sub", "subtract", "rsub", "__sub__", "__rsub__"}), _complement),
    (frozenset({"cat", "stack", "concat", "concatenate"}), _join),
    (frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d"}), _average),
    (frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}), _dropout),
)
