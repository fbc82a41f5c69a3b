"""Scenes that are rendered from real handwritten digits, with a mask, boxes or labelled points."""

from __future__ import annotations

from ranvier.data.scenes.clouds import CloudScene, cloud_scene
from ranvier.data.scenes.glyphs import Glyphs, glyphs
from ranvier.data.scenes.images import ImageScene, image_scene

__all__ = ["CloudScene", "Glyphs", "ImageScene", "cloud_scene", "glyphs", "image_scene"]
