"""The Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers, 8 kHz WAV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.archive import Archive, stamp
from ranvier.data.audio.log_mel import LogMel, fixed_length, resampled
from ranvier.data.audio.spikes import held_out_mask
from ranvier.data.audio.wav import read_wav
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import cache_key, keep, lookup
from ranvier.data.features import FrameSamples, frame_statistics
from ranvier.errors import ArgumentError, DataError

CLASSES = tuple("0123456789")
TEST_TAKES = 5  # of every digit and speaker, the first ones, as the data set's authors split it
_NAME = re.compile(r"(?:.*/)?([0-9])_([A-Za-z]+)_([0-9]+)\.wav")


@dataclass(frozen=True)
class Takes:
    """The recordings of an archive, sorted by speaker, digit and take."""

    archive: Archive
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    numbers: NDArray[np.int64]

    def sound(self, index: int) -> tuple[NDArray[np.float32], int]:
        """`(samples, rate)` of a recording."""
        name = self.names[index]
        return read_wav(self.archive.read(name), self.archive.where(name))

    def test(self, held_out: str | None) -> NDArray[np.bool_]:
        """Which recordings are for testing: the first takes, or all of the speakers that are held out."""
        return self.numbers < TEST_TAKES if held_out is None else held_out_mask(self.speakers, held_out)


def read_takes(archive: Archive) -> Takes:
    """Every `<digit>_<speaker>_<take>.wav` of the archive. Raises `DataError` when there are none."""
    found = [(match[2], int(match[1]), int(match[3]), name) for name in archive.members
             if (match := _NAME.fullmatch(name))]  # fmt: skip
    if not found:
        raise DataError(f"{archive.path}: holds no <digit>_<speaker>_<take>.wav; is this FSDD?")
    found.sort()
    return Takes(
        archive, tuple(name for *_, name in found), np.array([digit for _, digit, _, _ in found], np.int64),
        tuple(speaker for speaker, *_ in found), np.array([take for _, _, take, _ in found], np.int64),
    )  # fmt: skip


def load_fsdd(
    root: Path | None,
    path: str | None = None,
    held_out: str | None = None,
    seconds: float = 1.0,
    n_mels: int = 40,
    f_min: float = 50.0,
    f_max: float = 4000.0,
    normalize: bool = True,
) -> Parts:
    """Spoken digits as log-mel frames `[T, n_mels]`, one every 10 ms: 2,700 to train on and 300 to test.

    Read from `fsdd.zip` or a folder `fsdd` or `free-spoken-digit-dataset`, files `<digit>_<speaker>_<take>.wav`.

    Args:
        held_out: speakers, separated by commas, that are tested on and not trained on. None: takes 0 to 4 of everyone
            are the test, and the speakers are known.
        seconds: recordings are cut, or filled with silence, to this length.
        n_mels, f_min, f_max: of `ranvier.data.audio.LogMel`.
        normalize: every band with mean 0 and spread 1 over the training part; else decibels.
    """
    if not isinstance(seconds, int | float) or not 0.05 <= seconds <= 60:
        raise ArgumentError(f"seconds must lie between 0.05 and 60, got {seconds!r}")
    mel = LogMel(n_mels=n_mels, f_min=f_min, f_max=f_max)
    place = located("fsdd", root, path)
    key = cache_key(stamp(place), seconds, mel, 1)
    found = lookup("fsdd", key)
    takes = read_takes(Archive(place))
    if found is None:
        sounds = np.stack([_fitted(*takes.sound(i), mel.rate, seconds) for i in range(len(takes.names))])
        frames = np.concatenate([mel(sounds[i : i + 100]) for i in range(0, len(sounds), 100)])
        found = keep("fsdd", key, {"frames": frames}, {"content": takes.archive.content(takes.names)})
    arrays, notes = found
    test = takes.test(held_out)
    if test.all() or not test.any():
        raise DataError(f"{place}: has no recordings to {'train on' if test.all() else 'test on'}")
    train_part, test_part = np.flatnonzero(~test), np.flatnonzero(test)
    scale = frame_statistics(arrays["frames"][train_part]) if normalize else None
    labels = torch.from_numpy(takes.labels)
    frames = torch.from_numpy(np.asarray(arrays["frames"]))
    return Parts(
        FrameSamples(frames, labels, train_part, scale), FrameSamples(frames, labels, test_part, scale), CLASSES,
        notes["content"],
    )  # fmt: skip


def _fitted(sound: NDArray[np.float32], rate: int, target: int, seconds: float) -> NDArray[np.float32]:
    return fixed_length(resampled(sound, rate, target), round(seconds * target))


def find_fsdd(root: Path | None) -> Path | None:
    """Where the recordings are below `root`."""
    return first_existing(
        root, "fsdd", "FSDD", "fsdd.zip", "free-spoken-digit-dataset", "free-spoken-digit-dataset.zip"
    )


DATASETS.register("fsdd")(
    DatasetEntry(
        kind="sequence", load=load_fsdd, find=find_fsdd,
        how="Put the recordings of the Free Spoken Digit Dataset, <digit>_<speaker>_<take>.wav, into <data "
        "folder>/fsdd or fsdd.zip.",
    )
)  # fmt: skip
