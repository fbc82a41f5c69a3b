"""Data sets by name: `load` gives a bundle of a train and a test part and all that a run needs to know of them."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ranvier.data.samples import Samples
from ranvier.data.split import first_part
from ranvier.errors import ArgumentError, DataError, nearest
from ranvier.registry import Registry

if TYPE_CHECKING:
    from ranvier.data.text.tokenizers import Tokenizer

Kind = Literal["static", "event", "sequence", "text", "points", "voxels"]
Task = Literal["classification", "segmentation", "detection"]


@dataclass(frozen=True)
class Parts:
    """What the loader of a data set returns. `content` identifies the samples, wherever and however they lie."""

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    content: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    validation: Samples | None = None
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class DataBundle:
    """A data set, ready to train and test on.

    Attributes:
        train, test: map-style data sets of `(x, y)`, x float32 in [0, 1] (event counts may exceed it), y an int.
        input_shape: of one x, `(C, H, W)` for `kind` "static", `(T, C, H, W)` for "event", `(T, N)` for "sequence"
            (sound: N channels or features a step; real values where they are not spikes), `(T,)` for "text", whose x
            are token ids and whose y are the next ones, `(N, C)` for "points" and `(C, X, Y, Z)` for "voxels".
        classes: the name of every label, in order.
        mean, std: of the train images, a value each channel, for the direct encoder; None for events.
        version: changes when the same name would give other samples (a new split, say).
        fingerprint: SHA-256 of the samples' identity (content, version, options), equal on every machine.
        options: the options that it was loaded with, defaults included.
        validation: the part that the data set itself sets aside for selection, or None.
        tokenizer: of a text.
        task: "classification" (also of texts), or what `ranvier.data.targets` describes: "segmentation" (y is a class
            for every pixel or point) or "detection" (y is a table of boxes).
    """

    name: str
    kind: Kind
    train: Samples
    test: Samples
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    version: int
    fingerprint: str
    options: dict[str, Any]
    validation: Samples | None = None
    tokenizer: Tokenizer | None = None
    task: Task = "classification"

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


@dataclass(frozen=True)
class DatasetEntry:
    """A registered data set.

    Attributes:
        load: `load(root, **options) -> Parts`; options have defaults.
        find: `find(root) -> Path | None`: where it lies below a root folder, without reading it.
        how: what a user does to have it.
        needs_root: False for data that comes inside a package.
        places: options that say where or how to read, not what: they stay out of the fingerprint.
        build: `build(root, **options) -> Path`: makes the files of a data set that is computed from another one.
        task: what its y are, see `DataBundle`.
    """

    kind: Kind
    load: Callable[..., Parts]
    find: Callable[[Path | None], Path | None]
    how: str
    version: int = 1
    needs_root: bool = True
    places: frozenset[str] = frozenset({"path", "in_memory"})
    build: Callable[..., Path] | None = None
    task: Task = "classification"


@dataclass(frozen=True)
class DatasetInfo:
    """A line of `list_datasets`: `available` here and now, at `path`; `how` to get it; its `options` with defaults."""

    name: str
    kind: Kind
    available: bool
    path: str | None
    how: str
    version: int
    options: dict[str, Any]
    task: Task = "classification"


DATASETS: Registry[DatasetEntry] = Registry("data set")


def data_root(root: str | os.PathLike[str] | None = None) -> Path | None:
    """`root`, else the folder that the environment variable RANVIER_DATA names, else None."""
    named = root if root is not None else os.environ.get("RANVIER_DATA") or None
    return None if named is None else Path(named).expanduser()


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    **options: Any,
) -> DataBundle:
    """The data set `name`.

    Args:
        root: the folder that holds the data sets; by default the one that RANVIER_DATA names.
        train_size, test_size: use a fixed stratified part of that many samples.
        options: of the data set; see `list_datasets`.

    Raises `UnknownNameError` for an unknown name, `ArgumentError` for an unknown option (naming the nearest one), and
    `DataError` that names the file when something is missing, broken or foreign.
    """
    entry = DATASETS[name]
    defaults = _defaults(entry)
    for option in options:
        if option not in defaults:
            raise ArgumentError(
                f"data set {name!r} takes no option {option!r}{nearest(option, [*defaults, 'train_size', 'test_size'])}"
            )
    folder = data_root(root)
    if entry.needs_root and folder is None and options.get("path") is None:
        raise DataError(
            f"data set {name!r} needs its folder: pass root=... (--data-root), or set RANVIER_DATA. {entry.how}"
        )
    if entry.needs_root and folder is not None and not folder.is_dir():
        raise DataError(f"data set {name!r}: the data folder {folder} does not exist. {entry.how}")
    parts = entry.load(folder, **options)
    resolved = {**defaults, **options}
    identity = {key: value for key, value in resolved.items() if key not in entry.places}
    identity |= {"train_size": train_size, "test_size": test_size}
    record = [name, entry.version, parts.content, sorted(identity.items())]
    train = first_part(parts.train, train_size, "train_size")
    return DataBundle(
        name=name, kind=entry.kind, train=train, test=first_part(parts.test, test_size, "test_size"),
        input_shape=tuple(train[0][0].shape), classes=parts.classes, mean=parts.mean, std=parts.std,
        version=entry.version, fingerprint=hashlib.sha256(json.dumps(record, default=list).encode()).hexdigest(),
        options={**resolved, "train_size": train_size, "test_size": test_size}, validation=parts.validation,
        tokenizer=parts.tokenizer, task=entry.task,
    )  # fmt: skip


def build(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Path:
    """Make the files of a data set that is computed from another one; returns where they are.

    Args:
        root: the folder that holds the data sets; by default the one that RANVIER_DATA names.
        progress: called with how much is done and how much there is.
        options: of the data set's builder. What has been built with them before is not built again.
    """
    entry = DATASETS[name]
    if entry.build is None:
        able = ", ".join(sorted(n for n, e in DATASETS.items() if e.build is not None))
        raise ArgumentError(f"data set {name!r} is not computed from another one; those that are: {able}. {entry.how}")
    known = [p for p in list(inspect.signature(entry.build).parameters)[1:] if p != "progress"]
    for option in options:
        if option not in known:
            raise ArgumentError(f"building {name!r} takes no option {option!r}{nearest(option, known)}")
    return entry.build(data_root(root), progress=progress, **options)


def list_datasets(root: str | os.PathLike[str] | None = None) -> list[DatasetInfo]:
    """Every registered data set, with whether it is available below `root` (by default RANVIER_DATA). Reads no data."""
    folder = data_root(root)
    infos: list[DatasetInfo] = []
    for name, entry in sorted(DATASETS.items()):
        path = entry.find(folder)
        infos.append(DatasetInfo(
            name=name, kind=entry.kind, available=path is not None or not entry.needs_root,
            path=None if path is None else str(path), how=entry.how, version=entry.version, options=_defaults(entry),
            task=entry.task,
        ))  # fmt: skip
    return infos


def _defaults(entry: DatasetEntry) -> dict[str, Any]:
    parameters = list(inspect.signature(entry.load).parameters.values())[1:]  # the first one is root
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def located(name: str, root: Path | None, path: str | os.PathLike[str] | None) -> Path:
    """Where data set `name` lies: at `path` (below `root` unless absolute), else where its `find` sees it."""
    entry = DATASETS[name]
    if path is not None:
        given = Path(path).expanduser()
        found = given if root is None or given.is_absolute() else root / given
        if not found.exists():
            raise DataError(f"data set {name!r}: {found} does not exist. {entry.how}")
        return found
    found = entry.find(root)
    if found is None:
        raise DataError(f"data set {name!r} is not in {root}. {entry.how}")
    return found


def first_existing(root: Path | None, *names: str) -> Path | None:
    """The first of `names` that exists below `root`."""
    if root is None:
        return None
    return next((root / name for name in names if (root / name).exists()), None)
