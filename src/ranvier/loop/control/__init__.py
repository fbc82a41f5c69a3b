"""Controllers: gap following, linear-quadratic, Koopman."""

from __future__ import annotations

from ranvier.loop.control.gap_follow import Command, GapFollow
from ranvier.loop.control.koopman import SpectralKoopman, fit_koopman
from ranvier.loop.control.lqr import lqr

__all__ = ["Command", "GapFollow", "SpectralKoopman", "fit_koopman", "lqr"]
