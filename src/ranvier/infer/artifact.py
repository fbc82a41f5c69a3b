"""Converted nets as files: safetensors for the numbers, JSON for everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, CheckpointError
from ranvier.files import write_bytes
from ranvier.infer.convert import Conversion, apply_plan
from ranvier.infer.plan import Plan
from ranvier.infer.spike_synapse import SpikeSynapse
from ranvier.infer.writing import writing
from ranvier.layers.quant import pack_levels, unpack_levels
from ranvier.models import create_model

WEIGHTS, DESCRIPTION = "converted.safetensors", "converted.json"
_FORMAT = 1
_PACKED = ".packed"


def save_converted(conversion: Conversion, folder: str | os.PathLike[str]) -> Path:
    """Write `conversion` of a registered model to `folder`; integer weights of 1, 2, 4 or 8 bits are packed.

    Raises `ArgumentError` for a model that was not made by `create_model` (it could not be rebuilt).
    """
    from safetensors.torch import save

    net = conversion.net
    config = getattr(net, "config", None)
    if not isinstance(config, dict):
        raise ArgumentError("conversion: only a model from ranvier.create_model can be written, which can be rebuilt")
    out = Path(folder)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    integer = _integer_layers(net)
    tensors: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        bits = integer.get(name)
        value = value.detach().cpu().contiguous()
        if bits in (1, 2, 4, 8):
            tensors[name + _PACKED] = pack_levels(value, bits)
        else:
            tensors[name] = value.to(torch.int8) if bits else value
    found = conversion.equivalence
    description = {
        "format": _FORMAT,
        "model": config,
        "plan": conversion.plan.to_json(),
        "levels": conversion.levels,
        "bits": integer,
        "equivalence": None if found is None else found.to_dict(),
    }
    try:
        text = json.dumps(description, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"conversion: the model's arguments are not plain data ({error})") from None
    write_atomically(out / WEIGHTS, save(tensors))
    write_atomically(out / DESCRIPTION, text.encode())
    return out


def load_converted(folder: str | os.PathLike[str]) -> Conversion:
    """The conversion that `save_converted` wrote; its `equivalence` is not computed again (None).

    Raises `CheckpointError` for missing or damaged files.
    """
    from safetensors.torch import load_file

    place = Path(folder)
    try:
        document: dict[str, Any] = json.loads((place / DESCRIPTION).read_text())
        if document["format"] != _FORMAT:
            found = document["format"]
            raise CheckpointError(f"{place / DESCRIPTION} has format {found!r}, this version reads {_FORMAT}")
        tensors = load_file(place / WEIGHTS)
        plan = Plan.from_json(document["plan"])
        levels = {str(k): int(v) for k, v in document["levels"].items()}
        bits: dict[str, int] = document["bits"]
        config = document["model"]
        net: nn.Module = create_model(config["name"], **config["args"])
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{place} is not the folder of a converted net: {error.filename} is missing") from None
    except Exception as error:  # damaged JSON and safetensors fail in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the converted net in {place} cannot be read: {reason}") from error
    try:
        net = apply_plan(net.eval(), plan)
        own = net.state_dict()
        given = {
            name.removesuffix(_PACKED): unpack_levels(value, bits[name.removesuffix(_PACKED)],
                                                      tuple(own[name.removesuffix(_PACKED)].shape))
            if name.endswith(_PACKED) else value
            for name, value in tensors.items()
        }  # fmt: skip
        if next((v for n, v in given.items() if n not in bits and v.dtype == torch.float64), None) is not None:
            net.double()
        net.load_state_dict(given)
    except (RuntimeError, KeyError, AttributeError, ArgumentError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the weights in {place} do not fit the model that they name: {reason}") from error
    return Conversion(net, plan, levels)


def _integer_layers(net: nn.Module) -> dict[str, int]:
    return {
        f"{name}.synapse.weight": module.bits
        for name, module in net.named_modules()
        if isinstance(module, SpikeSynapse) and module.bits is not None
    }


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: readers see the old file or the whole new one. Else `CheckpointError`."""
    with writing(path):
        write_bytes(path, content)
