"""What the options of the optimisers may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.optim.finite import POLICIES
from ranvier.optim.masks import STRATEGIES

Rule = tuple[Callable[[Any], bool], str]


def _number(valid: Callable[[float], bool], expected: str) -> Rule:
    return lambda x: _is_number(x) and math.isfinite(float(x)) and valid(float(x)), expected


def _is_number(x: Any) -> bool:
    return (isinstance(x, int | float) and not isinstance(x, bool)) or (isinstance(x, Tensor) and x.numel() == 1)


def _whole(least: int) -> Rule:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= least, f"an integer of at least {least}"


def _one_of(*names: str) -> Rule:
    return lambda x: x in names, f"one of {', '.join(names)}"


_RATE = _number(lambda x: 0 <= x < 1, "a number in [0, 1)")
_NONNEGATIVE = _number(lambda x: x >= 0, "a number of at least 0")
_SHARED: dict[str, Rule] = {
    "lr": _NONNEGATIVE,
    "betas": (
        lambda x: isinstance(x, tuple | list) and len(x) == 2 and all(_RATE[0](b) for b in x),
        "two numbers in [0, 1)",
    ),
    "eps": _NONNEGATIVE,
    "weight_decay": _NONNEGATIVE,
    "reset_interval": _whole(0),
    "nan_policy": _one_of(*POLICIES),
    "state_dtype": (lambda x: x is None or (isinstance(x, torch.dtype) and x.is_floating_point), "a floating dtype"),
}
SPAM_RULES: dict[str, Rule] = {
    **_SHARED,
    "threshold": _NONNEGATIVE,
    "warmup_steps": _whole(0),
    "grace_steps": _whole(0),
    "density": _number(lambda x: 0 < x <= 1, "a number in (0, 1]"),
    "min_ndim": _whole(0),
    "mask_strategy": (lambda x: callable(x) or x in STRATEGIES, f"one of {', '.join(STRATEGIES)}, or a function"),
    "bias_correction": _one_of("global", "restart"),
    "clip_mode": _one_of("clip", "zero"),
    "threshold_on": _one_of("raw", "corrected"),
    "seed": _whole(0),
}
STABLE_RULES: dict[str, Rule] = {
    **_SHARED,
    "gamma1": _RATE,
    "gamma2": _RATE,
    "gamma3": _RATE,
    "eta_min": _number(lambda x: 0 <= x <= 1, "a number in [0, 1]"),
    "total_steps": (lambda x: x is None or _whole(1)[0](x), "None or an integer of at least 1"),
}


def check_options(rules: Mapping[str, Rule], given: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` for the first value in `given` that breaks its rule."""
    for name, value in given.items():
        if name in rules and not rules[name][0](value):
            raise ArgumentError(f"{name} must be {rules[name][1]}, got {value!r}")


def work_dtype(p: Tensor, asked: torch.dtype | None) -> torch.dtype:
    """The dtype of the moments of `p`: the one asked for, else its own, float32 for half precision."""
    if asked is not None:
        return asked
    return torch.float32 if p.dtype in (torch.float16, torch.bfloat16) else p.dtype
