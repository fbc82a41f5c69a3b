"""The optimisers that the claims of SPAM compare, and one step of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

ADAM = Arm("adam", "Adam (β 0.9, 0.999)", {"kind": "adam"})
CLIPPED = Arm("adam_norm_clip", "Adam with the gradient norm clipped to 1", {"kind": "adam", "clip_norm": 1.0})
VALUE = Arm("adam_value_clip", "Adam with every gradient clipped to 0.001", {"kind": "adam", "clip_value": 1e-3})
CLIP_ONLY = Arm(
    "clip_only", "SPAM's clipping without its resets", {"kind": "spam", "bias_correction": "restart", "reset": False}
)
RESET_ONLY = Arm(
    "reset_only", "SPAM's resets without its clipping", {"kind": "spam", "bias_correction": "restart", "threshold": 0.0}
)
RESTART = Arm(
    "spam", "SPAM, bias correction restarted with the moments", {"kind": "spam", "bias_correction": "restart"}
)
PUBLISHED = Arm("spam_published", "SPAM as published: global bias correction", {"kind": "spam"})
STRICT = Arm(
    "spam_50", "SPAM with threshold 50 in place of 5000",
    {"kind": "spam", "bias_correction": "restart", "threshold": 50.0},
)  # fmt: skip
STABLE = Arm("stable_spam", "Stable-SPAM with counters of its own for its statistics", {"kind": "stable"})


def stepper(
    parameters: Iterable[Tensor], arm: Mapping[str, Any], lr: float, interval: int, warmup: int,
    gammas: tuple[float, float, float] = (0.7, 0.9, 0.999),
) -> tuple[Optimizer, Callable[[], None]]:  # fmt: skip
    """The optimiser of `arm`, and what makes one step with it (clipping included)."""
    import torch

    from ranvier.optim import SPAM, StableSPAM

    parameters = list(parameters)
    kind = arm["kind"]
    if kind == "adam":
        optimizer: Optimizer = torch.optim.Adam(parameters, lr=lr)
    elif kind == "stable":
        optimizer = StableSPAM(
            parameters, lr=lr, reset_interval=interval, gamma1=gammas[0], gamma2=gammas[1], gamma3=gammas[2]
        )
    else:
        optimizer = SPAM(
            parameters, lr=lr, reset_interval=interval if arm.get("reset", True) else 0, warmup_steps=warmup,
            threshold=arm.get("threshold", 5000.0), bias_correction=arm.get("bias_correction", "global"),
            guard_zero_v=arm.get("guard", True),
        )  # fmt: skip

    def step() -> None:
        if "clip_norm" in arm:
            torch.nn.utils.clip_grad_norm_(parameters, arm["clip_norm"])
        if "clip_value" in arm:
            torch.nn.utils.clip_grad_value_(parameters, arm["clip_value"])
        optimizer.step()

    return optimizer, step


def cosine(optimizer: Optimizer, lr: float, step: int, steps: int, least: float = 0.0) -> None:
    """Set the rate of step `step` (from 0) of a cosine from `lr` to `least` times it."""
    import math

    for group in optimizer.param_groups:
        group["lr"] = lr * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * step / steps)))
