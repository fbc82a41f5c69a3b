"""What is no file of its format ends in one clear error: a short run of `scripts/fuzz_readers.py`, itself checked."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ranvier.errors import ConfigError, DataError, RanvierError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from fuzz import damage
from fuzz.harness import Target, fuzz
from fuzz.targets import TARGETS

sys.path.pop(0)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")


@forks
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_damaged_files_are_read_or_refused(target: Target) -> None:
    outcome = fuzz(target, 40)
    if outcome.cases == 0:
        pytest.skip("needs a recording of RANVIER_DATA")
    assert outcome.cases == 40
    assert outcome.findings == []


def _read(path: Path) -> object:
    number = path.read_bytes()[0]
    if number == 0:
        raise DataError("no")
    if number == 1:
        raise KeyError("leak")
    if number == 2:
        os.kill(os.getpid(), 9)
    if number == 3:
        while True:
            pass
    if number == 4:
        return [bytearray(120 * 2**20)]
    if number == 5:
        time.sleep(60)
    return number


@forks
def test_the_harness_sees_errors_crashes_hangs_and_greed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "case", lambda name, sound, number, text: bytes([number]))
    target = Target("bytes", lambda: {"b": b"\x09"}, "b", _read)
    outcome = fuzz(target, 8, seconds=0.5, memory=50, wall=2)
    told = "\n".join(outcome.findings)
    assert "case 1: KeyError: 'leak'" in told
    assert "case 2: the process died (signal 9)" in told
    assert "case 3: takes more than 0.5 s" in told
    assert "case 4: more than 50 MiB" in told
    assert "case 5: takes more than 0.5 s" in told
    assert len(outcome.findings) == 5, told
    assert (outcome.cases, outcome.read, outcome.refused) == (8, 2, 1)


def test_cases_are_the_same_every_time() -> None:
    sound = TARGETS[0].sound
    assert damage.case("a", sound, 7, False) == damage.case("a", sound, 7, False) != damage.case("a", sound, 8, False)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.own", "manifest.json", "ratios.json", "checkpoint.state", "coco.json", "card.json", "run.json",
     "snn.json", "metrics.jsonl", "checkpoint.latest"],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"[" * 100_000 + b"\n", b'{"a":' * 100_000 + b"\n"])
def test_json_without_end_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == name)
    for place, data in target.files().items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(data)
    (tmp_path / target.hit).write_bytes(content)
    with pytest.raises(RanvierError):
        target.read(tmp_path / target.hit)


@pytest.mark.parametrize("reader", ["tokens.npy", "stream.npy", "events.npy", "regression.npy"])
def test_arrays_with_broken_headers_are_refused(reader: str, tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == reader)
    file = tmp_path / target.hit
    for header in (b"{'descr': '<u2', 'shape': (", b"{'descr': 'O', 'shape': (1,)}", b"\x80\n", b"((((" * 99):
        head = header.ljust(118)
        file.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        with pytest.raises(RanvierError):
            target.read(file)
    bundle = io.BytesIO()
    np.savez(bundle, a=np.zeros(3))
    file.write_bytes(bundle.getvalue())
    with pytest.raises(RanvierError):
        target.read(file)


def test_names_in_a_list_of_frames_cannot_leave_its_folder(tmp_path: Path) -> None:
    from ranvier.data.points.lidar import kitti_scans

    (tmp_path / "training" / "velodyne").mkdir(parents=True)
    (tmp_path / "ImageSets").mkdir()
    for name in ("../../secret", "/etc/passwd", "..", "a/b"):
        (tmp_path / "ImageSets" / "train.txt").write_text(f"{name}\n")
        with pytest.raises(DataError, match="not the name of a frame"):
            kitti_scans(tmp_path, "train")


def test_a_zip_that_unpacks_to_more_than_it_should_is_not_unpacked(tmp_path: Path) -> None:
    from ranvier.data import load

    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("enwik8", bytes(101_000_000))
    with pytest.raises(DataError, match="this file 101,000,000"):
        load("enwik8", tmp_path)


@pytest.mark.parametrize(
    "change",
    ["step: 1null0", "step: []", "step: .inf", "num_heads: 0", "mean: 3", "lr: [1]", "scale: [a]", "dataset: {a: 1}",
     f"epochs: 1{'0' * 400}"],
)  # fmt: skip
def test_settings_of_a_step_configuration_are_checked(change: str, tmp_path: Path) -> None:
    from ranvier.bench.step_config import import_step

    target = next(t for t in TARGETS if t.name == "step.yaml")
    key = change.partition(":")[0]
    lines = [line for line in target.sound.decode().splitlines() if not line.startswith(f"{key}:")]
    file = tmp_path / "small.yml"
    file.write_text("\n".join([*lines, change]))
    with pytest.raises(ConfigError, match=key):
        import_step(file)


def test_categories_and_boxes_of_coco_are_checked(tmp_path: Path) -> None:
    from ranvier.data import load

    target = next(t for t in TARGETS if t.name == "coco.json")
    for place, data in target.files().items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(data)
    endless = {"image_id": 7, "category_id": 3, "bbox": [0, 0, float("inf"), 1]}
    for part, value in (("categories", [{"id": 3}]), ("categories", [{"id": [], "name": "cat"}]), ("images", [3]),
                        ("annotations", [endless])):  # fmt: skip
        document = json.loads(target.sound)
        document[part] = value
        (tmp_path / target.hit).write_text(json.dumps(document))
        with pytest.raises(DataError):
            load("coco", tmp_path, path="set", size=16)


@pytest.mark.parametrize("name", ["spikes.h5", "nir"])
def test_a_heap_that_the_library_would_read_for_ever_is_refused(name: str, tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == name)
    data = bytearray(target.sound)
    first = data.index(b"GCOL\x01") + 16
    data[first : first + 16] = bytes(16)  # an unused object without a length
    (tmp_path / target.hit).write_bytes(data)
    with pytest.raises(DataError, match="damaged HDF5 file"):
        target.read(tmp_path / target.hit)


def test_lengths_in_an_aedat4_file_are_checked(tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == "events.aedat4")
    file, sound = tmp_path / "events.aedat4", target.sound
    assert target.files and len(sound) > 800
    for place in (14, 18 + int.from_bytes(sound[14:18], "little") + 4):  # of the header, and of the first packet
        data = bytearray(sound)
        data[place : place + 4] = b"\xff\xff\xff\x7f"
        file.write_bytes(data)
        with pytest.raises(DataError, match="announces"):
            target.read(file)


def test_an_aedat4_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (target,) = (t for t in TARGETS if t.name == "events.aedat4")
    if not target.sound:
        pytest.skip("faery is not installed")
    path = tmp_path / target.hit
    path.write_bytes(target.sound.replace(b'type="string">EVTS', b'type="string">\xff\xffTS'))
    with pytest.raises(DataError, match="damaged header"):  # the decoder would end the process
        target.read(path)


def test_names_in_a_zip_that_are_no_text(tmp_path: Path) -> None:
    (target,) = (t for t in TARGETS if t.name == "zip")
    data = bytearray(target.sound)
    first = data.index(b"PK\x03\x04")
    data[first + 7] |= 8  # the name is UTF-8, says its header
    data[first + 30] = 0xFF
    (tmp_path / target.hit).write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        target.read(tmp_path / target.hit)


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_files_are_read_as_the_library_that_wrote_them_reads_them(packed: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    from ranvier.data.events.mat import read_mat

    file = io.BytesIO()
    table = {
        "x": np.arange(7, dtype=np.uint16), "ts": np.arange(7.0) * 1e6, "p": np.array([[1, -1, 0]], np.int8),
        "some_longer_name": np.arange(6, dtype=np.int64).reshape(2, 3), "text": "no numbers", "c": np.array([1j]),
    }  # fmt: skip
    scipy_io.savemat(file, table, do_compression=packed)
    found = read_mat(file.getvalue(), "f")
    expected = scipy_io.loadmat(io.BytesIO(file.getvalue()))
    assert sorted(found) == ["p", "some_longer_name", "ts", "x"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name].reshape(-1, order="F"))
    with pytest.raises(DataError, match="whole MATLAB"):
        read_mat(file.getvalue()[:-3], "f")
    with pytest.raises(DataError, match="not a MATLAB"):
        read_mat(b"\x89HDF" + bytes(300), "f")
