"""Weights, checkpoints, converted nets and graphs of other libraries."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.harness import Target
from fuzz.targets.alone import alone


def _written(write: Callable[[Path], Any]) -> dict[str, bytes]:
    """The files that `write` puts into a folder, by their paths in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _safetensors() -> bytes:
    import torch
    from safetensors.torch import save

    return save({"weight": torch.arange(12.0).view(3, 4), "bias": torch.zeros(3, dtype=torch.bfloat16)})


@cache
def _converted() -> Mapping[str, bytes]:
    import torch

    from ranvier import create_model
    from ranvier.infer import convert, save_converted

    net = create_model("spiking_mlp", num_classes=3, hidden=[4], img_size=2, in_channels=1, T=2).eval()
    return _written(lambda folder: save_converted(convert(net, torch.rand(2, 1, 2, 2)), folder))


@cache
def _from_ann() -> Mapping[str, bytes]:
    import torch

    from ranvier import create_model
    from ranvier.infer import convert_ann, save_ann_conversion

    net = create_model("vgg16_qcfs", num_classes=3, layers=[2, "A"], hidden=2, img_size=4, start=1.0).eval()
    done = convert_ann(net, torch.rand(2, 3, 4, 4), neuron="qcfs_if")
    return _written(lambda folder: save_ann_conversion(done, folder))


@cache
def _checkpoint() -> Mapping[str, bytes]:
    import torch

    from ranvier.train.checkpoint import CheckpointFolder

    def write(folder: Path) -> None:
        CheckpointFolder(folder).save(3, {"model.weight": torch.zeros(2)}, {"epoch": 1, "best": 0.5}, None)

    return _written(write)


@cache
def _state() -> Mapping[str, bytes]:
    import torch

    from ranvier.train.checkpoint import to_bytes
    from ranvier.train.random_state import random_state

    return {"state.safetensors": to_bytes({f"random.{k}": v for k, v in random_state().items()} | {"w": torch.ones(1)})}


@cache
def _graph() -> bytes:
    import torch
    from torch import nn

    from ranvier.infer.exchange import to_nir
    from ranvier.layers.delays import DelayLinear
    from ranvier.neurons import LIF

    net = nn.Sequential(nn.Linear(2, 2), LIF(decay_input=False), DelayLinear(2, 2, 2), LIF(decay_input=False)).eval()
    return _written(lambda folder: to_nir(net, folder / "net.nir", example=torch.zeros(2, 1, 2)))["net.nir"]


def _official(ending: str) -> Callable[[], bytes]:
    def sound() -> bytes:
        import torch
        from safetensors.torch import save

        tensors = {"module.layer.weight": torch.zeros(2, 2), "module.layer.bias": torch.zeros(2)}
        if ending == "safetensors":
            return save(tensors)
        file = io.BytesIO()
        torch.save({"state_dict": tensors, "epoch": 3}, file)
        return file.getvalue()

    return sound


@cache
def _layered() -> Any:
    from torch import nn

    from ranvier.models.official import OfficialNames

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def official_names(self) -> OfficialNames:
            return OfficialNames(rules=((r"layer\.(\w+)", r"layer.\1"),))

    return Net()


@cache
def _weights(kind: str) -> bytes:
    from ranvier.train.checkpoint import to_bytes

    if kind == "controller":
        from ranvier.loop.control.spiking_controller import SpikingController

        return to_bytes(SpikingController().state_dict())
    if kind == "policy":
        from ranvier.loop.sensing.learned import LearnedSectors

        return to_bytes(LearnedSectors().net.state_dict())
    from ranvier.loop.predict.radial_mae import SHIPPED

    return (SHIPPED / "radial_spiking.safetensors").read_bytes()


def _read_weights(path: Path) -> object:
    from ranvier.train.checkpoint import load_weights

    return load_weights(path)


def _read_converted(path: Path) -> object:
    from ranvier.infer import load_converted

    return load_converted(path.parent)


def _read_from_ann(path: Path) -> object:
    from ranvier.infer import load_ann_conversion

    return load_ann_conversion(path.parent)


def _read_checkpoint(path: Path) -> object:
    from ranvier.train.checkpoint import CheckpointFolder

    folder = path.parents[path.parent.name.startswith("step-")]
    return CheckpointFolder(folder).latest()


def _read_state(path: Path) -> object:
    from ranvier.train.checkpoint import load_weights, part
    from ranvier.train.random_state import restore_random_state

    return restore_random_state(part(load_weights(path), "random."))


def _read_graph(path: Path) -> object:
    import torch

    from ranvier.infer.exchange import from_nir

    net = from_nir(path)
    with torch.no_grad():
        return net(torch.zeros(2, 1, 2))


def _read_official(path: Path) -> object:
    from ranvier.models.official import load_official

    return load_official(_layered(), path)


def _read_controller(path: Path) -> object:
    from ranvier.loop.control.spiking_controller import SpikingController

    return SpikingController.load(path)


def _read_policy(path: Path) -> object:
    from ranvier.loop.sensing.learned import LearnedSectors

    return LearnedSectors.load(path)


def _read_predictor(path: Path) -> object:
    from ranvier.loop.predict.radial_mae import SpikingRadialMAE

    return SpikingRadialMAE.load(path)


TARGETS = (
    alone("safetensors", "w.safetensors", _safetensors, _read_weights),
    Target("converted.json", _converted, "converted.json", _read_converted, text=True),
    Target("converted.safetensors", _converted, "converted.safetensors", _read_converted),
    Target("snn.json", _from_ann, "snn.json", _read_from_ann, text=True),
    Target("snn.safetensors", _from_ann, "snn.safetensors", _read_from_ann),
    Target("checkpoint.latest", _checkpoint, "latest.json", _read_checkpoint, text=True),
    Target("checkpoint.state", _checkpoint, "step-000000003/state.json", _read_checkpoint, text=True),
    Target("checkpoint.tensors", _checkpoint, "step-000000003/tensors.safetensors", _read_checkpoint),
    Target("random_state", _state, "state.safetensors", _read_state),
    alone("nir", "net.nir", _graph, _read_graph),
    alone("official.pt", "net.pt", _official("pt"), _read_official),
    alone("official.safetensors", "net.safetensors", _official("safetensors"), _read_official),
    alone("loop.controller", "c.safetensors", lambda: _weights("controller"), _read_controller),
    alone("loop.policy", "p.safetensors", lambda: _weights("policy"), _read_policy),
    alone("loop.predictor", "r.safetensors", lambda: _weights("predictor"), _read_predictor),
)
