"""The folder of a run: what lies where, whether it may be continued, and how its net is loaded."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ranvier.data.text import Tokenizer, load_tokenizer
from ranvier.errors import CheckpointError, ConfigError
from ranvier.files import write_bytes
from ranvier.models import create_model
from ranvier.train.checkpoint import CheckpointFolder, load_weights, part, restore_module
from ranvier.train.environment import environment
from ranvier.train.evaluation import Evaluation
from ranvier.train.files import RunError, explained, write_json
from ranvier.train.recipe import Recipe
from ranvier.train.recipe_file import load_recipe

RECIPE, RUN, ENVIRONMENT, METRICS, WEIGHTS = (
    "recipe.yaml", "run.json", "environment.json", "metrics.jsonl", "model.safetensors",
)  # fmt: skip
TOKENIZER = "tokenizer.json"
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"


@dataclass(frozen=True)
class RunResult:
    """What a finished run found; `run.json` in its folder.

    Attributes:
        out: the folder.
        epochs, steps: trained, and `selected_epoch` (from 1), whose weights are in `model.safetensors`.
        selection: "validation", or "last" where nothing was set aside.
        validation: accuracy and loss of the selected weights there.
        test: the one look at the test data, with the selected weights.
        params: trainable parameters.
        model: name and arguments that `ranvier.create_model` takes to build the net.
        fingerprint: of the data.
        train_s, eval_s: wall-clock of training (with validation, over all continuations) and of the test.
    """

    out: Path
    name: str
    seed: int
    recipe_hash: str
    epochs: int
    steps: int
    selected_epoch: int
    selection: str
    validation: dict[str, float] | None
    test: Evaluation
    params: int
    model: dict[str, Any]
    fingerprint: str
    train_s: float
    eval_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the folder."""
        return {key: value for key, value in asdict(self).items() if key != "out"}

    @classmethod
    def from_json(cls, document: dict[str, Any], out: Path) -> RunResult:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {**document, "test": Evaluation.from_json(document["test"]), "out": out}
        return cls(**values)


class RunFolder:
    """Paths and records of one run."""

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)
        self.checkpoints = CheckpointFolder(self.out / CHECKPOINTS)

    def begin(self, recipe: Recipe, resume: bool) -> RunResult | None:
        """Make the folder ready for `recipe`; its result, if the run that lies there has already finished.

        Raises `ConfigError` when the folder holds a run of another recipe and `RunError` when it cannot be written.
        """
        with explained(f"make the run folder {self.out}"):
            self.out.mkdir(parents=True, exist_ok=True)
        if not resume:
            self._clear()
        if (self.out / RECIPE).exists():
            self._check_same(recipe)
            result = self.result()
            if result is not None:
                return result
        with explained(f"write in the run folder {self.out}"):
            write_bytes(self.out / RECIPE, recipe.to_yaml().encode())
            write_json(self.out / RUN, {"status": "started", "recipe_hash": recipe.hash()})
        return None

    def note_environment(self) -> None:
        """Write down what the run runs on."""
        with explained(f"write {self.out / ENVIRONMENT}"):
            write_json(self.out / ENVIRONMENT, environment())

    def note_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Keep what turns the text of this run into tokens and back."""
        with explained(f"write {self.out / TOKENIZER}"):
            write_json(self.out / TOKENIZER, tokenizer.document())

    def finish(self, result: RunResult) -> None:
        """Record the result; from now on the run is finished."""
        with explained(f"write {self.out / RUN}"):
            write_json(self.out / RUN, {"status": "finished", **result.to_json()})

    def result(self) -> RunResult | None:
        """The result of a finished run, else None."""
        path = self.out / RUN
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            status = document.pop("status")
            return RunResult.from_json(document, self.out) if status == "finished" else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); remove it to evaluate the run again") from error

    def recipe(self) -> Recipe:
        """The resolved recipe; `RunError` where there is no run."""
        if not (self.out / RECIPE).exists():
            why = f"it holds no {RECIPE}" if self.out.exists() else "it does not exist"
            raise RunError(
                f"{self.out} is not the folder of a run: {why}; one is made by: ranvier train RECIPE --out {self.out}"
            )
        return load_recipe(self.out / RECIPE)

    def _check_same(self, recipe: Recipe) -> None:
        there = load_recipe(self.out / RECIPE)
        if there.hash() != recipe.hash():
            if self.result() is None and _placed_alike(there).hash() == _placed_alike(recipe).hash():
                return  # checkpoints are whole: any number of processes continues them
            key, old, new = _first_difference(there.model_dump(mode="json"), recipe.model_dump(mode="json"))
            raise ConfigError(
                f"{self.out} holds a run of another recipe ({key} is {old!r} there, {new!r} now); choose "
                "another folder, or start anew without resuming"
            )

    def _clear(self) -> None:
        with explained(f"clear the run folder {self.out}"):
            for name in (RUN, RECIPE, ENVIRONMENT, METRICS, WEIGHTS, TOKENIZER):
                (self.out / name).unlink(missing_ok=True)
            for name in (CHECKPOINTS, TENSORBOARD):
                shutil.rmtree(self.out / name, ignore_errors=True)


def load_run(run: str | os.PathLike[str]) -> tuple[nn.Module, Recipe]:
    """The net of a run in eval mode with its selected weights (the best so far of an unfinished run), and its recipe.

    The data is not needed: the run remembers the shapes.
    """
    folder = RunFolder(run)
    recipe = folder.recipe()
    result = folder.result()
    if result is not None:
        tensors, model = load_weights(folder.out / WEIGHTS), result.model
    else:
        found = folder.checkpoints.best()
        if found is None:
            raise CheckpointError(f"{folder.out}: the run has no checkpoint yet")
        everything, numbers = found
        tensors, model = part(everything, "ema.") or part(everything, "model."), numbers["model"]
    net = create_model(model["name"], **model["args"])
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), None)
    if dtype is not None:
        net.to(dtype)
    restore_module(net, tensors, f"the weights of {folder.out}")
    return net.eval(), recipe


def tokenizer_of(run: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer that a run on text stored; `RunError` where there is none."""
    path = Path(run) / TOKENIZER
    if not path.exists():
        raise RunError(f"{run} holds no {TOKENIZER}: it is not the folder of a run on text")
    return load_tokenizer(path)


def _placed_alike(recipe: Recipe) -> Recipe:
    """`recipe` with the processes of the default."""
    default = {"devices": 1, "nodes": 1, "strategy": "auto", "accelerator": "auto"}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=default)})


def _first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key) and f"{path}{key}" not in ("name", "log", "data.root", "data.prefetch"):
                return _first_difference(old.get(key), new.get(key), f"{path}{key}.")
    return path.removesuffix("."), old, new
