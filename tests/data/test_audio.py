from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch

from ranvier.data import build, load, loader
from ranvier.data.audio import Binning, LogMel, SpikeRecordings, SpikeSamples, frame_counts, read_spike_file, read_wav
from ranvier.data.audio.bins import frames_of
from ranvier.data.audio.spike_file import write_spike_file
from ranvier.data.sets import fsdd_spikes
from ranvier.errors import ArgumentError, DataError

# spike files


def official_file(path: Path, count: int = 6, classes: int = 20, **changes: Any) -> Path:
    """As the Heidelberg files: ragged float16 seconds and uint16 units, names of the labels in extra/keys."""
    rng = np.random.default_rng(count)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.dtype("float16")))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.dtype("uint16")))
        for i in range(count):
            n = int(rng.integers(30, 60))
            times[i] = np.sort(rng.uniform(0, 0.2 + 0.1 * i, n)).astype(np.float16)
            units[i] = rng.integers(0, 700, n)
        if "times" in changes:
            times[2] = np.asarray(changes["times"])
            units[2] = np.arange(len(changes["times"]))
        if "units" in changes:
            units[2] = np.asarray(changes["units"])
        file["labels"] = np.asarray(changes.get("labels", np.arange(count) % classes), np.uint8)
        file.create_dataset("extra/keys", data=[b"word%d" % i for i in range(classes)])
        file["extra/speaker"] = np.arange(count, dtype=np.uint16) % 4
    return path


def test_the_official_layout_is_read(tmp_path: Path) -> None:
    path = official_file(tmp_path / "shd_train.h5")
    read = read_spike_file(path)
    assert len(read) == 6 and read.labels.tolist() == [0, 1, 2, 3, 4, 5] and read.keys[:2] == ("word0", "word1")
    assert read.speakers[:5] == ("0", "1", "2", "3", "0")
    with h5py.File(path) as file:
        for i in range(6):
            t, units = read[i]
            seconds = file["spikes/times"][i].astype(np.float64)
            np.testing.assert_array_equal(t, np.round(seconds * 1e6))
            np.testing.assert_array_equal(units, file["spikes/units"][i])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    given = SpikeRecordings(
        np.array([0, 5, 1_300_000, 7], np.int32), np.array([0, 699, 3, 4], np.uint16), np.array([0, 3, 4]),
        np.array([1, 0]), ("theo", "anna"), ("no", "yes"),
    )  # fmt: skip
    write_spike_file(tmp_path / "a/file.h5", given)
    read = read_spike_file(tmp_path / "a/file.h5")
    for name in ("t", "units", "first", "labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(given, name))
    assert read.speakers == given.speakers and read.keys == given.keys
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file.h5"]
    both = SpikeRecordings.join([read, given]).take(np.array([3, 0]))
    assert both.t.tolist() == [7, 0, 5, 1_300_000] and both.speakers == ("anna", "theo")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"times": [0.1, 0.2, 0.15]}, r"recording 2: event 2 at 0.1\d* s comes after one at 0.2; |must be sorted"),
        ({"times": [-0.5, 0.2]}, r"recording 2: event 0 is at -0.5 s, a negative time"),
        ({"times": [0.1, float("nan")]}, r"recording 2: event 1 is at nan s"),
        ({"times": [0.1, float("inf")]}, r"recording 2: event 1 is at inf s"),
        ({"times": []}, r"recording 2 has no events; pass empty=true"),
        ({"times": [0.1, 0.2], "units": [3, 700]}, r"recording 2: event 1 is of unit 700, outside 0 .. 699"),
        ({"times": [0.1, 0.2], "units": [3]}, r"recording 2: 2 times but 1 units"),
        ({"labels": [0, 1]}, r"6 recordings of times, 6 of units and labels uint8 \(2,\) do not fit"),
    ],
)
def test_bad_recordings(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_spike_file(official_file(tmp_path / "f.h5", **changes))
    assert "f.h5" in str(caught.value)


def test_silent_recordings_can_be_kept(tmp_path: Path) -> None:
    read = read_spike_file(official_file(tmp_path / "f.h5", times=[]), empty=True)
    assert len(read) == 6 and len(read[2][0]) == 0
    assert frame_counts(read, Binning())[2] == 0
    x, _ = SpikeSamples(read, Binning(), 5)[2]
    assert x.shape == (5, 140) and not x.any()


def test_broken_files(tmp_path: Path) -> None:
    whole = official_file(tmp_path / "f.h5").read_bytes()
    for size in (0, 100, 2000, len(whole) // 2, len(whole) - 40):
        cut = tmp_path / "cut.h5"
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.h5"):
            read_spike_file(cut)
    (tmp_path / "text.h5").write_text("no spikes here" * 200)
    with pytest.raises(DataError, match=r"text\.h5: is not a whole HDF5 file"):
        read_spike_file(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(DataError, match="has no 'spikes/times'"):
        read_spike_file(tmp_path / "other.h5")
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["spikes/times"], file["spikes/units"], file["labels"] = np.zeros(3), np.zeros(3), np.zeros(3, int)
    with pytest.raises(DataError, match="must be one list of numbers a recording"):
        read_spike_file(tmp_path / "flat.h5")
    with pytest.raises(DataError, match="no such file"):
        read_spike_file(tmp_path / "nowhere.h5")


# binning


def recordings(*events: list[tuple[int, int]]) -> SpikeRecordings:
    t = np.array([e[0] for r in events for e in r], np.int32)
    units = np.array([e[1] for r in events for e in r], np.uint16)
    return SpikeRecordings(t, units, np.cumsum([0, *map(len, events)]), np.zeros(len(events), np.int64))


def test_a_silence_is_five_empty_frames_on_a_grid_and_none_at_events() -> None:
    spikes = recordings([(5000, 0), (9000, 699), (65_500, 3)])
    grid, event, absolute = (Binning(binning=b) for b in ("grid", "event", "absolute"))  # pyright: ignore[reportArgumentType]
    assert [int(frame_counts(spikes, b)[0]) for b in (grid, event, absolute)] == [7, 2, 7]
    x, _ = SpikeSamples(spikes, grid, 7)[0]
    assert x.sum(1).tolist() == [2, 0, 0, 0, 0, 0, 1] and x[0, 0] == 1 and x[0, 139] == 1
    x, _ = SpikeSamples(spikes, event, 2)[0]
    assert x.sum(1).tolist() == [2, 1]
    # a frame holds what is up to dt after its first event, the end included
    assert frames_of(np.array([0, 10_000, 10_001], np.int32), event).tolist() == [0, 0, 1]
    assert frames_of(np.array([500, 10_499, 10_500], np.int32), grid).tolist() == [0, 0, 1]


@pytest.mark.parametrize("binning", ["grid", "absolute", "event"])
@pytest.mark.parametrize("values", ["count", "binary"])
@pytest.mark.parametrize(("channels", "dt"), [(140, 10.0), (700, 1.0), (7, 33.3)])
def test_kernels_equal_the_definition(
    binning: Any, values: Any, channels: int, dt: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    some = [
        sorted(zip(rng.integers(0, 300_000, n).tolist(), rng.integers(0, 700, n).tolist(), strict=True))
        for n in (200, 1, 77)
    ]
    spikes, rule = recordings(*some), Binning(dt, channels, binning, values)
    index = np.array([2, 0, 2])
    fused = frame_counts(spikes, rule), rule.counts(spikes, index, 20)
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    np.testing.assert_array_equal(fused[0], frame_counts(spikes, rule))
    np.testing.assert_array_equal(fused[1], rule.counts(spikes, index, 20))
    steps = int(fused[0].max())
    if values == "count":
        assert rule.counts(spikes, np.arange(3), steps).sum() == 278  # no spike is lost


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dt": 0}, "dt must be milliseconds"), ({"dt": 0.0005}, "dt must"), ({"channels": 150}, "must divide 700"),
        ({"channels": 0}, "must divide"), ({"binning": "random"}, "binning must be one of"),
        ({"values": "x"}, "values must be"),
    ],
)  # fmt: skip
def test_bad_binning(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Binning(**arguments)


# shd and ssc


def test_shd_is_a_sequence_data_set(tmp_path: Path) -> None:
    official_file(tmp_path / "SHD/shd_train.h5", 8)
    official_file(tmp_path / "SHD/shd_test.h5", 5)
    bundle = load("shd", root=tmp_path)
    assert bundle.kind == "sequence" and bundle.num_classes == 20 and bundle.classes[3] == "word3"
    assert (len(bundle.train), len(bundle.test), bundle.validation) == (8, 5, None)
    assert bundle.input_shape[1] == 140
    x, y = next(iter(loader(bundle.train, 8)))
    assert x.shape == (bundle.input_shape[0], 8, 140) and y.tolist() == list(range(8))
    assert x.sum() == sum(len(read_spike_file(tmp_path / "SHD/shd_train.h5")[i][0]) for i in range(8))
    assert x[-1].sum() + next(iter(loader(bundle.test, 5)))[0][-1].sum() > 0  # as long as the longest one
    short = load("shd", root=tmp_path, T=12, channels=700, dt=5.0, train_size=4)
    assert short.input_shape == (12, 700) and len(short.train) == 4
    assert len({bundle.fingerprint, short.fingerprint, load("shd", root=tmp_path, binning="event").fingerprint}) == 3
    assert load("shd", path=str(tmp_path / "SHD")).fingerprint == bundle.fingerprint  # from the cache, too
    with pytest.raises(ArgumentError, match="T must be a number of frames"):
        load("shd", root=tmp_path, T=0)


def test_ssc_has_its_own_validation_part(tmp_path: Path) -> None:
    for part, n in (("train", 6), ("valid", 4), ("test", 3)):
        official_file(tmp_path / f"ssc_{part}.h5", n, classes=35)
    bundle = load("ssc", root=tmp_path)
    assert bundle.validation is not None
    assert (len(bundle.train), len(bundle.validation), len(bundle.test)) == (6, 4, 3)
    assert bundle.num_classes == 35


def test_training_takes_the_validation_part_of_the_data_set(tmp_path: Path) -> None:
    from ranvier.train.assemble import load_splits, model_arguments
    from ranvier.train.recipe import parse_recipe

    for part, n in (("train", 6), ("valid", 4), ("test", 3)):
        official_file(tmp_path / f"ssc_{part}.h5", n, classes=35)
    document: dict[str, Any] = {"name": "a", "data": {"name": "ssc", "root": str(tmp_path)}, "model": {"name": "x"}}
    splits = load_splits(parse_recipe(document))
    assert splits.validation is not None and len(splits.validation) == 4 and len(splits.train) == 6
    assert model_arguments(parse_recipe(document), splits.bundle) == {"num_classes": 35, "in_channels": 140}
    document["data"]["validation"] = 0
    assert load_splits(parse_recipe(document)).validation is None


def test_shd_errors(tmp_path: Path) -> None:
    official_file(tmp_path / "SHD/shd_train.h5")
    (tmp_path / "SHD/shd_test.h5.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"shd_test\.h5: there is no such file; unpack shd_test\.h5\.gz first"):
        load("shd", root=tmp_path)
    official_file(tmp_path / "SHD/shd_test.h5", labels=[0, 1, 2, 3, 4, 20])
    with pytest.raises(DataError, match="recording 5 has the label 20; expected 0 to 19"):
        load("shd", root=tmp_path)


# WAV


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()


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
