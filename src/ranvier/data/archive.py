"""A tree of files that lives in a folder or in a zip, read the same way and never unpacked."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ranvier.errors import DataError

SPLITS = {"train", "test", "val", "Train", "Test"}
LARGEST_MEMBER = 1 << 30  # bytes; no sample is larger, so a bigger one is a bomb or a foreign file
_HASHED_WHOLE = 4 << 30
# Hidden files, resource forks and thumbnails that desktops leave behind.
_CLUTTER = re.compile(r"(^|/)(\.|__MACOSX/|(thumbs\.db|desktop\.ini)$)", re.IGNORECASE)


class Member(NamedTuple):
    """A file in the tree: its path in it (with `/`), its size in bytes and the CRC-32 that the zip declares."""

    name: str
    size: int
    crc: int | None


class Archive:
    """The files below a folder or in a zip, in `members` by path, sorted. A single top folder around all is left out.

    Raises `DataError` for a path that is missing, a file that is no zip, or a zip whose members lead out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        if path.is_dir():
            found = list(_walk(path))
        elif path.is_file():
            found = self._listing()
        else:
            raise DataError(f"{path}: there is no such folder or zip file")
        self.is_zip = path.is_file()
        if not found:
            raise DataError(f"{path}: holds no files")
        self.prefix = _shared_prefix(found)
        cut = len(self.prefix)
        self.members = {m.name[cut:]: Member(m.name[cut:], m.size, m.crc) for m in sorted(found)}

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked against its CRC in a zip. Raises `DataError` when it cannot be read whole."""
        member = self.members.get(name)
        if member is None:
            raise DataError(f"{self.path}: has no member {name!r}")
        if member.size > LARGEST_MEMBER:
            raise DataError(f"{self.where(name)}: {member.size} bytes is more than any sample has")
        try:
            if not self.is_zip:
                return (self.path / (self.prefix + name)).read_bytes()
            return self._opened().read(self.prefix + name)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.where(name)}: cannot be read: {error}") from error

    def where(self, name: str) -> str:
        """The full path of a member, for messages."""
        return f"{self.path}/{self.prefix}{name}"

    def content(self, names: Iterable[str], read: bool = True) -> str:
        """Digest of paths, sizes and CRC-32 of the members `names`: equal for a folder and a zip of the same files.

        A folder has to be read for it; `read=False` leaves the CRC out there.
        """
        digest = hashlib.sha256()
        for name in names:
            member = self.members[name]
            crc = zlib.crc32(self.read(name)) if member.crc is None and read else member.crc
            digest.update(f"{name}\0{member.size}\0{crc}\n".encode())
        return digest.hexdigest()

    def _listing(self) -> list[Member]:
        members: list[Member] = []
        for info in self._opened().infolist():
            name = info.filename
            if "\\" in name or name.startswith("/") or name[1:2] == ":" or "/../" in f"/{name}/":
                raise DataError(f"{self.path}: member {name!r} leads out of the zip; refused")
            if not name.endswith("/") and not _CLUTTER.search(name):
                members.append(Member(name, info.file_size, info.CRC))
        return members

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None or self._pid != os.getpid():  # a forked process must not share the file position
            try:
                self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise DataError(f"{self.path}: is not a whole zip file: {error}") from error
        return self._zip

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}


def stamp(path: Path) -> str:
    """Digest that changes when the folder or zip does: of the bytes of a file (listing, above 4 GiB), and of the
    paths, sizes and times of change in a folder. Quicker than opening a zip of many files."""
    if path.is_file() and path.stat().st_size <= _HASHED_WHOLE:
        try:
            with path.open("rb") as file:
                return f"{hashlib.file_digest(file, 'sha256').hexdigest()} {path.stat().st_size}"
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
    archive = Archive(path)
    lines: list[str] = []
    for name, size, crc in archive.members.values():
        changed = 0 if archive.is_zip else (path / (archive.prefix + name)).stat().st_mtime_ns
        lines.append(f"{name}\0{size}\0{crc}\0{changed}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _walk(root: Path) -> Iterable[Member]:
    seen: set[str] = set()
    try:
        for folder, below, names in os.walk(root, followlinks=True, onerror=_raise):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back up
                below.clear()
                continue
            seen.add(real)
            base = Path(folder).relative_to(root)
            for name in names:
                path = (base / name).as_posix()
                if not _CLUTTER.search(path):
                    yield Member(path, (root / path).stat().st_size, None)
    except OSError as error:
        raise DataError(f"{root}: cannot be listed: {error}") from error


def _raise(error: OSError) -> None:
    raise error


def _shared_prefix(members: list[Member]) -> str:
    """`"top/"` when everything lies in one folder `top`, which itself holds folders; else an empty string."""
    tops = {m.name.split("/", 1)[0] for m in members}
    deep = all(m.name.count("/") >= 2 for m in members)
    return f"{tops.pop()}/" if len(tops) == 1 and deep and not tops & SPLITS else ""
