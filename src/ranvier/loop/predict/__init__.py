"""Perception: memory of echoes and the network that fills in what was not sensed."""

from __future__ import annotations

from ranvier.loop.predict.masking import radial_mask
from ranvier.loop.predict.persistence import Belief, PersistenceMap, Work
from ranvier.loop.predict.plain import NoMemory
from ranvier.loop.predict.radial_mae import SpikingRadialMAE
from ranvier.loop.predict.radial_net import RadialNet

__all__ = ["Belief", "NoMemory", "PersistenceMap", "RadialNet", "SpikingRadialMAE", "Work", "radial_mask"]
