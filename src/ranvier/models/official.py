"""Weights of the original repositories: their names, their wrappings, and where each tensor belongs here."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, CheckpointError

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class OfficialNames:
    """How an original repository names the tensors of a model.

    Args:
        rules: pairs of a regular expression, matched against the whole original name, and our name for it (a template
            of `re.Match.expand`); the first match counts.
        ignored: regular expressions of tensors that the original never uses.
        values: pairs of a regular expression, matched against the original name, and what turns an original value into
            ours, where it is counted in another way; the first match counts.
    """

    rules: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    values: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()

    def translate(self, name: str) -> str | None:
        """Our name of an original tensor, None where no rule knows it."""
        for pattern, template in self.rules:
            match = re.fullmatch(pattern, name)
            if match:
                return match.expand(template)
        return None

    def value(self, name: str, tensor: Tensor) -> Tensor:
        """An original tensor in our way of counting."""
        for pattern, convert in self.values:
            if re.fullmatch(pattern, name):
                return convert(tensor)
        return tensor

    def ignores(self, name: str) -> bool:
        """Whether the original has this tensor but does not use it."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor.

    `loaded` maps our names to the original ones; `ignored` are dead tensors of the original; `unused` are tensors of
    the file without a place in the model; `missing` are tensors of the model without a source; `mismatched` are
    sentences about tensors that do not fit; `notes` say where the model now follows the release instead of the paper.
    """

    loaded: dict[str, str] = field(default_factory=dict[str, str])
    ignored: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything found its place."""
        return not (self.unused or self.missing or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded, {len(self.ignored)} dead ones ignored"]
        for what, names in (
            ("missing from the checkpoint", self.missing),
            ("not used by the model", self.unused),
            ("do not fit", self.mismatched),
        ):
            if names:
                parts.append(f"{len(names)} {what}: {_listed(names)}")
        parts += self.notes
        return "; ".join(parts)


class OfficialMismatchError(CheckpointError):
    """An original checkpoint and a model that do not belong together; `report` has the details."""

    def __init__(self, message: str, report: LoadReport) -> None:
        super().__init__(message)
        self.report = report


def load_official(model: nn.Module, source: Mapping[str, Any] | str | Path, strict: bool = True) -> LoadReport:
    """Load weights of a model's original repository.

    Args:
        model: a model whose class has `official_names()`.
        source: a state dict, with original names, bare or wrapped ("state_dict", "model", "module." prefixes), or a
            path to a `.safetensors` or PyTorch file (the latter is read without running anything in it).
        strict: raise when a tensor is missing, unused or of another shape; otherwise load what fits.

    A model whose release computes something else than its paper follows the release from here on, so that the outputs
    are the original's; the report's `notes` say so and how to undo it.

    Returns the report. Raises `CheckpointError` for a damaged file and, when strict, for any tensor without a
    counterpart (the model is then unchanged); `ArgumentError` for a model without a map.
    """
    if not hasattr(model, "official_names"):
        raise ArgumentError(f"{type(model).__name__} has no map of original checkpoint names (official_names)")
    names = cast(OfficialNames, model.official_names())  # pyright: ignore[reportCallIssue]
    given = _unwrap(_read(Path(source)) if isinstance(source, str | Path) else source)
    if hasattr(model, "prepare_official"):
        given = cast(dict[str, Tensor], model.prepare_official(given))  # pyright: ignore[reportCallIssue]
    targets = model.state_dict(keep_vars=True)

    loaded: dict[str, str] = {}
    fitted: dict[str, Tensor] = {}
    ignored: list[str] = []
    unused: list[str] = []
    mismatched: list[str] = []
    claimed: dict[str, str] = {}
    for name, tensor in given.items():
        if names.ignores(name):
            ignored.append(name)
            continue
        target = names.translate(name)
        if target is None or target not in targets:
            unused.append(name)
            continue
        if target in claimed:
            mismatched.append(f"{name} and {claimed[target]} both mean {target}")
            continue
        claimed[target] = name
        shaped = _adapt(names.value(name, tensor), targets[target])
        if shaped is None:
            ours, theirs = list(targets[target].shape), list(tensor.shape)
            mismatched.append(f"{name} is {theirs}, {target} is {ours}")
        else:
            loaded[target], fitted[target] = name, shaped
    missing = [n for n in targets if n not in claimed and not n.endswith("num_batches_tracked")]
    report = LoadReport(loaded, tuple(ignored), tuple(unused), tuple(missing), tuple(mismatched))
    if strict and not report.complete:
        raise OfficialMismatchError(
            f"the checkpoint does not match {type(model).__name__}: {report}; check embed_dim, depth, num_classes and "
            "the other sizes given to create_model, or load what fits with strict=False",
            report,
        )
    with torch.no_grad():
        for target, tensor in fitted.items():
            targets[target].copy_(tensor)
    if hasattr(model, "follow_release"):
        note = cast(str, model.follow_release())  # pyright: ignore[reportCallIssue]
        report = replace(report, notes=(note,) if note else ())
    return report


def _listed(names: Iterable[str], most: int = 24) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


def _adapt(tensor: Tensor, target: Tensor) -> Tensor | None:
    """`tensor` in the shape of `target`: a linear layer is a 1×1 convolution. None when it does not fit."""
    if tensor.shape == target.shape:
        return tensor
    longer, shorter = sorted((tuple(tensor.shape), tuple(target.shape)), key=len, reverse=True)
    pointwise = len(shorter) >= 2 and longer[: len(shorter)] == shorter and set(longer[len(shorter) :]) == {1}
    return tensor.reshape(target.shape) if pointwise else None


def _unwrap(source: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, out of its wrappings."""
    if not isinstance(source, Mapping):
        raise CheckpointError(f"a checkpoint must be a mapping of names to tensors, got {type(source).__name__}")
    for _ in range(3):
        inner = next((source[key] for key in _WRAPPERS if isinstance(source.get(key), Mapping)), None)
        if inner is None:
            break
        source = inner
    wrong = [str(name) for name, value in source.items() if not isinstance(value, Tensor)]
    if wrong or not source:
        raise CheckpointError(
            "a checkpoint must map names to tensors, bare or under one of "
            f"{', '.join(_WRAPPERS)}; " + (f"not tensors: {_listed(wrong)}" if wrong else "this one is empty")
        )
    tensors = dict(source)
    for prefix in _PREFIXES * 2:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist or is not a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Training scripts store their command line beside the weights; a Namespace of plain values is harmless.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Every reader fails in its own way on a damaged file: zip, pickle and safetensors have no common error.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint {path} cannot be read without running code from it: {reason}"
            if isinstance(error, pickle.UnpicklingError)
            else f"checkpoint {path} cannot be read: {reason}"
        ) from error
