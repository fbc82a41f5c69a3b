"""`ranvier audit`: which layers really receive spikes."""

from __future__ import annotations

from typing import Annotated

import typer

from ranvier.cli import subject
from ranvier.cli.exits import DONE, FAILED
from ranvier.cli.options import AsJson, DataRoot, KeyValues
from ranvier.cli.output import console, print_json


def audit(
    model: subject.Model,
    arguments: KeyValues = None,
    allow_counts: Annotated[bool, typer.Option("--allow-counts", help="Integer counts pass as spikes.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless the net is spike-driven.")] = False,
    data: subject.Data = None,
    data_root: DataRoot = None,
    samples: subject.Samples = 4,
    seed: subject.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say layer by layer what enters: spikes, counts or real values.

    The verdict rests on the values of this run, so show it real data: a trained run, or --data.

    \b
    Examples:
      ranvier audit runs/first
      ranvier audit spikformer img_size=8 in_channels=1 T=2
      ranvier audit spiking_mlp T=2 --data digits --check
    """
    from ranvier import measure

    seen = subject.find(model, arguments, data, data_root, samples, seed)
    found = measure.audit(seen.net, seen.x, allow_counts=allow_counts)
    if as_json:
        print_json({"model": model, "weights": seen.weights, "input": seen.shown, **found.to_dict()})
    else:
        console().print(found.table())
        print(seen.caption)
    raise typer.Exit(FAILED if check and not found.spike_driven else DONE)
