"""Trust: scores, alarms, fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranvier.loop.trust.auroc import auroc
from ranvier.loop.trust.cusum import Cusum
from ranvier.loop.trust.fsm import FallbackFSM
from ranvier.loop.trust.lora import LoraLinear
from ranvier.loop.trust.monitor import Calibration, TrustMonitor, Watch
from ranvier.loop.trust.scores import LikelihoodRegret, Mahalanobis, ResidualScore
from ranvier.loop.trust.spsa import spsa_ascend, spsa_gradient
from ranvier.loop.trust.vae import Vae, fit_vae

if TYPE_CHECKING:
    from ranvier.loop.trust.calibration import adapt, calibrate

__all__ = [
    "Calibration", "Cusum", "FallbackFSM", "LikelihoodRegret", "LoraLinear", "Mahalanobis", "ResidualScore",
    "TrustMonitor", "Vae", "Watch", "adapt", "auroc", "calibrate", "fit_vae", "spsa_ascend", "spsa_gradient",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("adapt", "calibrate"):  # they run the loop, which itself imports this room
        from ranvier.loop.trust import calibration

        return getattr(calibration, name)
    raise AttributeError(f"module 'ranvier.loop.trust' has no attribute {name!r}")
