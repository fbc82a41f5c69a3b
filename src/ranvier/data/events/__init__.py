"""Event streams: the container, and binning into frames."""

from __future__ import annotations

from ranvier.data.events.files import read_aedat3, read_events
from ranvier.data.events.frames import to_frames
from ranvier.data.events.stream import EVENT_DTYPE, Events
from ranvier.data.events.windows import CloudAugment, sliding_windows, to_cloud

__all__ = [
    "EVENT_DTYPE",
    "CloudAugment",
    "Events",
    "read_aedat3",
    "read_events",
    "sliding_windows",
    "to_cloud",
    "to_frames",
]  # fmt: skip
