"""Event streams: the container, and binning into frames."""

from __future__ import annotations

from ranvier.data.events.frames import to_frames
from ranvier.data.events.stream import EVENT_DTYPE, Events

__all__ = ["EVENT_DTYPE", "Events", "to_frames"]
