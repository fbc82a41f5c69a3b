"""A model of Ranvier as NeuroBench's own `Benchmark` takes it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError, MissingExtraError
from ranvier.neurons import Neuron

Readout = Literal["class", "mean", "steps"]


def to_neurobench(model: nn.Module, readout: Readout = "class", time_axis: bool | None = None) -> Any:
    """`model` as a `neurobench.models.NeuroBenchModel`, its neurons registered as activation modules.

    NeuroBench gives batches `[B, T, ...]`; a sequence is turned to `[T, B, ...]`, a static image is passed on as it is
    (T is then the model's own). The outputs `[T, B, classes]` become classes `[B]` ("class"), their mean over time
    `[B, classes]` ("mean"), or `[B, T, classes]` ("steps"), as NeuroBench's postprocessors take them.

    Args:
        model: put into eval mode.
        time_axis: whether batches have a time axis; None: when they have five axes.

    Raises `MissingExtraError` without the package neurobench, which is not a dependency of Ranvier.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if readout not in ("class", "mean", "steps"):
        raise ArgumentError(f"readout must be 'class', 'mean' or 'steps', got {readout!r}")
    try:
        base: Any = import_module("neurobench.models").NeuroBenchModel
    except ImportError as error:
        raise MissingExtraError(
            "this needs the package 'neurobench', which is no dependency of Ranvier; install it with: "
            "pip install neurobench"
        ) from error

    class Wrapped(base):
        """Batch first outside, time first inside."""

        def __init__(self) -> None:
            super().__init__()
            self.net = model.eval()
            self.add_activation_module(Neuron)

        def __call__(self, batch: Tensor) -> Tensor:
            sequence = batch.dim() == 5 if time_axis is None else time_axis
            output: Tensor = self.net(batch.transpose(0, 1) if sequence else batch)
            if output.dim() < 3:  # a net without time
                return output.argmax(-1) if readout == "class" else output
            if readout == "steps":
                return output.transpose(0, 1)
            return output.mean(0).argmax(-1) if readout == "class" else output.mean(0)

        def __net__(self) -> nn.Module:
            return self.net

    return Wrapped()
