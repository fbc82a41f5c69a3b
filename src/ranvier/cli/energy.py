"""`ranvier energy`: what one inference costs, by each of the energy models, and the metrics of NeuroBench."""

from __future__ import annotations

from typing import Annotated

import typer

from ranvier.cli import subject
from ranvier.cli.options import AsJson, DataRoot, KeyValues
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ArgumentError, nearest

ACCOUNTINGS = ("as_built", "paper", "event", "tiled", "lemaire2022", "bit_serial")


def energy(
    model: subject.Model,
    arguments: KeyValues = None,
    accounting: Annotated[
        str,
        typer.Option(
            "--accounting",
            "-a",
            help="as_built: what the code computes; event, tiled: that with its memory traffic; paper: 4.6 pJ a MAC, "
            "0.9 an AC; lemaire2022; bit_serial: a quantised twin.",
        ),
    ] = "as_built",
    compute: Annotated[str, typer.Option("--compute", help="Number format, as built: fp32, fp16, int8, ...")] = "fp32",
    memory: Annotated[
        str | None, typer.Option("--memory", help="Charge memory too, by preset (sram_1mb, step, ...) or in pJ a bit.")
    ] = None,
    bits: Annotated[int, typer.Option("--bits", min=1, max=16, help="Width of the bit-serial quantised twin.")] = 4,
    data: subject.Data = None,
    data_root: DataRoot = None,
    samples: subject.Samples = 4,
    seed: subject.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Energy of one inference, layer by layer, from operations counted on real input.

    The accountings answer different questions and never share a table. With --json there is a block for every energy
    model under "energy", and the metrics of NeuroBench under "neurobench".

    \b
    Examples:
      ranvier energy spiking_mlp T=2 --data digits
      ranvier energy runs/first --accounting paper
      ranvier energy spiking_mlp --data digits --accounting lemaire2022
      ranvier energy spiking_mlp --data digits --memory sram_1mb --json
    """
    from ranvier import measure
    from ranvier.bench.quantity import energy as joules
    from ranvier.bench.quantity import engineering

    if accounting not in ACCOUNTINGS:
        raise ArgumentError(
            f"--accounting: expected {', '.join(ACCOUNTINGS[:-1])} or {ACCOUNTINGS[-1]}, got {accounting!r}"
            f"{nearest(accounting, ACCOUNTINGS)}"
        )
    if accounting in ("paper", "lemaire2022") and (memory is not None or compute != "fp32"):
        raise ArgumentError(f"--accounting {accounting} has fixed constants: leave --compute and --memory out")
    seen = subject.find(model, arguments, data, data_root, samples, seed)
    counted = measure.count(seen.net, seen.x, activation_bits=bits)
    charged = _preset_or_pj(memory)
    models = measure.energy.all_models(
        counted, compute=compute, memory="step" if charged is None else charged, bits=bits
    )  # fmt: skip
    built = measure.energy.as_built(counted, compute, memory=charged)
    estimate = {**models, "as_built": built}[accounting]
    if as_json:
        blocks = {name: block.to_dict() for name, block in models.items()}
        metrics = measure.neurobench(seen.net, seen.x, report=counted).to_dict()
        about = {"model": model, "weights": seen.weights, "input": seen.shown}
        print_json({**about, **estimate.to_dict(), "energy": blocks, **metrics})
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
