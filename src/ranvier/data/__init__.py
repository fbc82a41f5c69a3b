"""Data sets, batches in a reproducible order, event binning and augmentation."""

from __future__ import annotations

from ranvier.data import audio, events, motion, points, scenes, sets, targets, text
from ranvier.data.augment import Augment
from ranvier.data.bundle import (
    DATASETS,
    DataBundle,
    DatasetEntry,
    DatasetInfo,
    Parts,
    build,
    data_root,
    list_datasets,
    load,
)
from ranvier.data.events import Events, to_frames
from ranvier.data.loader import Batches, loader
from ranvier.data.samples import ArraySamples, Samples, subset
from ranvier.data.split import split_validation

__all__ = [
    "DATASETS", "ArraySamples", "Augment", "Batches", "DataBundle", "DatasetEntry", "DatasetInfo", "Events", "Parts",
    "Samples", "audio", "build", "data_root", "events", "list_datasets", "load", "loader", "motion", "points",
    "scenes", "sets", "split_validation", "subset", "targets", "text", "to_frames",
]  # fmt: skip
