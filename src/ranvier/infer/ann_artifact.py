"""ANNs that became spiking nets, as files: safetensors for the numbers, JSON for everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ranvier.errors import ArgumentError, CheckpointError
from ranvier.infer.artifact import write_atomically
from ranvier.infer.convert_ann import AnnConversion, average_pools, with_neurons
from ranvier.infer.writing import writing
from ranvier.models import create_model

WEIGHTS, DESCRIPTION = "snn.safetensors", "snn.json"
_FORMAT = 1


def save_ann_conversion(
    conversion: AnnConversion, folder: str | os.PathLike[str], notes: Mapping[str, Any] | None = None
) -> Path:
    """Write `conversion` of a registered model to `folder`, which is made where it does not exist.

    `notes` are JSON values that `ann_conversion_notes` gives back: where the net comes from, say. Raises
    `ArgumentError` for a model that was not made by `create_model` (it could not be rebuilt).
    """
    from safetensors.torch import save

    config = _config(conversion.net)
    if config is None:
        raise ArgumentError("conversion: only a model from ranvier.create_model can be written, which can be rebuilt")
    description = {
        "format": _FORMAT, "model": config, "neuron": conversion.neuron, "start": conversion.start,
        "steps": conversion.steps, "input_steps": conversion.input_steps, "thresholds": conversion.thresholds,
        "levels": conversion.levels, "pools": conversion.pools, "notes": dict(notes or {}),
    }  # fmt: skip
    try:
        text = json.dumps(description, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"conversion: its arguments or notes are not plain data ({error})") from None
    out = Path(folder)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in conversion.net.state_dict().items()}
    write_atomically(out / WEIGHTS, save(tensors))
    write_atomically(out / DESCRIPTION, text.encode())
    return out


def load_ann_conversion(folder: str | os.PathLike[str]) -> AnnConversion:
    """The conversion that `save_ann_conversion` wrote; `CheckpointError` for missing or damaged files."""
    from safetensors.torch import load_file

    place = Path(folder)
    document = _document(place)
    try:
        tensors = load_file(place / WEIGHTS)
        plan = AnnConversion(
            nn.Identity(), {str(k): float(v) for k, v in document["thresholds"].items()},
            [str(name) for name in document["pools"]], int(document["steps"]), str(document["neuron"]),
            float(document["start"]), {str(k): int(v) for k, v in document["levels"].items()}, document["input_steps"],
        )  # fmt: skip
        net: nn.Module = create_model(document["model"]["name"], **document["model"]["args"]).eval()
        average_pools(net, plan.pools)
        net = with_neurons(net, plan)
        if any(value.dtype.itemsize == 8 and value.is_floating_point() for value in tensors.values()):
            net.double()
        net.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise CheckpointError(f"{place} is not the folder of a converted ANN: {error.filename} is missing") from None
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(
            f"the converted net in {place} cannot be read: {' '.join(str(error).split())[:300]}"
        ) from error
    return replace(plan, net=net)


def ann_conversion_notes(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that were given to `save_ann_conversion`."""
    return dict(_document(Path(folder)).get("notes", {}))


def _document(place: Path) -> dict[str, Any]:
    try:
        document = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
        found = document["format"]
    except FileNotFoundError:
        raise CheckpointError(f"{place} is not the folder of a converted ANN: it holds no {DESCRIPTION}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{place / DESCRIPTION} cannot be read: {error}") from error
    if found != _FORMAT:
        raise CheckpointError(f"{place / DESCRIPTION} has format {found!r}, this version reads {_FORMAT}")
    return document


def _config(net: nn.Module) -> dict[str, Any] | None:
    config = getattr(net, "config", None)
    return config if isinstance(config, dict) else None
