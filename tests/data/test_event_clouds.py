"""Windows of recordings as clouds, recordings from files, and the data sets made of them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ranvier.data import Augment, load
from ranvier.data.events import CloudAugment, Events, read_aedat3, read_events, sliding_windows, to_cloud
from ranvier.data.sets.event_clouds import by_recording, recordings_of, vote, windows_as_clouds
from ranvier.errors import ArgumentError, DataError, ShapeError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))


def events(times: list[int] | np.ndarray, seed: int = 0, side: int = 16) -> Events:
    random = np.random.default_rng(seed)
    n = len(times)
    x, y = random.integers(0, side, (2, n)).astype(np.uint16)
    return Events(np.asarray(times, np.int64), x, y, random.integers(0, 2, n).astype(np.uint8))


def test_windows_by_hand() -> None:
    stream = events([0, 5, 10, 12, 20, 25, 30, 38, 40, 41])
    windows = sliding_windows(stream, 20e-6, 10e-6)
    # starts 0, 10, 20 while start + 20 < 41; both ends are included
    assert [w.t.tolist() for w in windows] == [[0, 5, 10, 12, 20], [10, 12, 20, 25, 30], [20, 25, 30, 38, 40]]
    assert [len(w) for w in sliding_windows(stream, 20e-6, 20e-6)] == [5, 5]
    assert not sliding_windows(stream, 20e-6, 10e-6, min_events=6)
    assert sliding_windows(events([]), 1.0, 1.0) == [] and sliding_windows(events([3]), 1.0, 1.0) == []
    with pytest.raises(ArgumentError, match="positive seconds"):
        sliding_windows(stream, 0, 1)


def test_clouds() -> None:
    stream = events(np.sort(np.random.default_rng(1).integers(0, 10_000, 500)))
    for n in (100, 500, 900):
        cloud = to_cloud(stream, n, (16, 16), torch.Generator().manual_seed(0))
        assert cloud.shape == (n, 3) and cloud.min() >= 0 and cloud.max() <= 1
        assert (cloud[1:, 2] >= cloud[:-1, 2]).all() and cloud[0, 2] == 0 and cloud[-1, 2] == pytest.approx(1)
    assert len(to_cloud(stream, 500, (16, 16)).unique(dim=0)) > 450
    later = Events(stream.t * 7 + 1_000_000, stream.x, stream.y, stream.p)
    pair = [to_cloud(s, 64, (16, 16), torch.Generator().manual_seed(3)) for s in (stream, later)]
    torch.testing.assert_close(pair[0], pair[1], rtol=0, atol=1e-6)
    assert to_cloud(events([7, 7, 7]), 3, (16, 16))[:, 2].eq(0).all()
    with pytest.raises(DataError, match="without events"):
        to_cloud(events([]), 8, (16, 16))
    with pytest.raises(DataError, match="off the 8 x 8"):
        to_cloud(stream, 100, (8, 8))


def test_augmentation() -> None:
    clouds = torch.rand(64, 100, 3)
    assert torch.equal(CloudAugment()(clouds), clouds)
    mirrored = CloudAugment(flip_x=1.0, reverse=1.0)(clouds)
    torch.testing.assert_close(mirrored, torch.stack([1 - clouds[..., 0], clouds[..., 1], 1 - clouds[..., 2]], -1))
    cropped = CloudAugment(crop=1.0)(clouds, torch.Generator().manual_seed(0))
    assert cropped.shape == clouds.shape and cropped.min() >= 0 and cropped.max() <= 1
    extent = cropped.amax(1) - cropped.amin(1)
    assert (extent[:, :2].amin(1) < 0.97).float().mean() > 0.3 and (extent[:, 2] > 0.9).float().mean() > 0.9


def test_votes_and_splits_go_by_recording() -> None:
    assert vote([1, 1, 0, 2, 0], [7, 7, 7, 9, 9]) == {7: 1, 9: 0}
    recordings = [(events(np.arange(0, 3_000_000, 1000), i), i % 2, (16, 16)) for i in range(6)]
    clouds, labels, numbers = windows_as_clouds(recordings, 32, 1.0, 0.5, 1)
    assert clouds.shape == (24, 32, 3) and labels.tolist() == [i % 2 for i in range(6) for _ in range(4)]
    from ranvier.data.points import CloudSamples

    samples = CloudSamples(torch.from_numpy(clouds), torch.from_numpy(labels))
    samples.recordings = torch.from_numpy(numbers)  # pyright: ignore
    train, test = by_recording(samples, 0.34)
    held = {float(x.sum()) for x, _ in test}
    assert len(test) == 8 and len(train) == 16 and not held & {float(x.sum()) for x, _ in train}
    with pytest.raises(DataError, match="lower min_events"):
        windows_as_clouds(recordings, 32, 1.0, 0.5, 10**6)


def test_structured_arrays_as_tonic_gives_them() -> None:
    array = events([1, 2, 3]).structured()
    (found,) = recordings_of([(array, 4)], (16, 16))
    assert found[0].t.tolist() == [1, 2, 3] and found[1] == 4


def aedat(stream: Events, per_packet: int = 7) -> bytes:
    data = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for start in range(0, len(stream), per_packet):
        part = stream[start : start + per_packet]
        words = [
            struct.pack("<II", 1 | (int(p) << 1) | (int(y) << 2) | (int(x) << 17), int(t))
            for t, x, y, p in zip(part.t, part.x, part.y, part.p, strict=True)
        ]
        data += struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, len(part), len(part), len(part)) + b"".join(words)
    return data


def test_aedat3() -> None:
    stream = events([5, 9, 12, 30, 31, 32, 40, 41, 55, 60])
    found = read_aedat3(aedat(stream), "a")
    for name in ("t", "x", "y", "p"):
        assert np.array_equal(getattr(found, name), getattr(stream, name))
    with pytest.raises(DataError, match="cut off"):
        read_aedat3(aedat(stream)[:-5], "a")
    with pytest.raises(DataError, match="middle of a packet header"):
        read_aedat3(aedat(stream) + b"\x01\x00", "a")
    with pytest.raises(DataError, match="not an AEDAT"):
        read_aedat3(b"#!AER-DAT2.0", "a")


def test_dvs_gesture_layout(tmp_path: Path) -> None:
    for subject in (1, 2, 24):
        stream = events(np.arange(0, 4_000_000, 2000), subject, 128)
        name = f"DvsGesture/user{subject:02d}_led"
        (tmp_path / "DvsGesture").mkdir(exist_ok=True)
        (tmp_path / f"{name}.aedat").write_bytes(aedat(stream, 500))
        table = "class,startTime_usec,endTime_usec\n1,0,1500000\n3,1500000,3000000\n11,3000000,4000000\n"
        (tmp_path / f"{name}_labels.csv").write_text(table)
    bundle = load("dvs_gesture", tmp_path, points=64)
    assert bundle.input_shape == (64, 3) and bundle.num_classes == 10
    assert sorted(set(bundle.train.labels.tolist())) == [0, 2] and len(bundle.train) == 2 * len(bundle.test)
    eleven = load("dvs_gesture", tmp_path, points=64, classes=11)
    assert 10 in eleven.test.labels and eleven.fingerprint != bundle.fingerprint
    path = tmp_path / "DvsGesture/user24_led.aedat"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut off"):
        load("dvs_gesture", tmp_path, points=64)


def test_folders_of_recordings(tmp_path: Path) -> None:
    for label in ("left", "right"):
        for i in range(5):
            stream = events(np.arange(0, 3_000_000, 5000), i)
            path = tmp_path / "event_folder" / label / f"{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, stream.structured())
    bundle = load("event_folder", tmp_path, points=50, window=1.0, hop=0.5)
    assert bundle.classes == ("left", "right") and len(bundle.train) == 8 * 4 and len(bundle.test) == 2 * 4
    with pytest.raises(ArgumentError, match="hop only with a window"):
        load("event_folder", tmp_path, hop=1.0)
    (tmp_path / "event_folder/left/0.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="not a whole array"):
        load("event_folder", tmp_path, points=50)


@pytest.mark.parametrize(
    ("name", "count"), [("evt2_sample.raw", 539_481), ("evt3_sample.raw", 219_596), ("sample.aedat4", 111_954)]
)
def test_real_recordings(ranvier_data: Path, tmp_path: Path, name: str, count: int) -> None:
    pytest.importorskip("faery")
    path = ranvier_data / "events" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    stream, size = read_events(path)
    assert len(stream) == count
    cloud = to_cloud(stream, 256, size, torch.Generator().manual_seed(0))
    assert cloud.shape == (256, 3)
    if name == "evt3_sample.raw":
        truth = np.load(ranvier_data / "events/evt3_sample.npy")
        for axis in ("x", "y", "p"):  # decoders count a wrap of the clock differently
            assert np.array_equal(getattr(stream, axis), truth[axis])
        decoded, _ = read_events(ranvier_data / "events/evt3_sample.npy")
        assert np.array_equal(decoded.p, stream.p)
    with pytest.raises(DataError, match="recordings end in"):
        read_events(_copy(path, tmp_path / "a.xyz", 10))
    if name == "sample.aedat4":
        with pytest.raises(DataError, match="announces a header of 2316 bytes, but has 1000 in all"):
            read_events(_copy(path, tmp_path / "cut.aedat4", 1000))


def _copy(path: Path, to: Path, size: int) -> Path:
    to.write_bytes(path.read_bytes()[:size])
    return to


def test_real_n_mnist(ranvier_data: Path) -> None:
    if not (ranvier_data / "nmnist_small.zip").is_file():
        pytest.skip("N-MNIST is not there")
    bundle = load("nmnist_clouds", ranvier_data, points=64)
    assert len(bundle.train) == 1000 and len(bundle.test) == 100 and bundle.input_shape == (64, 3)
    x, _ = bundle.test.batch(range(100))
    assert x.min() >= 0 and x.max() <= 1


def test_clouds_are_augmented_in_recipes() -> None:
    clouds = torch.rand(200, 30, 3)
    torch.manual_seed(0)
    out = Augment(cloud_scale=0.1, cloud_shift=0.2).images(clouds)
    size = (out.amax(1) - out.amin(1)) / (clouds.amax(1) - clouds.amin(1))
    assert 0.9 - 1e-4 <= float(size.min()) < 0.92 and 1.08 < float(size.max()) <= 1.1 + 1e-4
    assert torch.allclose(size[:, :1].expand(-1, 3), size, atol=1e-3)  # one factor for all axes
    assert Augment(cloud_crop=1.0).images(clouds, seed=1).shape == clouds.shape
    with pytest.raises(ShapeError, match="for clouds"):
        Augment(cloud_shift=0.1).images(torch.rand(2, 3, 8, 8))
    with pytest.raises(ArgumentError, match="cloud_crop"):
        Augment(cloud_crop=2.0)
