"""Nodes of NIR as layers of the library: the same dynamics where there are, general ones elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError
from ranvier.infer.exchange.nir_modules import (
    DelayLine,
    FlattenFeatures,
    Leaky,
    LeakyCurrent,
    ScaleBy,
    SumPool,
    Threshold,
)
from ranvier.infer.exchange.pieces import above
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.layers.time import TimeWise
from ranvier.neurons import IF, LIF, CubaLIF

_CLOSE = 1e-6  # relative: parameters may have been stored in single precision


def layer_of(name: str, node: Any, dt: float, dtype: torch.dtype, surrogate: Any, lag: int = 0) -> nn.Module:
    """The module over `[T, B, ...]` of one node; `lag` steps of a delay are taken elsewhere (a feedback edge).

    Raises `DataError` that names the node for values that cannot be.
    """
    kind = type(node).__name__
    for key, value in vars(node).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"node {name!r} ({kind}): {key} holds values that are not finite")
    build = _BUILDERS.get(kind)
    if build is None:
        raise ArgumentError(f"node {name!r}: nodes of kind {kind} are not known; known are {', '.join(_BUILDERS)}")
    if kind == "Delay":
        return _delay(name, node, dt, lag)
    made: nn.Module = build(name, node, dt, surrogate)
    return made.to(dtype)


def _tensor(value: Any) -> Tensor:
    """As an array of its own, in the precision that it is stored in."""
    return torch.from_numpy(np.array(value))


def _affine(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    weight = np.asarray(node.weight)
    if weight.ndim != 2:
        raise ArgumentError(f"node {name!r}: weights of {weight.ndim} axes; only matrices are read")
    bias = getattr(node, "bias", None)
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(made, weight, bias)


def _filled(made: Any, weight: Any, bias: Any) -> Any:
    made.weight = nn.Parameter(_tensor(weight))
    if bias is not None:
        made.bias = nn.Parameter(_tensor(np.broadcast_to(bias, (weight.shape[0],))))
    return made


def _convolution(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    weight, groups = np.asarray(node.weight), int(node.groups)
    kind: Any = nn.Conv1d if weight.ndim == 3 else nn.Conv2d
    dims = weight.ndim - 2
    padding = node.padding if isinstance(node.padding, str) else _tuple(node.padding, dims)
    made = kind(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], _tuple(node.stride, dims), padding,
        _tuple(node.dilation, dims), groups,
    )  # fmt: skip
    return TimeWise(_filled(made, weight, node.bias))


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    given = np.atleast_1d(np.asarray(value))
    return tuple(int(v) for v in np.broadcast_to(given, (dims,)))


def _pool(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    kernel, stride, padding = (_tuple(v, 2) for v in (node.kernel_size, node.stride, node.padding))
    if type(node).__name__ == "AvgPool2d":
        return TimeWise(nn.AvgPool2d(kernel, stride, padding))  # pyright: ignore[reportArgumentType]
    return TimeWise(SumPool(kernel, stride, padding))  # pyright: ignore[reportArgumentType]


def _flatten(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    return FlattenFeatures(int(node.start_dim), int(node.end_dim))


def _scale(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    return ScaleBy(_tensor(node.scale))


def _delay(name: str, node: Any, dt: float, lag: int = 0) -> nn.Module:
    steps = np.asarray(node.delay, np.float64) / dt
    whole = np.rint(steps)
    if (np.abs(steps - whole) > 1e-3).any() or (whole < 0).any():
        raise ArgumentError(
            f"node {name!r}: delays of {steps.min():g} to {steps.max():g} steps of dt = {dt:g} s; they must be whole "
            "and not negative: give from_nir the dt that the graph was made for"
        )
    return DelayLine(torch.from_numpy(whole.astype(np.int64) - lag))


def _threshold(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    return Threshold(surrogate, threshold=_tensor(above(_floating(node.threshold))))


def _floating(value: Any) -> Any:
    given = np.asarray(value)
    return given if given.dtype.kind == "f" else given.astype(np.float32)


def _decay(name: str, tau: Any, dt: float) -> Any:
    tau = np.asarray(tau, np.float64)
    if not (tau >= dt * (1 - _CLOSE)).all():
        raise ArgumentError(
            f"node {name!r} has a time constant of {tau.min():g} s, shorter than the step dt = {dt:g} s; give from_nir "
            "the dt that the graph was made for"
        )
    return np.minimum(dt / tau, 1.0)


def _neuron(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    """I, IF, LI and LIF."""
    kind = type(node).__name__
    leaks = kind in ("LI", "LIF")
    r = np.asarray(node.r, np.float64)
    k = _decay(name, node.tau, dt) if leaks else np.zeros_like(r)
    gain = r * k if leaks else r * dt
    leak = np.asarray(node.v_leak, np.float64) if leaks else np.zeros_like(r)
    fires = kind in ("IF", "LIF")
    if kind == "IF" and np.allclose(r, 1.0) and dt < 0.5:
        gain = np.ones_like(r)  # the common way to write v ← v + x
    house = _house_leaky(node, k, gain, leak, surrogate) if fires else _house_readout(k, gain, leak)
    if house is not None:
        return house
    _only_hard(name, node)
    threshold = _tensor(above(_floating(node.v_threshold))) if fires else None
    return Leaky(
        surrogate, keep=_tensor(k), gain=_tensor(gain), leak=_tensor(leak), threshold=threshold,
        v_reset=_tensor(node.v_reset) if fires else None,
    )  # fmt: skip


def _only_hard(name: str, node: Any) -> None:
    if _resets(node) == "soft":
        raise ArgumentError(f"node {name!r} notes a soft reset, but its parameters are not those of one neuron kind")


def _resets(node: Any) -> str:
    return "soft" if str(getattr(node, "metadata", {}).get("reset", "")) == "subtract" else "hard"


def _house_leaky(node: Any, k: Any, gain: Any, leak: Any, surrogate: Any) -> nn.Module | None:
    """IF or LIF where the node is one: one decay and threshold a layer or a channel, at rest where it is reset to."""
    v_reset, theta = np.asarray(node.v_reset, np.float64), above(_floating(node.v_threshold))
    integrates = not k.any()
    per_channel = [_per_channel(value) for value in (k, theta)]
    if (v_reset != v_reset.flat[0]).any() or any(v is None for v in per_channel) or not (theta > 0).all():
        return None
    if not integrates and (leak != v_reset).any():
        return None
    options: dict[str, Any] = {
        "v_reset": float(v_reset.flat[0]), "reset": _resets(node), "surrogate": surrogate, "threshold": 1.0,
    }  # fmt: skip
    made: IF | LIF
    if integrates and _near(gain, 1.0):
        made = IF(**options)
    elif not integrates and (_near(gain, k) or _near(gain, 1.0)):
        made = LIF(decay_input=_near(gain, k), **options)
        kept = per_channel[0]
        assert kept is not None
        made.register_buffer("_k", _tensor(kept), persistent=kept.ndim > 0)
    else:
        return None
    level = per_channel[1]
    assert level is not None
    made.register_buffer("threshold", _tensor(level), persistent=level.ndim > 0)
    return made


def _house_readout(k: Any, gain: Any, leak: Any) -> nn.Module | None:
    if (k == 0).any() or leak.any() or (k != k.flat[0]).any() or not _near(gain, 1.0):
        return None
    return LeakyReadout(max(1.0, 1 / float(k.flat[0])))


def _near(value: Any, other: Any) -> bool:
    return bool(np.allclose(value, other, rtol=_CLOSE, atol=0))


def _per_channel(value: Any) -> Any:
    """One number, one a channel (the first axis), or None."""
    if value.ndim == 0 or (value == value.flat[0]).all():
        return np.array(value.flat[0])
    rows = value.reshape(value.shape[0], -1)
    return np.array(rows[:, 0]) if (rows == rows[:, :1]).all() else None


def _current(name: str, node: Any, dt: float, surrogate: Any) -> nn.Module:
    """CubaLI and CubaLIF."""
    k_syn, k = _decay(name, node.tau_syn, dt), _decay(name, node.tau_mem, dt)
    weight, gain = k_syn * np.asarray(node.w_in, np.float64), k * np.asarray(node.r, np.float64)
    leak = np.asarray(node.v_leak, np.float64)
    fires = type(node).__name__ == "CubaLIF"
    house = _house_current(node, k_syn, k, weight, gain, leak, surrogate) if fires else None
    if house is not None:
        return house
    _only_hard(name, node)
    return LeakyCurrent(
        surrogate, keep_synapse=_tensor(k_syn), weight=_tensor(weight), keep=_tensor(k), gain=_tensor(gain),
        leak=_tensor(leak), threshold=_tensor(above(_floating(node.v_threshold))) if fires else None,
        v_reset=_tensor(node.v_reset) if fires else None,
    )  # fmt: skip


def _house_current(
    node: Any, k_syn: Any, k: Any, weight: Any, gain: Any, leak: Any, surrogate: Any
) -> nn.Module | None:
    v_reset, theta = np.asarray(node.v_reset, np.float64), above(_floating(node.v_threshold))
    one = [v for v in (k_syn, k, theta, v_reset) if (v != v.flat[0]).any()]
    if one or (leak != v_reset).any() or not _near(weight, 1.0) or not _near(gain, 1.0) or theta.flat[0] <= 0:
        return None
    if k_syn.flat[0] >= 1 or k.flat[0] >= 1:
        return None
    a, b = 1 - float(k_syn.flat[0]), 1 - float(k.flat[0])
    return CubaLIF(
        -1 / np.log(a), -1 / np.log(b), float(theta.flat[0]), float(v_reset.flat[0]), _resets(node),  # pyright: ignore[reportArgumentType]
        surrogate=surrogate,
    )  # fmt: skip


_BUILDERS: dict[str, Any] = {
    "Affine": _affine, "Linear": _affine, "Scale": _scale, "Conv1d": _convolution, "Conv2d": _convolution,
    "SumPool2d": _pool, "AvgPool2d": _pool, "Flatten": _flatten, "Delay": _delay, "Threshold": _threshold,
    "I": _neuron, "IF": _neuron, "LI": _neuron, "LIF": _neuron, "CubaLI": _current, "CubaLIF": _current,
}  # fmt: skip
