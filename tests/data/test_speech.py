"""Sound and speech: WAV files, log-mel, Speech Commands, spoken digits and their spikes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.sound import wav

from ranvier.data import build, load, loader
from ranvier.data.audio import LogMel, read_spike_file, read_wav
from ranvier.data.sets import fsdd_spikes
from ranvier.errors import ArgumentError, DataError


def test_wav_files_are_read_whole_or_not_at_all() -> None:
    samples = np.linspace(-0.5, 0.5, 400)
    whole = wav(samples, 11_025)
    read, rate = read_wav(whole, "a.wav")
    assert rate == 11_025 and read.dtype == np.float32
    np.testing.assert_allclose(read, samples, atol=1 / 32768)
    for data, said in (
        (whole[:-2], "is cut off: 800 bytes of samples declared, 798 are there"),
        (whole[:30], "without samples, or cut off"),
        (b"", "is not a WAV file"),
        (b"RIFF" + bytes(30), "is not a WAV file"),
        (wav(np.zeros((9, 2))), "has 2 channels"),
        (wav(np.zeros(0)), "holds no samples"),
        (whole[:20] + b"\xff\xff" + whole[22:], "cannot be decoded"),
    ):
        with pytest.raises(DataError, match=f"a.wav: .*{said}"):
            read_wav(data, "a.wav")


# log-mel


def test_the_published_front_end_has_53_dead_bands() -> None:
    bank = LogMel().bank()
    dead = np.flatnonzero(bank.sum(0) == 0)
    assert bank.shape == (129, 140)
    assert dead[dead >= 87].tolist() == list(range(87, 140))
    assert LogMel().frames(8000) == 101


def test_log_mel_of_a_tone_and_of_silence() -> None:
    mel = LogMel(n_mels=40, f_max=4000)
    t = np.arange(8000) / 8000
    frames = mel(np.stack([np.sin(2 * np.pi * 1000 * t), np.zeros(8000)]).astype(np.float32))
    assert frames.shape == (2, 101, 40) and frames.dtype == np.float32
    assert (frames[1] == -100).all()
    centre = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + f / 700) for f in (50, 4000)), 42)[1:-1] / 2595) - 1)
    assert (frames[0, 5:-5].argmax(1) == np.abs(centre - 1000).argmin()).all()
    power = 10 ** (mel(np.sin(2 * np.pi * 1000 * t)[None].astype(np.float32))[0, 50] / 10)
    window = np.hanning(257)[:-1]
    segment = np.sin(2 * np.pi * 1000 * (np.arange(256) + 80 * 50 - 128) / 8000)
    np.testing.assert_allclose(power, np.abs(np.fft.rfft(segment * window)) ** 2 @ mel.bank(), rtol=1e-3, atol=1e-6)


# gsc


@pytest.fixture
def gsc_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data/speech_commands_v0.02"
    for word in ("bed", "cat", "_background_noise_"):
        (folder / word).mkdir(parents=True)
        for i in range(5):
            length = 16_000 - 3000 * (i == 4)
            (folder / word / f"{i:08x}_nohash_0.wav").write_bytes(wav(rng.uniform(-0.1, 0.1, length), 16_000))
    (folder / "validation_list.txt").write_text("bed/00000000_nohash_0.wav\ncat/00000001_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("bed/00000004_nohash_0.wav\n")
    (folder / "README.md").write_text("words")
    return tmp_path / "data"


def test_gsc_has_the_official_lists(gsc_folder: Path) -> None:
    bundle = load("gsc", root=gsc_folder)
    assert bundle.kind == "sequence" and bundle.classes == ("bed", "cat") and bundle.validation is not None
    assert (len(bundle.train), len(bundle.validation), len(bundle.test)) == (7, 2, 1)
    assert bundle.input_shape == (101, 140) and bundle.test.labels.tolist() == [0]
    x, _ = bundle.test[0]
    assert (x[:, 87:] == -100).all() and (x[95:] == -100).all() and x[:75, :80].max() > -40  # shorter than a second
    lazy = load("gsc", root=gsc_folder, in_memory=False)
    a, b = (next(iter(loader(s.train, 7)))[0] for s in (bundle, lazy))
    torch.testing.assert_close(a, b)
    even = load("gsc", root=gsc_folder, normalize=True, n_mels=40, f_max=4000)
    x = next(iter(loader(even.train, 7)))[0]
    assert x.mean((0, 1)).abs().max() < 1e-3 and (x.std((0, 1)) - 1).abs().max() < 0.01


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "testing_list.txt").unlink(), "has no testing_list.txt"),
        (lambda f: (f / "testing_list.txt").write_text("bed/none.wav"), "names 'bed/none.wav', which is not there"),
        (lambda f: (f / "testing_list.txt").write_text("bed/00000000_nohash_0.wav"), "is in both lists"),
        (lambda f: (f / "bed/00000002_nohash_0.wav").write_bytes(b"RIFF"), "bed/00000002_nohash_0.wav: is not a WAV"),
        (lambda f: (f / "cat/00000002_nohash_0.wav").write_bytes(wav(np.ones(9), 8000)), "has 8000 samples a second"),
    ],
)
def test_bad_gsc(damage: Callable[[Path], Any], said: str, gsc_folder: Path) -> None:
    damage(gsc_folder / "speech_commands_v0.02")
    with pytest.raises(DataError, match=said):
        load("gsc", root=gsc_folder)


# fsdd


@pytest.fixture
def fsdd_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data/fsdd/recordings"
    folder.mkdir(parents=True)
    for speaker in ("anna", "theo"):
        for digit in (0, 7):
            for take in (0, 4, 5, 49):
                sound = rng.normal(size=int(rng.integers(1200, 2400))) * 0.05
                (folder / f"{digit}_{speaker}_{take}.wav").write_bytes(wav(sound))
    return tmp_path / "data"


def test_fsdd_by_take_or_by_speaker(fsdd_folder: Path) -> None:
    bundle = load("fsdd", root=fsdd_folder)
    assert (len(bundle.train), len(bundle.test), bundle.input_shape) == (8, 8, (101, 40))
    x, y = next(iter(loader(bundle.train, 8)))
    assert x.mean((0, 1)).abs().max() < 1e-4 and sorted(y.tolist()) == [0] * 4 + [7] * 4
    unknown = load("fsdd", root=fsdd_folder, held_out="theo", normalize=False, seconds=0.5)
    assert (len(unknown.train), len(unknown.test), unknown.input_shape) == (8, 8, (51, 40))
    assert unknown.fingerprint != bundle.fingerprint
    with pytest.raises(ArgumentError, match=r"held_out must name speakers \(anna, theo\).*got 'otto'"):
        load("fsdd", root=fsdd_folder, held_out="otto")
    with pytest.raises(ArgumentError, match="leaves no speaker"):
        load("fsdd", root=fsdd_folder, held_out="theo, anna")


def test_fsdd_spikes_are_built_once_and_resumed(fsdd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdd_spikes, "CHUNK", 4)
    with pytest.raises(DataError, match="ranvier data build fsdd-spikes"):
        load("fsdd-spikes", root=fsdd_folder)

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("fsdd-spikes", fsdd_folder, progress=stop)
    seen: list[int] = []
    folder = build("fsdd-spikes", fsdd_folder, progress=lambda done, total: seen.append(done), jobs=2)
    assert seen[:3] == [4, 8, 9] and seen[-1] == 16  # two whole chunks were there
    seen.clear()
    assert build("fsdd-spikes", fsdd_folder, progress=lambda *_: seen.append(1)) == folder and not seen
    bundle = load("fsdd-spikes", root=fsdd_folder)
    assert (len(bundle.train), len(bundle.test), bundle.input_shape) == (8, 8, (100, 140))
    assert bundle.classes[7] == "seven" and bundle.kind == "sequence"
    x, y = next(iter(loader(bundle.train, 8)))
    assert 500 < x.sum() < 200_000 and set(y.tolist()) == {0, 7}
    other = load("fsdd-spikes", root=fsdd_folder, held_out="anna", T=None, binning="event")
    assert len(other.test) == 8 and other.input_shape[0] <= 31
    again = build("fsdd-spikes", fsdd_folder, out=str(fsdd_folder / "elsewhere"), jobs=1)
    for name in fsdd_spikes.FILES:  # not the order of the threads, nor the interruption, nor the cache decides
        a, b = read_spike_file(folder / name), read_spike_file(again / name)
        np.testing.assert_array_equal(a.t, b.t)
        np.testing.assert_array_equal(a.units, b.units)
    assert not list(folder.parent.glob("fsdd-spikes-[0-9a-f]*/part*"))


def test_build_errors(fsdd_folder: Path) -> None:
    with pytest.raises(ArgumentError, match="'digits' is not computed from another one; those that are: fsdd-spikes"):
        build("digits")
    with pytest.raises(ArgumentError, match="takes no option 'job'; did you mean 'jobs'"):
        build("fsdd-spikes", fsdd_folder, job=1)
    with pytest.raises(ArgumentError, match="jobs must be"):
        build("fsdd-spikes", fsdd_folder, jobs=0)
    first = next(iter(sorted((fsdd_folder / "fsdd/recordings").iterdir())))
    first.write_bytes(first.read_bytes()[:-10] + struct.pack("<h", 1))
    with pytest.raises(DataError, match=rf"{first.name}: is cut off"):
        build("fsdd-spikes", fsdd_folder)


def test_real_recordings(ranvier_data: Path) -> None:
    bundle = load("fsdd", root=ranvier_data)
    assert (len(bundle.train), len(bundle.test)) == (2700, 300)
    assert bundle.test.labels.bincount().tolist() == [30] * 10
    held = load("fsdd", root=ranvier_data, held_out="theo")
    assert (len(held.train), len(held.test)) == (2500, 500)
