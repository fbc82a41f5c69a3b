from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.data.archive import Archive, stamp
from ranvier.data.cache import cache_folder, cache_key, keep, lookup
from ranvier.data.images import decode
from ranvier.errors import DataError


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# Archive


def test_a_folder_and_a_zip_of_it_read_the_same(tmp_path: Path, write_zip: Callable[..., Path]) -> None:
    for name in ("train/a/1.bin", "train/b/2.bin", "test/a/1.bin"):
        put(tmp_path / "set" / name, name.encode())
    for clutter in (".DS_Store", "train/a/.hidden", "__MACOSX/train/a/1.bin", "train/Thumbs.db"):
        put(tmp_path / "set" / clutter)
    folder = Archive(tmp_path / "set")
    packed = Archive(write_zip(tmp_path / "set", tmp_path / "set.zip"))
    topped = Archive(write_zip(tmp_path / "set", tmp_path / "top.zip", top="set-1.0/"))
    names = ["test/a/1.bin", "train/a/1.bin", "train/b/2.bin"]
    for archive in (folder, packed):
        assert list(archive.members) == names
        assert [archive.read(name) for name in names] == [name.encode() for name in names]
        assert archive.content(names) == folder.content(names)
    # __MACOSX lies beside the top folder in real archives and inside it here; both are left out.
    assert list(topped.members) == names and topped.content(names) == folder.content(names)
    assert topped.where(names[0]).endswith("top.zip/set-1.0/test/a/1.bin")


def test_an_archive_can_be_sent_to_another_process(tmp_path: Path, write_zip: Callable[..., Path]) -> None:
    put(tmp_path / "set/train/a/1.bin", b"hello")
    archive = Archive(write_zip(tmp_path / "set", tmp_path / "set.zip"))
    archive.read("train/a/1.bin")
    assert pickle.loads(pickle.dumps(archive)).read("train/a/1.bin") == b"hello"


@pytest.mark.parametrize("name", ["../evil", "train/../../evil", "/etc/passwd", "C:/evil", "train\\..\\evil"])
def test_members_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as out:
        out.writestr(name, "x")
    with pytest.raises(DataError, match=r"evil.zip: member .* leads out"):
        Archive(tmp_path / "evil.zip")


def test_broken_zips_are_named(tmp_path: Path, write_zip: Callable[..., Path]) -> None:
    put(tmp_path / "set/train/a/1.bin", bytes(range(256)) * 20)
    whole = write_zip(tmp_path / "set", tmp_path / "whole.zip").read_bytes()
    put(tmp_path / "cut.zip", whole[:-30])
    put(tmp_path / "text.zip", b"<html>404</html>")
    put(tmp_path / "none.zip", b"")
    for name in ("cut.zip", "text.zip", "none.zip"):
        with pytest.raises(DataError, match=f"{name}: is not a whole zip"):
            Archive(tmp_path / name)
    put(tmp_path / "flipped.zip", whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(DataError, match=r"flipped.zip/train/a/1.bin: cannot be read: Bad CRC"):
        Archive(tmp_path / "flipped.zip").read("train/a/1.bin")


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such"):
        Archive(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no files"):
        Archive(tmp_path / "empty")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "set/train/a/1.bin", b"one")
    put(tmp_path / "elsewhere/2.bin", b"two")
    (tmp_path / "set/train/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/test").mkdir()
    (tmp_path / "set/test/loop").symlink_to(tmp_path / "set")
    archive = Archive(tmp_path / "set")
    assert list(archive.members) == ["train/a/1.bin", "train/b/2.bin"] and archive.read("train/b/2.bin") == b"two"
    (tmp_path / "set/train/gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"set: cannot be listed: .*gone"):
        Archive(tmp_path / "set")


def test_stamp_follows_the_files(tmp_path: Path) -> None:
    put(tmp_path / "set/a.bin", b"1234")
    first = stamp(tmp_path / "set")
    assert stamp(tmp_path / "set") == first
    put(tmp_path / "set/a.bin", b"12345")
    assert stamp(tmp_path / "set") != first
    put(tmp_path / "one.zip", b"1234")
    first = stamp(tmp_path / "one.zip")
    put(tmp_path / "one.zip", b"1235")
    assert stamp(tmp_path / "one.zip") != first


# Cache


def test_cache_returns_what_was_kept_and_shares_it(own_cache: Path) -> None:
    key = cache_key("a", 1)
    assert lookup("kind", key) is None
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    keep("kind", key, {"x": array}, {"classes": ["a"]})
    arrays, notes = lookup("kind", key) or pytest.fail("nothing kept")
    assert isinstance(arrays["x"], np.memmap) and np.array_equal(arrays["x"], array) and notes == {"classes": ["a"]}
    arrays["x"][0] = 9  # copy on write: the file stays as it is
    again = lookup("kind", key)
    assert again is not None and np.array_equal(again[0]["x"], array)
    assert lookup("kind", cache_key("a", 2)) is None
    assert not list(own_cache.rglob("*.tmp"))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest", "foreign"])
def test_damage_to_the_cache_is_noticed(own_cache: Path, damage: str) -> None:
    keep("kind", "k", {"x": np.arange(100)}, {})
    (file,) = own_cache.rglob("x.npy")
    manifest = file.parent / "manifest.json"
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(data[:-8])
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-9])
    else:
        manifest.write_text(json.dumps({"arrays": {"x": 3}, "notes": {}}))
    assert lookup("kind", "k") is None


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="RANVIER_CACHE"):
        arrays, _ = keep("kind", "k", {"x": np.arange(3)}, {})
    assert arrays["x"].tolist() == [0, 1, 2]


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANVIER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.join("somewhere", "else"))
    assert cache_folder() == Path("somewhere/else/ranvier")


# Images


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def test_decode_gives_channels_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    assert np.array_equal(decode(encoded(pixels), "x"), pixels.transpose(2, 0, 1))
    grey = decode(encoded(pixels[..., 0]), "x", channels=1)
    assert np.array_equal(grey, pixels[None, ..., 0])
    assert np.array_equal(decode(encoded(pixels[..., 0]), "x"), np.repeat(grey, 3, 0))


def test_decode_resizes_the_short_side_and_cuts_the_centre() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (decode(encoded(pixels), "x", size=10) == 200).all()
    assert decode(encoded(pixels), "x", size=5).shape == (3, 5, 5)
    assert decode(encoded(pixels), "x", size=17).shape == (3, 17, 17)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_names_what_is_not_a_whole_image(kind: str) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), kind)
    for bad in (data[: len(data) // 2], data[:20], b"", b"not an image"):
        with pytest.raises(DataError, match="folder/picture: is not a whole image"):
            decode(bad, "folder/picture")
