"""Processes of a run that Python starts anew."""

from __future__ import annotations

from ranvier.extras import only_version_of

with only_version_of("torchmetrics"):
    from lightning_fabric.strategies.launchers.multiprocessing import _MultiProcessingLauncher


class Launcher(_MultiProcessingLauncher):
    """Fabric's. A spawned process that unpickles it imports this file first, so Fabric without all of torchmetrics."""
