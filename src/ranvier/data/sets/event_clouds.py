"""Event recordings as clouds of points: N-MNIST, folders of recordings, and DVS128 Gesture."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.archive import Archive, stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import Arrays, Notes, cache_key, keep, lookup
from ranvier.data.events import Events, read_aedat3, read_events, sliding_windows, to_cloud
from ranvier.data.events.files import SUFFIXES
from ranvier.data.points.samples import CloudSamples
from ranvier.data.samples import Indices, Samples, subset
from ranvier.data.sets import nmnist
from ranvier.errors import ArgumentError, DataError

Size = tuple[int, int]
_SPLITS = ("train", "test")
GESTURES = (
    "hand_clap", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise",
    "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other",
)  # fmt: skip


def windows_as_clouds(
    recordings: Iterable[tuple[Events, int, Size]],
    points: int,
    window: float | None,
    hop: float | None,
    min_events: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Clouds `[n, points, 3]`, labels and recording numbers of all windows of `(events, label, sensor size)`.

    `window` None takes a recording whole. Which events are drawn depends on the recording's and window's numbers alone.
    """
    clouds: list[NDArray[np.float32]] = []
    labels: list[int] = []
    numbers: list[int] = []
    for number, (events, label, size) in enumerate(recordings):
        parts = [events] if window is None else sliding_windows(events, window, hop or window, min_events)
        for place, part in enumerate(parts):
            if len(part) < max(1, min_events):
                continue
            generator = torch.Generator().manual_seed(number * 100_003 + place)
            clouds.append(to_cloud(part, points, size, generator).numpy())
            labels.append(label)
            numbers.append(number)
    if not clouds:
        raise DataError(f"no recording has a window of {min_events} events or more; lower min_events or window")
    return np.stack(clouds), np.array(labels, np.int64), np.array(numbers, np.int64)


def recordings_of(dataset: Sequence[Any], sensor_size: Size) -> Iterator[tuple[Events, int, Size]]:
    """The recordings of any data set of `(structured array with t, x, y, p, label)`, such as those of tonic."""
    for i in range(len(dataset)):
        array, label = dataset[i]
        events = array if isinstance(array, Events) else Events.from_structured(np.asarray(array))
        yield events, int(label), sensor_size


def vote(predictions: Sequence[int], recordings: Sequence[int]) -> dict[int, int]:
    """The decision for every recording: what most of its windows say, ties to the lower class."""
    if len(predictions) != len(recordings):
        raise ArgumentError(
            f"predictions and recordings must be equally many, got {len(predictions)} and {len(recordings)}"
        )
    votes: dict[int, dict[int, int]] = {}
    for prediction, recording in zip(predictions, recordings, strict=True):
        own = votes.setdefault(int(recording), {})
        own[int(prediction)] = own.get(int(prediction), 0) + 1
    return {recording: min(own, key=lambda c: (-own[c], c)) for recording, own in votes.items()}


def _check(points: int, window: float | None, hop: float | None) -> None:
    if not isinstance(points, int) or points < 1:
        raise ArgumentError(f"points must be a positive integer, got {points!r}")
    if (window is None and hop is not None) or any(v is not None and not v > 0 for v in (window, hop)):
        raise ArgumentError(
            f"window and hop must be positive seconds (hop only with a window), got {window!r}, {hop!r}"
        )


class _RecordedClouds(CloudSamples):
    """Clouds that know the recording each was cut from."""

    def __init__(self, arrays: Arrays, split: str) -> None:
        super().__init__(torch.from_numpy(arrays[split]), torch.from_numpy(arrays[f"{split}_labels"]))
        self.recordings = torch.from_numpy(arrays[f"{split}_recordings"])

    def batch(self, indices: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        return super().batch(indices)


def _parts(found: tuple[Arrays, Notes]) -> Parts:
    arrays, notes = found
    train, test = (_RecordedClouds(arrays, split) for split in _SPLITS)
    return Parts(train, test, tuple(notes["classes"]), notes["content"])


def _kept(name: str, key: str, splits: dict[str, Any], notes: Notes) -> tuple[Arrays, Notes]:
    arrays: Arrays = {}
    for split, (clouds, labels, numbers) in splits.items():
        arrays |= {split: clouds, f"{split}_labels": labels, f"{split}_recordings": numbers}
    return keep(name, key, arrays, notes)


def load_nmnist_clouds(root: Path | None, path: str | None = None, points: int = 256) -> Parts:
    """N-MNIST (see `nmnist`) as clouds `[points, 3]` of (x, y, time), one a recording."""
    _check(points, None, None)
    place = located("nmnist", root, path)
    key = cache_key(stamp(place), points, 1)
    found = lookup("nmnist_clouds", key)
    if found is None:
        bundle = nmnist.load_nmnist(root, path, in_memory=False)
        splits: dict[str, Any] = {}
        for split, samples in zip(_SPLITS, (bundle.train, bundle.test), strict=True):
            assert isinstance(samples, nmnist.RecordingSamples)
            recordings = ((samples.events(i), int(samples.labels[i]), nmnist.SENSOR) for i in range(len(samples)))
            splits[split] = windows_as_clouds(recordings, points, None, None, 1)
        found = _kept("nmnist_clouds", key, splits, {"classes": list("0123456789"), "content": bundle.content})
    return _parts(found)


def load_event_folder(
    root: Path | None,
    path: str | None = None,
    points: int = 1024,
    window: float | None = None,
    hop: float | None = None,
    min_events: int = 1,
    test_share: float = 0.2,
    sensor: tuple[int, int] | None = None,
) -> Parts:
    """Recordings in folders of classes as clouds: `<class>/<recording>`, or `train/<class>/...` and `test/<class>/...`.

    Files as in `ranvier.data.events.read_events`. Without folders train and test, a share of the recordings of each
    class is the test part: recordings are split before windows are cut, so that no window of a test recording trains.

    Args:
        window, hop: seconds; None takes each recording whole.
        min_events: windows with fewer are left out.
        sensor: (height, width), by default what the files say.
    """
    _check(points, window, hop)
    if not 0 < test_share < 1:
        raise ArgumentError(f"test_share must lie between 0 and 1, got {test_share!r}")
    place = located("event_folder", root, path)
    if not place.is_dir():
        raise DataError(f"{place}: is not a folder of recordings")
    key = cache_key(stamp(place), points, window, hop, min_events, test_share, sensor, 1)
    found = lookup("event_folder", key)
    if found is None:
        names = _folder(place, test_share)
        classes = sorted({path.parent.name for paths in names.values() for path in paths})
        splits: dict[str, Any] = {}
        for split, paths in names.items():
            read = ((p, read_events(p)) for p in paths)
            recordings = ((events, classes.index(p.parent.name), sensor or size) for p, (events, size) in read)
            splits[split] = windows_as_clouds(recordings, points, window, hop, min_events)
        found = _kept("event_folder", key, splits, {"classes": classes, "content": stamp(place)})
    return _parts(found)


def _folder(place: Path, test_share: float) -> dict[str, list[Path]]:
    def below(folder: Path) -> list[Path]:
        return sorted(p for p in folder.glob("*/*") if p.suffix in SUFFIXES and p.is_file())

    if (place / "train").is_dir() and (place / "test").is_dir():
        names = {split: below(place / split) for split in _SPLITS}
    else:
        names: dict[str, list[Path]] = {"train": [], "test": []}
        for folder in sorted(p for p in place.iterdir() if p.is_dir()):
            own = sorted(
                (p for p in folder.iterdir() if p.suffix in SUFFIXES),
                key=lambda p: (zlib.crc32(p.name.encode()), p.name),
            )
            held = max(1, round(len(own) * test_share)) if len(own) > 1 else 0
            names["test"] += sorted(own[:held])
            names["train"] += sorted(own[held:])
    for split, paths in names.items():
        if not paths:
            raise DataError(f"{place}: has no recordings for the {split} part in <class>/<recording>")
    return names


def load_dvs_gesture(
    root: Path | None,
    path: str | None = None,
    points: int = 1024,
    window: float = 0.5,
    hop: float = 0.25,
    min_events: int = 100,
    classes: int = 10,
) -> Parts:
    """DVS128 Gesture (Amir et al., CVPR 2017) as clouds of windows; subjects 1 to 23 train, 24 to 29 test.

    The official layout: `user01_fluorescent.aedat` with `user01_fluorescent_labels.csv`, in a folder or zip; where
    `trials_to_train.txt` and `trials_to_test.txt` lie beside, they say which recordings belong to which part.

    Args:
        classes: 10 leaves "other" out, 11 keeps it.
    """
    _check(points, window, hop)
    if classes not in (10, 11):
        raise ArgumentError(f"classes must be 10 or 11, got {classes!r}")
    place = located("dvs_gesture", root, path)
    key = cache_key(stamp(place), points, window, hop, min_events, classes, 1)
    found = lookup("dvs_gesture", key)
    if found is None:
        archive = Archive(place)
        names = _trials(archive)
        splits = {
            split: windows_as_clouds(_gestures(archive, names[split], classes), points, window, hop, min_events)
            for split in _SPLITS
        }
        content = archive.content([*names["train"], *names["test"]])
        found = _kept("dvs_gesture", key, splits, {"classes": list(GESTURES[:classes]), "content": content})
    return _parts(found)


def _trials(archive: Archive) -> dict[str, list[str]]:
    recordings = {name.rpartition("/")[2]: name for name in archive.members if name.endswith(".aedat")}
    names: dict[str, list[str]] = {"train": [], "test": []}
    for split in _SPLITS:
        listing = next((n for n in archive.members if n.endswith(f"trials_to_{split}.txt")), None)
        if listing is not None:
            for line in archive.read(listing).decode("ascii", errors="replace").split():
                if line not in recordings:
                    raise DataError(f"{archive.where(listing)}: names {line}, which is not there")
                names[split].append(recordings[line])
        else:
            for base, name in sorted(recordings.items()):
                subject = base[4:6]
                if not base.startswith("user") or not subject.isdigit():
                    raise DataError(f"{archive.where(name)}: is not called user<number>_<light>.aedat")
                if (int(subject) <= 23) == (split == "train"):
                    names[split].append(name)
        if not names[split]:
            raise DataError(f"{archive.path}: has no recordings for the {split} part")
    return names


def _gestures(archive: Archive, names: Sequence[str], classes: int) -> Iterator[tuple[Events, int, Size]]:
    for name in names:
        events = read_aedat3(archive.read(name), archive.where(name))
        listing = name.removesuffix(".aedat") + "_labels.csv"
        if listing not in archive.members:
            raise DataError(f"{archive.where(name)}: its labels {listing} are not there")
        text = archive.read(listing).decode("ascii", errors="replace")
        for row in csv.DictReader(text.splitlines()):
            try:
                label, start, stop = int(row["class"]), int(row["startTime_usec"]), int(row["endTime_usec"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{archive.where(listing)}: is not a table of class, startTime_usec, endTime_usec"
                ) from error
            if not 1 <= label <= len(GESTURES):
                raise DataError(f"{archive.where(listing)}: has the unknown class {label}")
            if label > classes:
                continue
            a, b = np.searchsorted(events.t, [start, stop])
            yield events[int(a) : int(b)], label - 1, (128, 128)


def by_recording(samples: Samples, test_share: float, seed: int = 0) -> tuple[Samples, Samples]:
    """Split clouds that know their recordings so that all windows of a recording are on one side."""
    from ranvier.data.order import permutation

    recordings = getattr(samples, "recordings", None)
    if recordings is None or not 0 < test_share < 1:
        raise ArgumentError("samples must know their recordings, and test_share must lie between 0 and 1")
    distinct = np.unique(recordings.numpy())
    order = permutation(len(distinct), seed)
    held = distinct[order[: max(1, round(len(distinct) * test_share))]]
    mask = np.isin(recordings.numpy(), held)
    return subset(samples, np.flatnonzero(~mask)), subset(samples, np.flatnonzero(mask))


for _name, _load, _places, _how in (
    ("event_folder", load_event_folder, ("event_folder", "events_by_class"),
     "Put recordings into <data folder>/event_folder/<class>/ (.raw, .aedat4, .dat, .es, .csv, .npy, .npz, .aedat)."),
    ("dvs_gesture", load_dvs_gesture, ("DvsGesture", "DVS128Gesture", "dvs_gesture", "DvsGesture.zip"),
     "Unpack the official DvsGesture archive into <data folder>/DvsGesture."),
):  # fmt: skip
    DATASETS.register(_name)(
        DatasetEntry(
            kind="points", load=_load, find=lambda root, places=_places: first_existing(root, *places), how=_how
        )
    )
DATASETS.register("nmnist_clouds")(
    DatasetEntry(
        kind="points", load=load_nmnist_clouds, find=nmnist._find,
        how="Unpack the official Train.zip and Test.zip of N-MNIST into <data folder>/N-MNIST.",
    )
)  # fmt: skip
