"""`fit`: a recipe becomes a run, in one process or several, from the start or from where it was stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ranvier.errors import ArgumentError, ConfigError, RanvierError
from ranvier.extras import require
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

    Raises `Interrupted` after Ctrl-C or SIGTERM, `NonFiniteError` when the loss is no longer finite, `ConfigError` for
    a recipe that does not fit the machine, the data or the folder, and `RunError` or `CheckpointError` when files
    cannot be written or read.
    """
    if not isinstance(recipe, Recipe):
        raise ArgumentError(f"recipe must be a Recipe, got {type(recipe).__name__}; see load_recipe and parse_recipe")
    folder = RunFolder(out)
    finished = folder.begin(recipe, resume)
    if finished is not None:
        return finished
    with _settings(recipe.train):
        fabric = _fabric(recipe.train)
        if recipe.data.batch_size % recipe.train.devices:
            raise ConfigError(
                f"data.batch_size {recipe.data.batch_size} cannot be shared evenly by "
                f"train.devices={recipe.train.devices}"
            )
        folder.note_environment()
        with polite_stop():  # a parent only waits: its processes get the signal themselves
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
        with polite_stop() as request:
            Session(fabric, recipe, RunFolder(out), request, progress).run()
    except Interrupted as error:
        return error
    except RanvierError as error:
        if fabric.world_size == 1:
            raise
        return error
    return None


def _fabric(train: TrainSection) -> Fabric:
    module = require("lightning_fabric", extra="train")
    several = train.devices > 1
    strategy = "ddp_spawn" if several and train.strategy == "auto" else train.strategy
    if train.accelerator in ("cuda", "gpu") and torch.cuda.device_count() < train.devices:
        raise ConfigError(
            f"train.devices={train.devices} with train.accelerator={train.accelerator}, but this machine has "
            f"{torch.cuda.device_count()} CUDA devices; use train.accelerator=cpu or fewer devices"
        )
    on_cpu = train.accelerator == "cpu" or (train.accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and train.precision == "16-mixed":
        raise ConfigError("train.precision=16-mixed needs a GPU; on this machine use bf16-mixed or 32-true")
    try:
        return module.Fabric(
            accelerator=train.accelerator, devices=train.devices, strategy=strategy, precision=train.precision
        )
    except (ValueError, RuntimeError, ImportError, TypeError) as error:
        raise ConfigError(f"train: this machine cannot do that ({' '.join(str(error).split())})") from error


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
