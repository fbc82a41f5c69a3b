"""`fit`: a recipe becomes a run, in one process or several, from the start or from where it was stopped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ranvier.errors import ArgumentError, ConfigError, RanvierError
from ranvier.extras import only_version_of, require
from ranvier.train.files import RunError
from ranvier.train.interrupt import Interrupted, polite_stop
from ranvier.train.recipe import Recipe, TrainSection
from ranvier.train.run import RunFolder, RunResult

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(recipe: Recipe, out: str | os.PathLike[str], resume: bool = True, progress: bool = True) -> RunResult:
    """Train `recipe` in the folder `out`.

    The weights are selected on the validation part; the test part is evaluated once, at the end, with them. A run that
    was stopped (Ctrl-C, SIGTERM, SIGKILL, a crash) continues from its last checkpoint to the same bits as if it had not
    been; a finished one is not trained again. PyTorch's, NumPy's and Python's global generators are seeded.

    Args:
        resume: continue what `out` holds; False starts anew and removes it.
        progress: a bar on a terminal, else a line an epoch on standard error.

    Raises `Interrupted` after Ctrl-C or SIGTERM, `NonFiniteError` when data, loss or gradients are not finite (see
    `train.non_finite`), `ConfigError` for a recipe that does not fit the machine, the data or the folder, and
    `RunError` or `CheckpointError` when files cannot be written or read, or a process of the run is gone.
    """
    if not isinstance(recipe, Recipe):
        raise ArgumentError(f"recipe must be a Recipe, got {type(recipe).__name__}; see load_recipe and parse_recipe")
    with only_version_of("torchmetrics"):  # of which it wants no more; all of it takes longer to import than PyTorch
        require("lightning_fabric", extra="train")
    from ranvier.train.strategies import build_fabric, outer_rank

    folder = RunFolder(out)
    first = outer_rank() == 0  # of processes that torchrun or SLURM started, one writes
    finished = folder.begin(recipe, resume) if first else folder.result() if resume else None
    if finished is not None:
        return finished
    with _settings(recipe.train):
        fabric = build_fabric(recipe.train)
        world = recipe.train.devices * recipe.train.nodes
        if recipe.data.batch_size % world:
            raise ConfigError(
                f"data.batch_size {recipe.data.batch_size} cannot be shared evenly by "
                f"train.devices={recipe.train.devices}"
                + (f" on each of train.nodes={recipe.train.nodes}" if recipe.train.nodes > 1 else "")
            )
        if first:
            folder.note_environment()
        with polite_stop(), _losses(folder.out):  # a parent only waits: its processes get the signal themselves
            outcome = fabric.launch(_in_process, recipe, folder.out, progress)  # pyright: ignore[reportArgumentType]
    if isinstance(outcome, RanvierError):
        raise outcome
    result = folder.result()
    assert result is not None
    return result


def _in_process(fabric: Fabric, recipe: Recipe, out: Path, progress: bool) -> RanvierError | None:
    """One process of the run; errors of our own are handed back, so that they keep their type across processes."""
    from ranvier.train.session import Session

    if fabric.world_size > 1:
        threads = recipe.train.threads or max(1, torch.get_num_threads() // fabric.world_size)
        torch.set_num_threads(threads)
    try:
        with polite_stop() as request, warnings.catch_warnings():
            # Nothing writes into a net's outputs in place, which is what FSDP2 warns of when they are views.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            Session(fabric, recipe, RunFolder(out), request, progress).run()
    except Interrupted as error:
        return error
    except RanvierError as error:
        if fabric.world_size == 1:
            raise
        return error
    except RuntimeError as error:
        if fabric.world_size == 1 or not _of_connection(error):
            raise
        return _lost("another process of the run is gone", out, str(error))
    return None


@contextmanager
def _losses(out: Path) -> Iterator[None]:
    """A process that was killed, as one clear error; the others have been ended by then."""
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        yield
    except ProcessExitedException as error:
        how = f"by {error.signal_name}" if error.signal_name else f"with exit code {error.exit_code}"
        raise _lost(f"process {error.error_index} of the run was ended {how}", out) from None
    except ProcessRaisedException as error:
        if not _of_connection(error):
            raise
        raise _lost("a process of the run is gone", out, str(error).strip().splitlines()[-1]) from None


def _of_connection(error: BaseException) -> bool:
    """Whether a collective operation failed because of another process."""
    text = str(error).lower()
    signs = ("connection closed by peer", "connection reset", "broken pipe", "gloo", "nccl", "socket", "timed out")
    return any(sign in text for sign in signs)


def _lost(what: str, out: Path, detail: str = "") -> RunError:
    more = f" ({' '.join(detail.split())[:200]})" if detail else ""
    return RunError(f"{what}{more}; the same command continues the run in {out} from its last checkpoint")


@contextmanager
def _settings(train: TrainSection) -> Iterator[None]:
    """Threads and determinism of PyTorch for the block."""
    threads = torch.get_num_threads()
    before: tuple[Any, ...] = (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )  # fmt: skip
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
