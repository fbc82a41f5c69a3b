"""What `audit` and `energy` look at: a net, trained or fresh, and the samples that it is shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranvier.cli.options import key_values
from ranvier.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor, nn

Model = Annotated[str, typer.Argument(help="A model by name, or the folder of a run (its trained weights).")]
Data = Annotated[str | None, typer.Option("--data", help="Show it test samples of this data set.")]
Samples = Annotated[int, typer.Option("--samples", "-n", min=1, help="How many samples to average over.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of fresh weights, random input and random encoders.")]


FRESH = "fresh weights (batch norms fitted to the input)"


@dataclass(frozen=True)
class Subject:
    """The net in eval mode, its input (`[B, C, H, W]` or `[T, B, C, H, W]`), and both in words."""

    net: nn.Module
    x: Tensor
    weights: str
    shown: str

    @property
    def caption(self) -> str:
        """One line that says what the figures are of."""
        return f"{self.weights}, shown {self.shown}"


def find(
    model: str, arguments: list[str] | None, data: str | None, data_root: Path | None, samples: int, seed: int
) -> Subject:
    """The subject that the command line names.

    A run is shown its own test data, a model the data set `data`, whose shapes it takes on, or else random images.
    """
    import torch

    torch.manual_seed(seed)
    if Path(model).is_dir() or os.sep in model:
        return _run(model, arguments, data, data_root, samples)
    if data is not None:
        return _on_data(model, arguments, data, data_root, samples)
    from ranvier.models import LanguageModel, create_model

    net = create_model(model, **key_values(arguments))
    if isinstance(net, LanguageModel):
        ids = torch.randint(net.vocab_size, (256, samples))
        return Subject(net.eval(), ids, "fresh weights", f"{samples} random texts of 256 tokens")
    x = torch.rand(samples, *net.input_shape)  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    return Subject(_lively(net, x), x, FRESH, f"{samples} random samples (--data NAME shows it real ones)")


def _run(model: str, arguments: list[str] | None, data: str | None, data_root: Path | None, samples: int) -> Subject:
    from ranvier.train import load_run, load_splits

    if arguments or data:
        given = arguments[0] if arguments else f"--data {data}"
        raise ArgumentError(f"{given!r}: the run in {model} has its own model and data; leave it out")
    net, recipe = load_run(model)
    if data_root is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(data_root)})})
    x, name = _first(load_splits(recipe).test, samples), recipe.data.name
    return Subject(net.eval(), x, f"the weights of {model}", f"{_size(x)} test samples of {name}")


def _on_data(model: str, arguments: list[str] | None, data: str, data_root: Path | None, samples: int) -> Subject:
    from ranvier.train import build_model, load_splits, parse_recipe

    root = None if data_root is None else str(data_root)
    sections: dict[str, Any] = {
        "name": "subject",
        "data": {"name": data, "root": root},
        "model": {"name": model, "args": key_values(arguments)},
    }
    recipe = parse_recipe(sections)
    splits = load_splits(recipe)
    x = _first(splits.test, samples)
    net = _lively(build_model(recipe, splits.bundle), x)
    return Subject(net, x, FRESH, f"{_size(x)} test samples of {data}")


def _lively(net: nn.Module, x: Tensor) -> nn.Module:
    """`net` in eval mode with batch norms fitted to `x`: as they are made, they leave a deep spiking net silent."""
    import torch

    norms = [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one batch
    with torch.no_grad():
        net.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


def _first(test: Any, samples: int) -> Tensor:
    return test.batch(range(min(samples, len(test))))[0]


def _size(x: Tensor) -> int:
    return x.shape[1 if x.dim() in (2, 5) and (x.dim() == 5 or not x.is_floating_point()) else 0]
