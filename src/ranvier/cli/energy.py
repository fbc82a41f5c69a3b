"""`ranvier energy`: what one inference costs, in one of two accountings."""

from __future__ import annotations

from typing import Annotated

import typer

from ranvier.cli import subject
from ranvier.cli.options import AsJson, DataRoot, KeyValues
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ArgumentError, nearest

ACCOUNTINGS = ("as_built", "paper")


def energy(
    model: subject.Model,
    arguments: KeyValues = None,
    accounting: Annotated[
        str,
        typer.Option("--accounting", "-a", help="as_built: what the code computes; paper: 4.6 pJ a MAC, 0.9 an AC."),
    ] = "as_built",
    compute: Annotated[str, typer.Option("--compute", help="Number format, as built: fp32, fp16, int8, ...")] = "fp32",
    memory: Annotated[
        str | None, typer.Option("--memory", help="As built: charge memory too, by preset or in pJ a bit.")
    ] = None,
    data: subject.Data = None,
    data_root: DataRoot = None,
    samples: subject.Samples = 4,
    seed: subject.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Energy of one inference, layer by layer, from operations counted on real input.

    The two accountings answer different questions and never share a table.

    \b
    Examples:
      ranvier energy spiking_mlp T=2 --data digits
      ranvier energy runs/first --accounting paper
      ranvier energy spiking_mlp --data digits --memory sram_1mb --json
    """
    from ranvier import measure
    from ranvier.bench.quantity import energy as joules
    from ranvier.bench.quantity import engineering

    if accounting not in ACCOUNTINGS:
        raise ArgumentError(
            f"--accounting: expected as_built or paper, got {accounting!r}{nearest(accounting, ACCOUNTINGS)}"
        )
    if accounting == "paper" and (memory is not None or compute != "fp32"):
        raise ArgumentError("--accounting paper has fixed constants: leave --compute and --memory out")
    seen = subject.find(model, arguments, data, data_root, samples, seed)
    counted = measure.count(seen.net, seen.x)
    if accounting == "paper":
        estimate = measure.energy.paper(counted)
    else:
        estimate = measure.energy.as_built(counted, compute, memory=_preset_or_pj(memory))
    if as_json:
        print_json({"model": model, "weights": seen.weights, "input": seen.shown, **estimate.to_dict()})
        return
    print_table(
        ["layer", "counted as", ">operations", ">energy"],
        [
            (layer.name, layer.op_class if layer.ops else "—", engineering(layer.ops), joules(layer.total_pj))
            for layer in estimate.layers
        ],
    )
    print(f"\n{accounting.replace('_', ' ')}: {joules(estimate.total_pj)} an inference ({seen.caption})")
    print("  " + ", ".join(f"{part} {joules(pj)}" for part, pj in estimate.breakdown.items()))
    constants = estimate.constants.items()
    print(
        "  "
        + ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in constants)
    )
    for assumption in estimate.assumptions:
        print(f"  {assumption}")


def _preset_or_pj(memory: str | None) -> str | float | None:
    try:
        return None if memory is None else float(memory)
    except ValueError:
        return memory
