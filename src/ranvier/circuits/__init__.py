"""Recurrent circuits that adapt: gain control for efficient coding, and whitening by gain-modulated interneurons."""

from __future__ import annotations

from ranvier.circuits.analysis import (
    Effects,
    average_response,
    covariance_distance,
    effects,
    peaks,
    signal_correlation,
    signal_covariance,
    tuning_shift,
    variation,
    width,
)
from ranvier.circuits.objective import GainObjective
from ranvier.circuits.online import adapt, gain_step
from ranvier.circuits.orientation import (
    TunedPopulation,
    orientation_ensemble,
    orientation_network,
    orientation_weights,
    stimulus_grid,
    uniform_ensemble,
)
from ranvier.circuits.recordings import Recordings, fit, load_recordings, model_tuning, synthetic_recordings
from ranvier.circuits.recurrent import LinearRecurrent, circulant, is_circulant
from ranvier.circuits.whitening import (
    FrameWhitening,
    MultiTimescaleWhitening,
    conv_frame,
    equiangular_frame,
    mercedes_frame,
    random_frame,
)

__all__ = [
    "Effects", "FrameWhitening", "GainObjective", "LinearRecurrent", "MultiTimescaleWhitening", "Recordings",
    "TunedPopulation", "adapt", "average_response", "circulant", "conv_frame", "covariance_distance", "effects",
    "equiangular_frame", "fit", "gain_step", "is_circulant", "load_recordings", "mercedes_frame", "model_tuning",
    "orientation_ensemble", "orientation_network", "orientation_weights", "peaks", "random_frame", "signal_correlation",
    "signal_covariance", "stimulus_grid", "synthetic_recordings", "tuning_shift", "uniform_ensemble", "variation",
    "width",
]  # fmt: skip
