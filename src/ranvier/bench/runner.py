"""Run a suite: finished cells are skipped by content hash, failed ones do not stop the others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exception
from typing import Literal, Protocol

from ranvier.bench import progress as progress_bars
from ranvier.bench.manifest import MANIFEST, Manifest, read_manifest
from ranvier.bench.result import Failure, Result, read_result, write_json, write_text
from ranvier.bench.suite import Cell, Suite, expand, load_suite
from ranvier.errors import ArgumentError, ConfigError, DataError, RanvierError, nearest
from ranvier.measure.machine import available_cores
from ranvier.train.files import explained

RunnerName = Literal["process", "inline", "ray"]


class CellError(RanvierError):
    """A cell failed; carries the traceback of the process it ran in."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class Execute(Protocol):
    """Trains and measures one cell, writes its result file, and raises `CellError` when it fails."""

    def __call__(self, cell: Cell, out: Path, threads: int, stop: threading.Event) -> None: ...


@dataclass
class BenchResult:
    """What a run left behind."""

    out: Path
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    skipped: int = 0
    ran: int = 0
    interrupted: bool = False
    wall_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 when every cell has a result, 1 when one failed, 130 after Ctrl-C."""
        return 130 if self.interrupted else 1 if self.failures else 0


def run(
    suite: str | Path | Suite,
    out: str | Path,
    workers: int | None = None,
    *,
    runner: RunnerName = "process",
    only: Sequence[str] | None = None,
    threads: int | None = None,
    show_progress: bool = True,
) -> BenchResult:
    """Train and measure every cell of `suite` that `out` has no result for yet.

    `workers` cells run at a time (default: as many as the machine holds at the suite's `threads`), each in a process
    of its own with `threads` threads (default: the cores shared out evenly); `runner="inline"` stays in this process,
    `"ray"` uses Ray. `only` keeps the models with these labels. Ctrl-C stops the running cells at their next
    checkpoint; the same call later goes on from there. On Ray a cell whose worker dies is tried again.

    Raises `ConfigError` for a bad suite (before anything is trained) and `ArgumentError` for a bad argument.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers: expected at least 1, got {workers}")
    if threads is not None and threads < 1:
        raise ArgumentError(f"threads: expected at least 1, got {threads}")
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    cells = _selected(expand(loaded), only)
    workers, share = _places(runner, workers, threads, loaded.threads)
    folder = Path(out)
    _make_folder(folder)
    started = time.monotonic()
    with _locked(folder):
        done = {cell.run_id for cell in cells if finished(cell, folder)}
        pending = [cell for cell in cells if cell.run_id not in done]
        source = loaded.name if isinstance(suite, Suite) else str(suite)
        _write_manifest(folder, loaded, source, cells, None)
        outcome = BenchResult(folder, skipped=len(done))
        for cell in pending:
            _write_recipe(folder, cell)
        with progress_bars.shown(loaded, folder, len(cells), len(done), enabled=show_progress) as bars:
            _run_all(pending, folder, workers, share, _execute_of(runner), bars, outcome)
        outcome.wall_s = time.monotonic() - started
        _write_manifest(folder, loaded, source, cells, outcome.wall_s if pending else _last_wall(folder))
    outcome.results = [result for cell in cells if (result := _stored(cell, folder)) is not None]
    return outcome


def _places(runner: str, workers: int | None, threads: int | None, wanted: int | None) -> tuple[int, int]:
    """How many cells run at a time, and the threads of each: as the machine holds them, or the cluster."""
    if runner == "ray":
        from ranvier.bench.ray_cluster import capacity

        share = threads or wanted or 1
        return workers or capacity(share), share
    cores = available_cores()
    workers = workers or max(1, cores // (threads or wanted or cores))
    return workers, threads or max(1, cores // workers)


def result_path(cell: Cell, out: Path) -> Path:
    """Where the result of a cell lies."""
    return out / "results" / f"{cell.run_id}.json"


def finished(cell: Cell, out: Path) -> bool:
    """Whether `out` holds a valid result of exactly this cell; a damaged file counts as none."""
    return _stored(cell, out) is not None


def _stored(cell: Cell, out: Path) -> Result | None:
    path = result_path(cell, out)
    if not path.exists():
        return None
    try:
        result = read_result(path)
    except DataError:
        return None
    return result if result.config_hash == cell.config_hash else None


def _selected(cells: list[Cell], only: Sequence[str] | None) -> list[Cell]:
    if not only:
        return cells
    labels = {cell.label for cell in cells}
    for label in only:
        if label not in labels:
            raise ConfigError(f"only: the suite has no model {label!r}{nearest(label, labels)}")
    return [cell for cell in cells if cell.label in only]


def _run_all(
    pending: Sequence[Cell], out: Path, workers: int, threads: int, execute: Execute,
    bars: progress_bars.Bars, outcome: BenchResult,
) -> None:  # fmt: skip
    stop = threading.Event()

    def one(cell: Cell) -> None:
        if stop.is_set():
            return
        bars.start(cell)
        execute(cell, out, threads, stop)

    if execute is _inline:
        workers = 1
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="ranvier-bench")
    try:
        if execute is _inline:  # in the main thread, where Ctrl-C arrives
            for cell in pending:
                _settle(cell, lambda cell=cell: one(cell), out, bars, outcome)
            return
        futures: dict[Future[None], Cell] = {pool.submit(one, cell): cell for cell in pending}
        waiting = set(futures)
        while waiting:
            ended, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                _settle(futures[future], future.result, out, bars, outcome)
            bars.poll()
    except KeyboardInterrupt:
        outcome.interrupted = True
        stop.set()
        bars.say("Stopping: the running cells keep their last checkpoint. Run the same command to go on.")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _settle(cell: Cell, ended: Callable[[], None], out: Path, bars: progress_bars.Bars, outcome: BenchResult) -> None:
    path = out / "errors" / f"{cell.run_id}.json"
    try:
        ended()
        if _stored(cell, out) is None:
            raise CellError("the cell ended without a valid result file")
    except KeyboardInterrupt:
        raise
    except Exception as error:
        failure = Failure(
            run_id=cell.run_id, created=now(), label=cell.label, task=cell.task, seed=cell.seed,
            error=f"{error}" if isinstance(error, RanvierError) else f"{type(error).__name__}: {error}",
            traceback=error.trace if isinstance(error, CellError) else "".join(format_exception(error)),
        )  # fmt: skip
        write_json(path, failure.model_dump(mode="json"))
        outcome.failures.append(failure)
        bars.failed(cell, failure.error)
        return
    path.unlink(missing_ok=True)
    outcome.ran += 1
    bars.finished(cell)


def _execute_of(runner: str) -> Execute:
    if runner == "process":
        from ranvier.bench.process import in_process

        return in_process
    if runner == "ray":
        from ranvier.bench.ray_cluster import on_ray

        return on_ray
    if runner == "inline":
        return _inline
    raise ArgumentError(f"runner: unknown runner {runner!r}{nearest(runner, ['process', 'inline', 'ray'])}")


def _inline(cell: Cell, out: Path, threads: int, stop: threading.Event) -> None:
    from ranvier.bench.cell import execute

    execute(cell, out, threads)


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"out: cannot make the folder {folder} ({error.strerror})") from error


def _write_manifest(folder: Path, suite: Suite, source: str, cells: Sequence[Cell], wall_s: float | None) -> None:
    manifest = Manifest(
        name=suite.name, version=suite.version, title=suite.title, description=suite.description,
        budget_minutes=suite.budget_minutes, source=source, run_ids=[cell.run_id for cell in cells],
        wall_s=wall_s if wall_s is not None else _last_wall(folder),
    )  # fmt: skip
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def _last_wall(folder: Path) -> float | None:
    try:
        manifest = read_manifest(folder)
    except DataError:
        return None
    return manifest.wall_s if manifest else None


def _write_recipe(folder: Path, cell: Cell) -> None:
    import yaml

    text = f"# {cell.task}@{cell.task_version}\n" + yaml.safe_dump(cell.recipe, sort_keys=False, allow_unicode=True)
    write_text(folder / "recipes" / f"{cell.run_id}.yaml", text)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two runs into one folder would overwrite each other's checkpoints; the second is refused."""
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    with explained(f"write in {folder}"):
        lock = open(folder / ".lock", "w")  # noqa: SIM115  (closed by the next line)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"out: another run is writing to {folder}; wait for it or choose another folder"
            ) from None
        yield
