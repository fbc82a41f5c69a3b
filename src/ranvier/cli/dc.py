"""`ranvier dc`: compensation ratios of the DC-Solver, searched and fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json, print_table
from ranvier.cli.sample import Cfg, Device, GridKind, Nfe, Order, Run, SolverName
from ranvier.errors import ConfigError

dc = typer.Typer(no_args_is_help=True)
_CORRECTOR = {"on": True, "off": False, "auto": "auto"}


@dc.callback()
def about() -> None:
    """Compensation ratios for few-step sampling: search them for a run, or fit a regression to searched ones.

    \b
    Examples:
      ranvier dc search runs/ddpm --nfe 8 --cfg 2 --out ratios.json
      ranvier dc fit ratios-*.json --out cpr.json
    """


@dc.command("search")
def search(
    run: Run,
    nfe: Nfe = 8,
    cfg: Cfg = None,
    noises: Annotated[int, typer.Option("--noises", help="Noise samples; 32 to 64 for spiking nets.")] = 32,
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the ratios.")] = Path("ratios.json"),
    solver: SolverName = "dc",
    order: Order = 2,
    dc_order: Annotated[int, typer.Option("--dc-order", help="Degree of the compensation's polynomial.")] = 2,
    corrector: Annotated[str, typer.Option("--corrector", help="on, off, or auto: whichever ends nearer.")] = "on",
    grid: GridKind = "time_uniform",
    reference: Annotated[str, typer.Option("--reference", help="ddim (999 steps) or rk4.")] = "ddim",
    reference_steps: Annotated[
        int | None, typer.Option("--reference-steps", min=1, help="Of ddim in all (999), or of rk4 an interval (20).")
    ] = None,
    teacher: Annotated[Path | None, typer.Option("--teacher", help="Run whose trajectory is the reference.")] = None,
    method: Annotated[str, typer.Option("--method", help="auto, grid, adamw or closed_form.")] = "auto",
    loss: Annotated[str, typer.Option("--loss", help="mse, huber or median.")] = "mse",
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=0, help="Of refining all ratios together on the error at the end."),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noises.")] = 1,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Search the ratios of a trained denoiser for a number of evaluations and a guidance scale.

    \b
    Examples:
      ranvier dc search runs/ddpm --nfe 8
      ranvier dc search runs/ddpm --nfe 5 --cfg 4 --corrector auto --loss huber --out ratios-5-4.json
    """
    from ranvier import diffusion as room

    if corrector not in _CORRECTOR:
        raise ConfigError(f"--corrector {corrector!r}: expected on, off or auto")
    net = room.load_denoiser(run).to(device)
    options = room.SearchOptions(rounds=rounds)
    if reference_steps is not None:
        options = replace(options, substeps=reference_steps, ddim_steps=reference_steps)
    found = room.search_for(
        net, nfe, noises=noises, guidance=cfg, solver=solver, order=order, dc_order=dc_order,  # pyright: ignore[reportArgumentType]
        corrector=_CORRECTOR[corrector], grid=grid, reference=reference, method=method, loss=loss, seed=seed,  # pyright: ignore[reportArgumentType]
        options=options, reference_net=None if teacher is None else room.load_denoiser(teacher).to(device),
    )  # fmt: skip
    found.save(out)
    if as_json:
        print_json({**found.to_json(), "out": out})
        return
    error, ones = found.found["error"], found.found["error_of_ones"]
    print_table(["", ""], [
        ("ratios", " ".join(f"{value:.3f}" for value in found.values)),
        ("error to the reference", f"{error:.5f} ({loss}), without compensation {ones:.5f}"),
        ("evaluations", f"{found.found['evaluations']} of {noises} noises"),
        ("file", out),
    ])  # fmt: skip
    if error >= ones:
        print(
            "no gain: ratios that are best step by step need not end nearer; try --rounds 2, more --noises, or sample "
            "without them"
        )


@dc.command("fit")
def fit(
    files: Annotated[list[Path], typer.Argument(help="Files of `ranvier dc search`, of several NFE and guidances.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File of the regression (.json, or .npy as published).")
    ] = Path("cpr.json"),
    degrees: Annotated[str, typer.Option("--degrees", help="In transition, guidance, NFE (and T).")] = "3,2,2",
    ridge: Annotated[float, typer.Option("--ridge", min=0, help="Weight of the squared coefficients.")] = 1e-6,
    as_json: AsJson = False,
) -> None:
    """Fit ratios as a polynomial in transition, guidance and number of evaluations, for those that were not searched.

    \b
    Examples:
      ranvier dc fit ratios-*.json --out cpr.json
      ranvier dc fit ratios-*.json --degrees 2,1,1
    """
    from ranvier import diffusion as room

    try:
        numbers = [int(part) for part in degrees.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 4):
        raise ConfigError(f"--degrees {degrees!r}: expected three or four numbers, such as 3,2,2")
    records = [room.CompensationRatios.load(path) for path in files]
    models = sorted({record.model for record in records})
    if len(models) > 1:
        raise ConfigError(f"the ratios are of {len(models)} models ({', '.join(models)}); fit one at a time")
    for record in records[1:]:
        if record.settings != records[0].settings or record.grid_kind != records[0].grid_kind:
            raise ConfigError("the ratios are of different samplers or grids; fit one at a time")
    regression = room.CascadePolynomialRegression(
        numbers[0], numbers[1], numbers[2], sum(numbers[3:]), ridge=ridge
    ).fit(records)
    regression.save(out)
    residual = max(
        abs(a - b)
        for record in records
        for a, b in zip(
            regression.predict(record.nfe, 1.0 if record.guidance is None else record.guidance, record.found.get("T")),
            record.values, strict=True,
        )
    )  # fmt: skip
    if as_json:
        print_json({**regression.to_json(), "largest_residual": residual, "out": out})
        return
    print_table(["", ""], [
        ("fitted", f"{len(records)} files, NFE {regression.box[0][0]:g}–{regression.box[0][1]:g}, guidance "
                   f"{regression.box[1][0]:g}–{regression.box[1][1]:g}"),
        ("largest residual", f"{residual:.3f}"),
        ("file", out),
    ])  # fmt: skip
