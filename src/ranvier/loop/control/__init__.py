"""Controllers: gap following, linear-quadratic, Koopman, fine-tuned on the task."""

from __future__ import annotations

from ranvier.loop.control.actor_critic import Tuning, fine_tune
from ranvier.loop.control.gap_follow import Command, GapFollow
from ranvier.loop.control.koopman import SpectralKoopman, fit_koopman
from ranvier.loop.control.lqr import lqr
from ranvier.loop.control.spiking_controller import SpikingController, imitate

__all__ = [
    "Command", "GapFollow", "SpectralKoopman", "SpikingController", "Tuning", "fine_tune", "fit_koopman", "imitate",
    "lqr",
]  # fmt: skip
