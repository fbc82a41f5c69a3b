from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.data import Events, to_frames
from ranvier.data.events import EVENT_DTYPE
from ranvier.errors import ArgumentError, DataError


def events(t: Any, x: Any = None, y: Any = None, p: Any = None) -> Events:
    n = len(t)
    zeros = np.zeros(n, np.int64)
    return Events(*(np.asarray(zeros if v is None else v, np.int64) for v in (t, x, y, p)))  # pyright: ignore[reportArgumentType]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Events, int, int]:
    height, width, n = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    t = np.sort(rng.integers(0, draw(st.sampled_from([3, 40, 2**40])), n))
    return events(t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)), height, width


def slow_frames(e: Events, T: int, size: tuple[int, int], split_by: str) -> np.ndarray:
    """The definition, event by event, in Python integers."""
    frames = np.zeros((T, 2, *size), np.int64)
    for i in range(len(e)):
        start, span = int(e.t[0]), int(e.t[-1]) - int(e.t[0]) + 1
        b = (int(e.t[i]) - start) * T // span if split_by == "time" else i * T // len(e)
        frames[b, e.p[i], e.y[i], e.x[i]] += 1
    return frames


@pytest.mark.parametrize("backend", ["auto", "reference"])
@given(recording=recordings(), T=st.integers(1, 12), split_by=st.sampled_from(["time", "count"]))
def test_frames_equal_the_definition(backend: str, recording: tuple[Events, int, int], T: int, split_by: Any) -> None:
    e, height, width = recording
    expected = torch.from_numpy(slow_frames(e, T, (height, width), split_by))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANVIER_BACKEND", backend)
        counts = to_frames(e, T, (height, width), split_by=split_by)
        assert counts.dtype == torch.float32 and torch.equal(counts, expected.float())
        assert torch.equal(to_frames(e, T, (height, width), split_by=split_by, values="binary"), (expected > 0).float())
        merged = to_frames(e, T, (height, width), split_by=split_by, polarities=1, dtype=torch.int32)
        assert torch.equal(merged, expected.sum(1, keepdim=True).int())


def test_worked_example_by_time_and_by_count() -> None:
    e = events([0, 1, 2, 9], x=[0, 1, 1, 0], y=[0, 0, 0, 1], p=[1, 0, 0, 1])
    by_time, by_count = to_frames(e, 2, (2, 2)), to_frames(e, 2, (2, 2), split_by="count")
    assert by_time.sum((1, 2, 3)).tolist() == [3, 1] and by_count.sum((1, 2, 3)).tolist() == [2, 2]
    assert by_time[0, 0].tolist() == [[0, 2], [0, 0]] and by_time[0, 1].tolist() == [[1, 0], [0, 0]]
    assert by_time[1, 1].tolist() == [[0, 0], [1, 0]]


def test_equal_counts_differ_by_at_most_one() -> None:
    sizes = to_frames(events(np.arange(23)), 5, (1, 1), split_by="count").sum((1, 2, 3))
    assert sizes.max() - sizes.min() <= 1 and sizes.sum() == 23


@pytest.mark.parametrize("split_by", ["time", "count"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_window_leaves_events_outside_out(split_by: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    frames = to_frames(events([5, 10, 14, 15, 19, 20]), 2, (1, 1), window=(10, 20), split_by=split_by)
    assert frames[:, 0, 0, 0].tolist() == [2, 2]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_uint8_counts_stop_at_255(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    assert to_frames(events(np.arange(300)), 1, (1, 1), dtype=torch.uint8).flatten().tolist() == [255, 0]


def test_no_events_give_zeros_or_an_error() -> None:
    assert to_frames(events([]), 3, (2, 2)).sum() == 0
    with pytest.raises(DataError, match="0 events"):
        to_frames(events([]), 3, (2, 2), empty="error")
    with pytest.raises(DataError, match="2 events has none in the window"):
        to_frames(events([1, 2]), 3, (2, 2), window=(5, 9), empty="error")


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, 2)])
def test_an_event_off_the_sensor_is_named(x: int, y: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    e = events([0, 1, 2], x=[0, x, 0], y=[0, y, 0])
    with pytest.raises(DataError, match=rf"event 1 lies at x={x}, y={y}, outside the sensor of 2 x 3"):
        to_frames(e, 1, (2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t": [0, 5, 4]}, "event 2 at 4 µs comes after one at 5"),
        ({"t": [-1, 0, 1]}, "event 0 has the negative timestamp -1"),
        ({"t": [0, 1, 2], "x": [0, -3, 0]}, "event 1 has x=-3"),
        ({"t": [0, 1, 2], "y": [0, 0, 70000]}, "event 2 has y=70000"),
        ({"t": [0, 1, 2], "p": [0, 1, 2]}, "polarity"),
        ({"t": [0, 1, 2], "p": [-1, 0, 1]}, "polarity"),
        ({"t": [0, 1, 2], "x": [0, 1]}, "one length"),
    ],
)
def test_bad_recordings_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        events(**arguments)


def test_float_timestamps_are_refused() -> None:
    zeros = np.zeros(2, np.int64)
    with pytest.raises(DataError, match=r"integers in 't', got float64"):
        Events(np.array([0.0, 1.0]), zeros, zeros, zeros)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"T": 0}, "T must be"), ({"sensor_size": (2, 2, 2)}, r"\(height, width\)"),
        ({"sensor_size": 34}, "sensor_size"),
        ({"split_by": "tme"}, "split_by"), ({"values": "sum"}, "values"), ({"polarities": 3}, "polarities"),
        ({"window": (5, 5)}, "window"), ({"dtype": torch.float16}, "dtype"), ({"empty": "skip"}, "empty"),
    ],
)  # fmt: skip
def test_bad_options_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        to_frames(**{"events": events([1]), "T": 2, "sensor_size": (2, 2), **arguments})


@pytest.mark.parametrize(
    "fields",
    [
        [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")],
        [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")],
        [("t", "<i4"), ("x", "<i4"), ("y", "<i4"), ("p", "i1")],
    ],
)
def test_structured_arrays_of_others(fields: list[tuple[str, str]]) -> None:
    array = np.zeros(3, fields)
    array["t"], array["x"], array["y"] = [1, 2, 3], [4, 5, 6], [7, 8, 9]
    array[fields[3][0]] = [True, False, True] if fields[3][1] == "?" else [1, -1, 1]
    e = Events.from_structured(array)
    assert [e.t.tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist()] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 0, 1]]
    assert torch.equal(to_frames(array, 2, (10, 10)), to_frames(e, 2, (10, 10)))
    again = e.structured()
    assert again.dtype == EVENT_DTYPE and Events.from_structured(again).t.tolist() == [1, 2, 3]
    assert len(e[1:]) == 2


def test_an_array_without_the_fields_is_refused() -> None:
    with pytest.raises(DataError, match="t, x, y and p"):
        to_frames(np.zeros((3, 4)), 1, (2, 2))


def test_real_recording(ranvier_data: Any) -> None:
    array = np.load(ranvier_data / "events/evt3_sample.npy", allow_pickle=False)
    frames = to_frames(array, 4, (720, 1280))
    assert frames.sum() == len(array)
    assert frames[:, 1].sum() == int(array["p"].sum())
