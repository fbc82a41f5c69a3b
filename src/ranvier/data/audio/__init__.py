"""Sound: WAV files, log-mel frames, and spike recordings in the layout of the Heidelberg data sets."""

from __future__ import annotations

from ranvier.data.audio.bins import BINNINGS, Binning, SpikeSamples, frame_counts
from ranvier.data.audio.log_mel import LogMel
from ranvier.data.audio.spike_file import read_spike_file, write_spike_file
from ranvier.data.audio.spikes import SpikeRecordings
from ranvier.data.audio.wav import read_wav

__all__ = [
    "BINNINGS", "Binning", "LogMel", "SpikeRecordings", "SpikeSamples", "frame_counts", "read_spike_file", "read_wav",
    "write_spike_file",
]  # fmt: skip
