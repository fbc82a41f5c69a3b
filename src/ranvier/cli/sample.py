"""`ranvier sample`: images from a trained denoiser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ConfigError

Run = Annotated[Path, typer.Argument(help="Folder of a denoising run, as `ranvier train --out` wrote it.")]
Nfe = Annotated[int, typer.Option("--nfe", help="Evaluations of the net for each image.")]
Cfg = Annotated[float | None, typer.Option("--cfg", help="Scale of classifier-free guidance; 1 is none.")]
SolverName = Annotated[str, typer.Option("--solver", help="dc, unipc, unip, dpmpp_2m or ddim.")]
Order = Annotated[int, typer.Option("--order", help="Of UniPC; 2 is the safe one for spiking nets.")]
GridKind = Annotated[str, typer.Option("--grid", help="time_uniform, logsnr, time_quadratic or karras.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]


def sample(
    run: Run,
    nfe: Nfe = 8,
    count: Annotated[int, typer.Option("--count", "-n", help="How many images.")] = 64,
    cfg: Cfg = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Labels, such as 3 or 0,1,7; default: all.")] = None,
    solver: SolverName = "dc",
    order: Order = 2,
    ratios: Annotated[Path | None, typer.Option("--ratios", help="Ratios, from `ranvier dc search`.")] = None,
    cpr: Annotated[
        Path | None, typer.Option("--cpr", help="Regression, from `ranvier dc fit`, or a .npy file.")
    ] = None,
    grid: GridKind = "time_uniform",
    columns: Annotated[int | None, typer.Option("--columns", help="Images a row of the picture.")] = None,
    scale: Annotated[int, typer.Option("--scale", min=1, help="Pixels of the picture for each pixel.")] = 4,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Picture; default: RUN/samples.png.")] = None,
    tensors: Annotated[Path | None, typer.Option("--save", help="Also write the images as safetensors.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images a batch.")] = 64,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Sample images from a trained denoiser in a few evaluations, and write them as one picture.

    \b
    Examples:
      ranvier train digits_spiking_ddpm --out runs/ddpm
      ranvier sample runs/ddpm --nfe 8 --cfg 2 --out digits.png
      ranvier dc search runs/ddpm --nfe 8 --cfg 2 --out ratios.json
      ranvier sample runs/ddpm --nfe 8 --cfg 2 --ratios ratios.json
    """
    from ranvier import diffusion as room

    if ratios is not None and cpr is not None:
        raise ConfigError("--ratios and --cpr: give one of them")
    net = room.load_denoiser(run).to(device)
    compensation = None
    if ratios is not None:
        compensation = room.CompensationRatios.load(ratios)
    elif cpr is not None:
        compensation = room.CascadePolynomialRegression.load(cpr)
    started = time.perf_counter()
    found = room.generate(
        net, count, nfe, solver=solver, order=order, guidance=cfg, classes=labels(classes),  # pyright: ignore[reportArgumentType]
        ratios=compensation, grid=grid, seed=seed, batch_size=batch_size,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    seconds = time.perf_counter() - started
    picture = out if out is not None else run / "samples.png"
    room.save_png(room.image_grid(found.images, columns, scale=scale), picture)
    if tensors is not None:
        save_tensors(tensors, found)
    facts = {
        "picture": str(picture), "images": count, "nfe": found.evaluations, "T": net.T,
        "sweeps": found.evaluations * net.T, "solver": solver, "seconds": seconds,
    }  # fmt: skip
    if as_json:
        print_json(facts)
        return
    print_table(["", ""], [
        ("picture", picture), ("images", count),
        ("evaluations", f"{found.evaluations} of {net.T} steps: {found.evaluations * net.T} sweeps an image"),
        ("time", f"{seconds:.2f} s, {1000 * seconds / count:.1f} ms an image"),
    ])  # fmt: skip


def labels(given: str | None) -> list[int] | None:
    """`"0,1,7"` as numbers."""
    if given is None:
        return None
    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(f"--classes {given!r}: expected labels such as 3 or 0,1,7") from None


def save_tensors(path: Path, found: object) -> None:
    """Images (and classes) as safetensors."""
    from ranvier.train.checkpoint import save_weights

    content = {"images": found.images}  # pyright: ignore[reportAttributeAccessIssue]
    if found.classes is not None:  # pyright: ignore[reportAttributeAccessIssue]
        content["classes"] = found.classes  # pyright: ignore[reportAttributeAccessIssue]
    save_weights(path, content)
