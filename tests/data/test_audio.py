"""Recordings of spikes: files, binning, the Heidelberg sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ranvier.data import load, loader
from ranvier.data.audio import Binning, SpikeRecordings, SpikeSamples, frame_counts, read_spike_file
from ranvier.data.audio.bins import frames_of
from ranvier.data.audio.spike_file import write_spike_file
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
