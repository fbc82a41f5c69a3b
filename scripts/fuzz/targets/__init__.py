"""Every reader of files, packets and documents, with sound files for it."""

from __future__ import annotations

from fuzz.harness import Target
from fuzz.targets import arrays, documents, layouts, nets, recordings

TARGETS: tuple[Target, ...] = (
    *arrays.TARGETS, *recordings.TARGETS, *layouts.TARGETS, *documents.TARGETS, *nets.TARGETS,
)  # fmt: skip
