"""Checkpoints: one folder each with the tensors (safetensors) and the numbers (JSON), never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, optim

from ranvier.errors import CheckpointError
from ranvier.files import TEMPORARY, replacing
from ranvier.train.files import explained, new_folder, synced, write_json
from ranvier.train.sharding import part_like, whole
from ranvier.train.tensor_file import pieces, write_tensors

_GROUP = "group"
TENSORS, NUMBERS, POINTER = "tensors.safetensors", "state.json", "latest.json"
FORMAT = 1


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of copies on the CPU."""
    return b"".join(pieces(tensors))


def from_bytes(content: bytes, where: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; `CheckpointError` when it is not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{where}: not a whole safetensors file ({error})") from error


class CheckpointFolder:
    """The checkpoints of one run; the newest and the best one are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], best_step: int | None) -> None:
        """Add the checkpoint of `step`, point to it, then remove all others but that of `best_step`."""
        with explained(f"write a checkpoint in {self.folder} (the run can be continued from the one before)"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with new_folder(self.folder / _name(step)) as temporary:
                with synced(temporary / TENSORS) as file:
                    head = {"format": FORMAT, "step": step, "sha256": write_tensors(file, tensors)}
                with synced(temporary / NUMBERS) as file:
                    file.write(json.dumps({**head, **numbers}, indent=1, allow_nan=False).encode())
            best = None if best_step is None else _name(best_step)
            write_json(self.folder / POINTER, {"latest": _name(step), "best": best})
            self._prune({_name(step), best})

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and numbers of the newest checkpoint, or None where there is none."""
        pointer = self._pointer()
        return None if pointer is None else self.load(str(pointer.get("latest")))

    def best(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The same of the best one; the newest where none was selected."""
        pointer = self._pointer()
        return None if pointer is None else self.load(str(pointer.get("best") or pointer.get("latest")))

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """One checkpoint by the name of its folder; `CheckpointError` when it is missing or damaged."""
        folder = self.folder / Path(name).name
        try:
            content = (folder / TENSORS).read_bytes()
            numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"checkpoint {folder}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"checkpoint {folder}: {NUMBERS} is damaged ({error})") from error
        if not isinstance(numbers, dict) or numbers.get("format") != FORMAT:
            raise CheckpointError(f"checkpoint {folder}: {NUMBERS} is not of format {FORMAT}")
        if hashlib.sha256(content).hexdigest() != numbers.get("sha256"):
            raise CheckpointError(f"checkpoint {folder}: {TENSORS} is damaged (not the SHA-256 in {NUMBERS})")
        return from_bytes(content, folder / TENSORS), numbers

    def _pointer(self) -> dict[str, Any] | None:
        path = self.folder / POINTER
        try:
            pointer = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error
        if not isinstance(pointer, dict) or "latest" not in pointer:
            raise CheckpointError(f"{path}: does not name a checkpoint")
        return pointer

    def _prune(self, keep: set[str | None]) -> None:
        for entry in self.folder.iterdir():
            stale = entry.name.startswith("step-") and entry.name not in keep
            if stale or entry.name.endswith(TEMPORARY):  # .tmp: a writer that was killed
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a state dict as one safetensors file."""
    with explained(f"write {path}"), replacing(path) as temporary, open(temporary, "wb") as file:
        file.writelines(pieces(tensors))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote; `CheckpointError` when it is missing or damaged."""
    try:
        return from_bytes(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as `{"<parameter number>.<name>": tensor}`; rates and groups follow from the recipe."""
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{name}": whole(value)
        for index, entry in state.items()
        for name, value in entry.items()
        if value is not None
    }
    for number, group in enumerate(optimizer.param_groups):  # an optimizer of ours may count the steps of a group
        for name in getattr(optimizer, "counters", ()):
            tensors[f"{_GROUP}{number}.{name}"] = torch.tensor(group[name])
    return tensors


def restore_optimizer(optimizer: optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    document = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if key.startswith(_GROUP):
            document["param_groups"][int(index.removeprefix(_GROUP))][name] = int(value)
            continue
        state.setdefault(int(index), {})[name] = part_like(value, parameters[int(index)])
    optimizer.load_state_dict({"state": state, "param_groups": document["param_groups"]})


def restore_module(module: torch.nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """`load_state_dict` whose failure is a `CheckpointError` that names the first key that does not fit."""
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or foreign:
        key, lacks = (missing[0], "lacks") if missing else (foreign[0], "has an unknown")
        raise CheckpointError(f"{what} {lacks} tensor {key!r} ({len(missing)} missing, {len(foreign)} unknown in all)")
    for key, value in own.items():
        if value.shape != tensors[key].shape:
            raise CheckpointError(
                f"{what}: tensor {key!r} has shape {tuple(tensors[key].shape)}, the model needs {tuple(value.shape)}"
            )
    module.load_state_dict(dict(tensors))


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _name(step: int) -> str:
    return f"step-{step:09d}"
