"""Google Speech Commands (version 0.02): one-second recordings of 35 words, with the official lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.archive import Archive, stamp
from ranvier.data.audio.log_mel import LogMel, fixed_length, resampled
from ranvier.data.audio.wav import read_wav
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import Arrays, cache_key, keep, lookup
from ranvier.data.features import FrameSamples, Scale, frame_statistics, standardised
from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ArgumentError, DataError

IN_MEMORY_BYTES = 2 << 30  # of frames; more are computed batch by batch
RATE = 16_000
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_SPLITS = ("train", "validation", "test")
_WORD = re.compile(r"[A-Za-z]+")


class CommandSamples(Samples):
    """Recordings that stay in their files and become frames when asked for."""

    def __init__(
        self, archive: Archive, names: list[str], labels: Tensor, mel: LogMel, scale: Scale | None = None
    ) -> None:
        self.archive, self.names, self.labels, self.mel, self.scale = archive, names, labels, mel, scale
        self.time_first = True

    def frames(self, index: list[int]) -> NDArray[np.float32]:
        """Decibels `[B, T, n_mels]`: padded or cut to one second, then brought to the rate of the front end."""
        sounds = np.zeros((len(index), RATE), np.float32)
        for row, i in enumerate(index):
            where = self.archive.where(self.names[i])
            sound, rate = read_wav(self.archive.read(self.names[i]), where)
            if rate != RATE:
                raise DataError(f"{where}: has {rate} samples a second, expected {RATE}")
            sounds[row] = fixed_length(sound, RATE)
        return self.mel(resampled(sounds, RATE, self.mel.rate))

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        if not len(index):
            return torch.zeros(self.mel.frames(self.mel.rate), 0, self.mel.n_mels), self.labels[index]
        x = torch.from_numpy(self.frames(index.tolist())).transpose(0, 1).contiguous()
        return standardised(x, self.scale), self.labels[index]


def load_gsc(
    root: Path | None,
    path: str | None = None,
    n_mels: int = 140,
    f_min: float = 50.0,
    f_max: float = 14000.0,
    normalize: bool = False,
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """Spoken words as log-mel frames `[101, n_mels]`, one every 10 ms (Warden 2018, arXiv 1804.03209).

    Read from class folders of WAV files with `validation_list.txt` and `testing_list.txt` beside them, in a folder or
    zip at `path`, or called `speech_commands_v0.02`, `GSC` or `gsc`. What no list names is for training.

    The front end is that of the published experiments with learned delays: 8 kHz, 140 bands up to 14 kHz, decibels,
    not normalised. With it 53 bands lie above half the sampling rate and stay at −100 dB.

    Args:
        n_mels, f_min, f_max: of `ranvier.data.audio.LogMel`.
        normalize: every band with mean 0 and spread 1 over (1,000 of) the training recordings; else decibels.
        in_memory: compute all frames once (and keep them in the cache), or every batch anew; "auto" decides by the size
            of the frames, 2 GiB.
    """
    if in_memory not in (True, False, "auto"):
        raise ArgumentError(f"in_memory must be true, false or 'auto', got {in_memory!r}")
    mel = LogMel(n_mels=n_mels, f_min=f_min, f_max=f_max)
    archive = Archive(located("gsc", root, path))
    names, labels, classes = _layout(archive)
    lazy = {s: CommandSamples(archive, names[s], torch.tensor(labels[s], dtype=torch.int64), mel) for s in _SPLITS}
    size = sum(map(len, names.values())) * mel.frames(mel.rate) * n_mels * 4
    held = in_memory is True or (in_memory == "auto" and size <= IN_MEMORY_BYTES)
    every = [name for s in _SPLITS for name in names[s]]
    parts: dict[str, Samples] = dict(lazy)
    found = None
    if held:
        key = cache_key(stamp(archive.path), mel, 1)
        found = lookup("gsc", key) or keep("gsc", key, _computed(lazy), {"content": archive.content(every)})
        frames = {s: torch.from_numpy(np.asarray(found[0][s])) for s in _SPLITS}
        scale = _scale(lazy["train"]) if normalize else None
        parts = {s: FrameSamples(frames[s], lazy[s].labels, np.arange(len(lazy[s])), scale) for s in _SPLITS}
    elif normalize:
        scale = _scale(lazy["train"])
        for samples in lazy.values():
            samples.scale = scale
    content = found[1]["content"] if found else archive.content(every, read=False)
    return Parts(parts["train"], parts["test"], classes, content, validation=parts["validation"])


def _computed(lazy: dict[str, CommandSamples]) -> Arrays:
    arrays: Arrays = {}
    for split, samples in lazy.items():
        frames = np.empty((len(samples), samples.mel.frames(samples.mel.rate), samples.mel.n_mels), np.float32)
        for start in range(0, len(samples), 100):
            frames[start : start + 100] = samples.frames(list(range(start, min(start + 100, len(samples)))))
        arrays[split] = frames
    return arrays


def _scale(train: CommandSamples) -> Scale:
    some = np.linspace(0, len(train) - 1, min(1000, len(train))).astype(int).tolist()
    return frame_statistics(np.concatenate([train.frames(some[i : i + 100]) for i in range(0, len(some), 100)]))


def _layout(archive: Archive) -> tuple[dict[str, list[str]], dict[str, list[int]], tuple[str, ...]]:
    listed: dict[str, str] = {}
    for split, file in _LISTS.items():
        if file not in archive.members:
            raise DataError(f"{archive.path}: has no {file}; the official archive has it beside the class folders")
        lines: list[Any] = archive.read(file).decode("utf-8", "replace").split()
        for line in lines:
            if line not in archive.members:
                raise DataError(f"{archive.where(file)}: names {line!r}, which is not there")
            if listed.setdefault(line, split) != split:
                raise DataError(f"{archive.path}: {line!r} is in both lists, of validation and of testing")
    names: dict[str, list[str]] = {s: [] for s in _SPLITS}
    for name in archive.members:
        word, _, file = name.partition("/")
        if file.endswith(".wav") and "/" not in file and _WORD.fullmatch(word):  # not _background_noise_
            names[listed.get(name, "train")].append(name)
    for split, found in names.items():
        if not found:
            raise DataError(f"{archive.path}: has no recordings <word>/<name>.wav for {split}")
    classes = tuple(sorted({name.partition("/")[0] for part in names.values() for name in part}))
    rank = {word: i for i, word in enumerate(classes)}
    return names, {s: [rank[name.partition("/")[0]] for name in names[s]] for s in _SPLITS}, classes


def _find(root: Path | None) -> Path | None:
    names = ("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02", "GSC", "gsc", "speech_commands")
    return first_existing(root, *names, *(f"{name}.zip" for name in names))


DATASETS.register("gsc")(
    DatasetEntry(
        kind="sequence", load=load_gsc, find=_find,
        how="Unpack the official speech_commands_v0.02.tar.gz into <data folder>/speech_commands_v0.02.",
    )
)  # fmt: skip
