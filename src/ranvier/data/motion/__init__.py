"""Event streams of natural images that move along known trajectories."""

from __future__ import annotations

from ranvier.data.motion.clouds import MotionClouds
from ranvier.data.motion.photographs import photographs, read_images
from ranvier.data.motion.sensor import EventSensor
from ranvier.data.motion.stimuli import Movie, NaturalMotion
from ranvier.data.motion.window import shift, whiten

__all__ = ["EventSensor", "MotionClouds", "Movie", "NaturalMotion", "photographs", "read_images", "shift", "whiten"]
