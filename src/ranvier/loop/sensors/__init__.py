"""Sensors: LiDAR on demand, event camera, ring of event pixels, and their faults."""

from __future__ import annotations

from ranvier.loop.sensors import faults
from ranvier.loop.sensors.event_camera import CameraEvents, EventCamera
from ranvier.loop.sensors.lidar import LidarBeams, Scan
from ranvier.loop.sensors.ring import RingDVS, RingEvents

__all__ = ["CameraEvents", "EventCamera", "LidarBeams", "RingDVS", "RingEvents", "Scan", "faults"]
