"""`ranvier transfer`: how far apart images and events are inside trained nets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table


def transfer(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of runs on events; IMAGES,EVENTS gives each domain a net of its own.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page.")] = Path("runs/transfer"),
    images: Annotated[
        str | None, typer.Option("--images", help="The data set of images, where the recipe names none.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=4, help="Recordings, of the test part.")] = 100,
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which images they are paired with.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare the domains inside nets: alignment layer by layer and histograms of the membranes, as a page.

    \b
    Examples:
      ranvier transfer runs/nmnist_transfer
      ranvier transfer runs/still,runs/events runs/nmnist_transfer --images mnist --samples 64
    """
    from ranvier.bench.transfer_pages import write_diagnoses
    from ranvier.train.transfer.study import diagnose_runs

    diagnoses, notes = diagnose_runs(runs, images, samples, data_root, seed)
    page = write_diagnoses(out, diagnoses, notes)
    if as_json:
        print_json({"page": str(page), "nets": {name: found.to_dict() for name, found in diagnoses.items()}})
        return
    rows = [
        (name, layer, f"{value:.3f}", f"{found.histograms[layer].distance:.3f}")
        for name, found in diagnoses.items()
        for layer, value in found.diagonal.items()
    ]
    print_table(["run", "layer", "alignment", "difference of membranes"], rows)
    print(f"report: {page}")
