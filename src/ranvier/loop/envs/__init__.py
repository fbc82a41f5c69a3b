"""Worlds: navigation among discs, balancing before an event camera, linear plants."""

from __future__ import annotations

from ranvier.loop.envs.event_control import EventControl
from ranvier.loop.envs.lidar_nav import LidarNav2D
from ranvier.loop.envs.plant import LTIPlant

__all__ = ["EventControl", "LTIPlant", "LidarNav2D"]
