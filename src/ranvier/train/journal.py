"""`metrics.jsonl`: one line of JSON an entry, cut back to the checkpoint when a run is continued."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from ranvier.extras import require
from ranvier.train.files import RunError, explained

EPOCH_PREFIX = "epoch"


class Journal:
    """Appends entries; without a path it writes nothing (the other processes of a run).

    The file holds no times, so that two runs of one recipe give the same bytes. With `tensorboard` the numbers of each
    entry also go to event files in that folder.
    """

    def __init__(self, path: Path | None, size: int, tensorboard: Path | None = None, step: int = 0) -> None:
        self._path = path
        self._file = None
        self._board: Any = None
        if path is None:
            return
        with explained(f"write {path}"):
            self._file = open(path, "ab")  # noqa: SIM115  (closed in __exit__)
            if self._file.tell() > size:
                self._file.truncate(size)
                self._file.seek(0, os.SEEK_END)
        if tensorboard is not None:
            writer = require("torch.utils.tensorboard", extra="tensorboard").SummaryWriter
            self._board = writer(str(tensorboard), purge_step=step)

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry and hand it to the system, so that a reader sees it at once."""
        if self._file is None:
            return
        with explained(f"write {self._path}"):
            self._file.write((json.dumps(entry, allow_nan=False) + "\n").encode())
            self._file.flush()
        if self._board is not None:
            group = "epoch" if EPOCH_PREFIX in entry else "step"
            for key, value in entry.items():
                if isinstance(value, int | float) and key not in ("step", EPOCH_PREFIX):
                    self._board.add_scalar(f"{group}/{key}", value, entry["step"])

    def sync(self) -> int:
        """Make what was written survive a power cut; returns the size, which belongs in the checkpoint."""
        if self._file is None:
            return 0
        with explained(f"write {self._path}"):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The entries of a `metrics.jsonl` but a line that is still being written; `RunError` names one that is damaged."""
    with explained(f"read {path}"):
        lines = path.read_bytes().split(b"\n")[:-1]
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: line {number} is damaged ({error})") from error
        if not isinstance(entry, dict):
            raise RunError(f"{path}: line {number} is not an entry of a run")
        entries.append(entry)
    return entries
