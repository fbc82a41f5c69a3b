"""Reading HDF5 files that nobody vouches for.

The HDF5 library trusts what it reads: a damaged length makes it take gigabytes or end the process, an unused object of
a heap without a length makes it loop for ever, and a file may point to others. So sizes are compared with the file
before anything is read, and lists of varying length are taken from their heaps here.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import DataError
from ranvier.extras import require

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_COLLECTION = struct.Struct("<8sQ")
_OBJECT = struct.Struct("<HHIQ")
_LIST = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # a list of varying length in a dataset
_DEFLATED = 1040  # the most that deflate makes of a byte
_FEW = 2**20  # bytes that a dataset may have without being stored (its fill value)

Bytes = bytes | mmap.mmap


@contextmanager
def mapped(source: Path | bytes, where: str) -> Iterator[Bytes]:
    """The content of `source`; `DataError` naming `where` for a file that cannot be read."""
    if isinstance(source, bytes):
        yield source
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error}") from error
    with file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise DataError(f"{where}: cannot be read: {error}") from error
        yield data  # closed with the last array that shows it


def check_start(data: Bytes, where: str) -> None:
    """Raise `DataError` for a file of another driver than the usual one, whose block the library believes."""
    offset = {0: 48, 1: 52}.get(data[8]) if len(data) > 60 and data[:8] == b"\x89HDF\r\n\x1a\n" else None
    if offset is not None and data[offset : offset + 8] != b"\xff" * 8:
        raise DataError(f"{where}: is a damaged HDF5 file, or one of several parts")


def check_heaps(source: Path | bytes, where: str) -> None:
    """Raise `DataError` naming `where` when objects of a global heap do not fill it one after the other.

    Lists of varying length and texts lie in such heaps.
    """
    with mapped(source, where) as data:
        check_start(data, where)
        start = data.find(_SIGNATURE)
        while start >= 0:
            end = start
            if len(data) - start >= _COLLECTION.size:
                for place, step, _ in _objects(data, start, where):
                    end = place + step
            start = data.find(_SIGNATURE, max(end, start + 8))


def _objects(data: Bytes, start: int, where: str) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Place, size in the heap, and (number, length) of the objects of the collection at `start`."""
    size = _COLLECTION.unpack_from(data, start)[1]
    place, end = start + _COLLECTION.size, start + min(size, len(data) - start)
    while place + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(data, place)
        step = _OBJECT.size + length + -length % 8 if index else length
        if step < _OBJECT.size or place + step > end:
            raise DataError(f"{where}: is a damaged HDF5 file: an object of {length} bytes at byte {place}")
        yield place, step, (index, length)
        place += step


def dataset(file: Any, name: str, where: str) -> Any:
    """The dataset `name` of an open file, whose values lie in this file. Raises `DataError` for any other."""
    import h5py

    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{where}: has no dataset {name!r}")
    if found.external or found.is_virtual or found.file.id != file.id:
        raise DataError(f"{where}: {name!r} points to another file")
    return found


def numbers(file: Any, name: str, where: str, kinds: str = "iuf") -> NDArray[Any]:
    """The numbers of a dataset whose `dtype.kind` is one of `kinds`; `DataError` if there are more than are stored."""
    found = dataset(file, name, where)
    wide = found.dtype.kind == "f" and found.dtype.itemsize > 8  # nothing computes with them
    if found.dtype.kind not in kinds or found.dtype.subdtype is not None or wide:
        raise DataError(f"{where}: {name!r} must hold numbers, got {found.dtype}")
    _check_size(found, name, where)
    return np.asarray(found[()])


def _check_size(found: Any, name: str, where: str) -> None:
    needed, stored = int(found.size or 0) * found.dtype.itemsize, int(found.id.get_storage_size())
    packed = found.id.get_create_plist().get_nfilters() > 0
    if needed > max(stored * (_DEFLATED if packed else 1), _FEW):
        raise DataError(f"{where}: {name!r} says it has {needed} bytes, but {stored} are stored")


def tree(file: Any, name: str, data: Bytes, where: str) -> dict[str, Any]:
    """A group with all that it holds, as nested dictionaries of numbers, arrays and texts (arrays of texts: of bytes).

    Raises `DataError` naming `where` for anything else, for names that come twice, and for groups inside themselves.
    """
    h5py: Any = require("h5py", extra="export")

    seen: set[int] = set()

    def read(path: str) -> dict[str, Any]:
        group = file.get(path)
        if not isinstance(group, h5py.Group) or group.file.id != file.id:
            raise DataError(f"{where}: has no group {path!r} of its own")
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:
            raise DataError(f"{where}: is a damaged HDF5 file: {path!r} stands in it twice")
        seen.add(place)
        found: dict[str, Any] = {}
        for key in map(str, group):  # of a damaged group the library may list names for ever
            if key in found:
                raise DataError(f"{where}: is a damaged HDF5 file: {path!r} lists {key!r} twice")
            inner = f"{path}/{key}"
            if isinstance(file.get(inner), h5py.Group):
                found[key] = read(inner)
            else:
                value = _values(inner)
                found[key] = value.decode() if isinstance(value, bytes) else value
        return found

    def _values(path: str) -> Any:
        if dataset(file, path, where).dtype.kind != "O":
            return numbers(file, path, where, "biufcS")[()]
        texts = Lists(file, path, data, where, texts=True)
        every = [texts[i].tobytes() for i in range(len(texts))]
        if texts.shape == ():
            return every[0]
        made = np.empty(len(every), object)
        made[:] = every
        return made.reshape(texts.shape)

    return read(name)


class Lists:
    """A dataset of lists of varying length, read without trusting what it says.

    Args:
        file: the open file.
        name: of the dataset.
        data: content of the file.
        where: the name of the file in errors.
        texts: the lists are texts; else numbers of the dataset's type.

    A dataset of several axes is read row by row.
    """

    def __init__(self, file: Any, name: str, data: Bytes, where: str, texts: bool = False) -> None:
        import h5py

        found = dataset(file, name, where)
        if texts:
            info = h5py.check_string_dtype(found.dtype)
            kind = None if info is None or info.length is not None else np.uint8
        else:
            kind = h5py.check_vlen_dtype(found.dtype)
        if kind is None or np.dtype(kind).kind not in "fiu" or found.shape is None:
            what = "texts" if texts else "one list of numbers a recording"
            raise DataError(f"{where}: {name!r} must be {what}, got {found.dtype} {found.shape}")
        if file.id.get_create_plist().get_sizes() != (8, 8) or file.userblock_size:
            raise DataError(f"{where}: has addresses of another size than 8 bytes, or a user block")
        self.dtype: np.dtype[Any] = np.dtype(kind)
        self.shape: tuple[int, ...] = found.shape
        self._data, self._where, self._name = data, where, name
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._entries = self._listed(found)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, i: int) -> NDArray[Any]:
        """List `i`."""
        length, heap, index = self._entries[i].tolist()
        if not length:
            return np.empty(0, self.dtype)
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        place, stored = self._heaps[heap].get(index, (0, -1))
        if stored != length * self.dtype.itemsize:
            raise self._damaged(f"list {i} of {length} entries is not where it should be")
        return np.frombuffer(self._data, self.dtype, length, place)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._where}: is a damaged HDF5 file: {self._name!r}: {what}")

    def _heap(self, at: int) -> dict[int, tuple[int, int]]:
        """Where the objects of a heap lie, and their lengths, by number."""
        if at + _COLLECTION.size > len(self._data) or self._data[at : at + 8] != _SIGNATURE:
            raise self._damaged(f"there is no heap at byte {at}")
        return {
            index: (place + _OBJECT.size, length) for place, _, (index, length) in _objects(self._data, at, self._where)
        }

    def _listed(self, found: Any) -> NDArray[Any]:
        """The entries of the dataset: length, heap and number of every list."""
        count, plist = int(found.size), found.id.get_create_plist()
        if found.chunks is None:
            at = found.id.get_offset() if found.id.get_storage_size() else None
            if at is None and count == 0:
                return np.empty(0, _LIST)
            if at is None or at + count * _LIST.itemsize > len(self._data):
                raise self._damaged(f"{count} lists are not in the file")
            return np.frombuffer(self._data, _LIST, count, at)
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        width, chunks = math.prod(found.chunks), found.id.get_num_chunks()
        padded = tuple(-(-n // c) * c for n, c in zip(found.shape, found.chunks, strict=True))
        if math.prod(padded) > chunks * width:
            raise self._damaged(f"{count} lists in {chunks} chunks of {width}")
        made = np.zeros(padded, _LIST)
        for i in range(chunks):
            info = found.id.get_chunk_info(i)
            content = self._data[info.byte_offset : info.byte_offset + info.size]
            for place, code in reversed(list(enumerate(filters))):
                if not info.filter_mask >> place & 1:  # else left out for this chunk
                    content = self._unfiltered(code, content, width * _LIST.itemsize)
            part = made[tuple(slice(o, o + c) for o, c in zip(info.chunk_offset, found.chunks, strict=True))]
            if part.shape != found.chunks or len(content) != width * _LIST.itemsize:
                raise self._damaged(f"a chunk of {len(content)} bytes at list {info.chunk_offset}")
            part[...] = np.frombuffer(content, _LIST).reshape(part.shape)
        return made[tuple(slice(n) for n in found.shape)].reshape(-1)

    def _unfiltered(self, code: int, content: bytes, size: int) -> bytes:
        import zlib

        import h5py

        if code == h5py.h5z.FILTER_DEFLATE:
            try:
                return zlib.decompressobj().decompress(content, size)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
        if code == h5py.h5z.FILTER_SHUFFLE:
            whole = np.frombuffer(content, np.uint8)
            if whole.size != size:
                raise self._damaged(f"a chunk of {whole.size} bytes instead of {size}")
            return whole.reshape(_LIST.itemsize, -1).T.tobytes()
        raise DataError(f"{self._where}: {self._name!r} is stored with filter {code}; deflate and shuffle are read")
