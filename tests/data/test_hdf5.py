"""HDF5 files that nobody vouches for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranvier.data.hdf5 import Lists, check_start, numbers, tree
from ranvier.errors import DataError

h5py: Any = pytest.importorskip("h5py")


@pytest.mark.parametrize(
    "how",
    [{}, {"chunks": (4,)}, {"chunks": (4,), "compression": "gzip"},
     {"chunks": (3,), "compression": "gzip", "shuffle": True}, {"chunks": (8,), "maxshape": (None,)}],
    ids=str,
)  # fmt: skip
def test_lists_are_those_of_the_library(how: dict[str, Any]) -> None:
    made, rng = io.BytesIO(), np.random.default_rng(0)
    with h5py.File(made, "w") as file:
        data = file.create_dataset("a/b", 11, h5py.vlen_dtype(np.dtype("<f4")), **how)
        names = file.create_dataset("names", 11, h5py.string_dtype(), **how)
        for i in range(11):
            data[i] = rng.random(rng.integers(0, 900))  # more than one heap
            names[i] = "ä" * i
    content = made.getvalue()
    with h5py.File(io.BytesIO(content)) as file:
        lists, texts = Lists(file, "a/b", content, "here"), Lists(file, "names", content, "here", texts=True)
        assert len(lists) == len(texts) == 11
        for i, (want, text) in enumerate(zip(file["a/b"], file["names"], strict=True)):
            np.testing.assert_array_equal(lists[i], want)
            assert texts[i].tobytes() == text


def test_entries_that_lie_about_their_length() -> None:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.create_dataset("a", 3, h5py.vlen_dtype(np.uint16))[0] = np.arange(5)
    content = bytearray(made.getvalue())
    with h5py.File(io.BytesIO(bytes(content))) as file:
        at = file["a"].id.get_offset()
        content[at : at + 4] = (2**30).to_bytes(4, "little")
        with pytest.raises(DataError, match="list 0 of 1073741824 entries"):
            _ = Lists(file, "a", bytes(content), "here")[0]


def test_sizes_are_those_of_the_file() -> None:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.create_dataset("never", (10**12,), np.float32, chunks=(1024,))
        file.create_dataset("packed", data=np.zeros(2**21, np.uint8), compression="gzip")
        file.create_dataset("texts", data=[b"a", b"b"])
    with h5py.File(made) as file:
        with pytest.raises(DataError, match="here: 'never' says it has 4000000000000 bytes, but 0 are stored"):
            numbers(file, "never", "here")
        assert numbers(file, "packed", "here").shape == (2**21,)
        with pytest.raises(DataError, match="must hold numbers"):
            numbers(file, "texts", "here")
        with pytest.raises(DataError, match="no dataset 'b'"):
            numbers(file, "b", "here")


def test_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(40))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (10,), np.int32, external=[(str(tmp_path / "secret"), 0, 40)])
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        layout = h5py.VirtualLayout((3,), np.int64)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "a.h5") as file:
        for name in ("raw", "link", "virtual"):
            with pytest.raises(DataError, match=f"'{name}' points to another file"):
                numbers(file, name, "here")


def test_a_block_of_a_driver_is_refused() -> None:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["x"] = 1
    content = bytearray(made.getvalue())
    check_start(bytes(content), "here")
    content[48:56] = (96).to_bytes(8, "little")
    with pytest.raises(DataError, match="several parts"):
        check_start(bytes(content), "here")


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"chunks": (2, 1)}], ids=str)
def test_a_tree_is_read_whole(how: dict[str, Any]) -> None:
    made = io.BytesIO()
    pairs = [[b"a", b"bcd"], [b"", b"e"], ["\u00e9".encode(), b"f"]]
    with h5py.File(made, "w") as file:
        file["node/type"] = "Graph"
        file["node/inner/weight"] = np.arange(6.0).reshape(2, 3)
        file["node/inner/flag"] = True
        file["node/inner/step"] = np.float32(0.5)
        file.create_dataset("node/edges", data=np.array(pairs, object), dtype=h5py.string_dtype(), **how)
    content = made.getvalue()
    with h5py.File(io.BytesIO(content)) as file:
        found = tree(file, "node", content, "here")
    assert found["type"] == "Graph" and found["edges"].tolist() == pairs
    assert found["inner"]["flag"] and found["inner"]["step"] == np.float32(0.5)
    np.testing.assert_array_equal(found["inner"]["weight"], np.arange(6.0).reshape(2, 3))


def test_a_tree_that_holds_itself_is_refused() -> None:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["node/a/x"] = 1
        file["node/a/b"] = file["node"]
    with h5py.File(made) as file, pytest.raises(DataError, match="stands in it twice"):
        tree(file, "node", made.getvalue(), "here")
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["node/wide"] = np.zeros(2, np.longdouble)
    with h5py.File(made) as file, pytest.raises(DataError, match="must hold numbers"):
        tree(file, "node", made.getvalue(), "here")
