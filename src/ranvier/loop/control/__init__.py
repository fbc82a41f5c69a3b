"""Controllers: gap following, linear-quadratic, Koopman."""

from __future__ import annotations

from ranvier.loop.control.gap_follow import Command, GapFollow
from ranvier.loop.control.koopman import SpectralKoopman, fit_koopman
from ranvier.loop.control.lqr import lqr
from ranvier.loop.control.spiking_controller import SpikingController, imitate

__all__ = ["Command", "GapFollow", "SpectralKoopman", "SpikingController", "fit_koopman", "imitate", "lqr"]
