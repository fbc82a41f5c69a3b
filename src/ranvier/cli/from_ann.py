"""`ranvier convert --from-ann`: a trained ANN becomes a spiking net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranvier.cli.options import key_values
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.train import Recipe

SHOWN = (1, 2, 4, 8, 16, 32, 64)


def convert_from_ann(
    model: str, arguments: list[str] | None, checkpoint: Path | None, data: str | None, data_root: Path | None,
    steps: int, neuron: str, quantile: float, samples: int, seed: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Convert, compare on samples, write and print."""
    import torch

    from ranvier import infer

    torch.manual_seed(seed)
    ann, recipe, weights = _found(model, arguments, checkpoint, data, data_root)
    example, x, y = _samples(recipe, ann, samples)
    done = infer.convert_ann(ann, example, steps, neuron, quantile)  # pyright: ignore[reportArgumentType]
    figures = _compare(ann, done, x, y)
    if out is not None:
        document = None if recipe is None else recipe.model_dump(mode="json")
        infer.save_ann_conversion(done, out, {"weights": weights, "recipe": document})
    report = {
        "model": model, "weights": weights, "neuron": neuron, "steps": steps, "input_steps": done.input_steps,
        "thresholds": done.thresholds, "pools": done.pools, "samples": len(x), "out": out, **figures,
    }  # fmt: skip
    if as_json:
        print_json(report)
        return
    spread = sorted(done.thresholds.values())
    facts: list[tuple[str, Any]] = [
        ("weights", weights),
        ("neurons", f"{len(spread)} layers of {neuron}, thresholds {spread[0]:.3g} to {spread[-1]:.3g}"),
        ("max-pools made average", ", ".join(done.pools) or "none"),
        ("same decision as the ANN", f"{figures['agreement']:.2%} of {len(x)} samples after {steps} steps"),
    ]
    if done.input_steps is not None:
        facts.append(("input", f"shown for {done.input_steps} of {steps} steps"))
    if y is not None:
        by_step = figures["accuracy_by_step"]
        shown = ", ".join(f"{t}: {by_step[t - 1]:.2%}" for t in SHOWN if t <= steps)
        facts += [("accuracy of the ANN", f"{figures['ann_accuracy']:.2%}"), ("after steps", shown)]
    print_table(["", ""], facts)
    if out is not None:
        print(f"written to {out}")


def _found(
    model: str, arguments: list[str] | None, checkpoint: Path | None, data: str | None, data_root: Path | None
) -> tuple[nn.Module, Recipe | None, str]:
    """The ANN in eval mode, the recipe that names its data, and its weights in words."""
    import os

    from ranvier.models import create_model
    from ranvier.train import build_model, load_run, load_splits, parse_recipe

    if Path(model).is_dir() or os.sep in model:
        if arguments or data or checkpoint:
            raise ConfigError(f"the run in {model} has its own model, weights and data; give none of these")
        net, recipe = load_run(model)
        if data_root is not None:
            recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(data_root)})})
        return net.eval(), recipe, f"those of {model}"
    recipe = None
    if data is None:
        net = create_model(model, **key_values(arguments))
    else:
        root = None if data_root is None else str(data_root)
        recipe = parse_recipe({
            "name": "convert", "data": {"name": data, "root": root},
            "model": {"name": model, "args": key_values(arguments)},
        })  # fmt: skip
        net = build_model(recipe, load_splits(recipe).bundle)
    if checkpoint is None:
        return net.eval(), recipe, "fresh (--checkpoint FILE gives trained ones)"
    if checkpoint.suffix == ".safetensors":
        from ranvier.train.checkpoint import load_weights, restore_module

        restore_module(net, load_weights(checkpoint), f"the weights in {checkpoint}")
    else:
        from ranvier.models.official import load_official

        load_official(net, checkpoint)
    return net.eval(), recipe, f"those of {checkpoint}"


def _samples(recipe: Recipe | None, ann: Any, samples: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs of the training part to read thresholds off, test samples and their labels; random ones without data."""
    import torch

    if recipe is None:
        x = torch.rand(samples, *ann.input_shape)
        return x, x, None
    from ranvier.train import load_splits

    splits = load_splits(recipe)
    example, _ = splits.train.batch(range(min(256, len(splits.train))))
    x, y = splits.test.batch(range(min(samples, len(splits.test))))
    if splits.test.time_first:
        raise ConfigError(f"--from-ann converts nets of static images; {recipe.data.name} has sequences")
    return example, x, y


def _compare(ann: nn.Module, done: Any, x: Tensor, y: Tensor | None) -> dict[str, Any]:
    import torch

    decided, summed = [], []
    with torch.no_grad():
        for part in x.split(32):
            decided.append(ann(part).mean(0).argmax(-1))
            summed.append(done.net(part).cumsum(0).argmax(-1))
    ann_says, snn_says = torch.cat(decided), torch.cat(summed, 1)
    figures: dict[str, Any] = {"agreement": float((snn_says[-1] == ann_says).double().mean())}
    if y is not None:
        figures["ann_accuracy"] = float((ann_says == y).double().mean())
        figures["accuracy_by_step"] = (snn_says == y).double().mean(1).tolist()
    return figures
