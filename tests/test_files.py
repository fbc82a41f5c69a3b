"""A file is there whole or as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ranvier.files import replacing, write_bytes


def test_what_was_written_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_bytes(path, b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new and longer")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent and temporary.name.startswith(".") and temporary.suffix == ".tmp"
    assert path.read_bytes() == b"new and longer"
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "result.json"
    write_bytes(path, b"old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "plain").touch()
        write_bytes(tmp_path / "replaced", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_folder_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "file", b"")
