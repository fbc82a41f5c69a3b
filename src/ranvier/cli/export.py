"""`ranvier export`: a net for other libraries and runtimes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ranvier.cli import subject
from ranvier.cli.options import AsJson, DataRoot, KeyValues
from ranvier.cli.output import print_json, print_table

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["nir", "onnx", "torch", "c"]
_SUFFIX = {"nir": ".nir", "onnx": ".onnx", "torch": ".pt2", "c": ""}


def export(
    model: subject.Model,
    arguments: KeyValues = None,
    to: Annotated[Format, typer.Option("--to", help="nir, onnx, torch (an exported program) or c.")] = "nir",
    out: Annotated[
        Path | None, typer.Option("--out", help="File (c: folder); by default the name of the model.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="Of NIR: nir, norse, snntorch, spikingjelly, sinabs.")
    ] = "nir",
    dt: Annotated[
        float | None, typer.Option("--dt", help="Of NIR: seconds a step; by default what readers use.")
    ] = None,
    soft_reset: Annotated[
        str, typer.Option("--soft-reset", help="Of NIR, what becomes of v - theta: error, subgraph or metadata.")
    ] = "error",
    mode: Annotated[
        str, typer.Option("--mode", help="Of ONNX and torch: step (state in and out) or sequence (all steps).")
    ] = "step",
    steps: Annotated[int | None, typer.Option("--steps", "-T", min=1, help="Of the sequence form.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples that an ONNX or torch file takes.")] = 1,
    data: subject.Data = None,
    data_root: DataRoot = None,
    seed: subject.Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write a net as NIR, ONNX, an exported program of PyTorch, or C.

    NIR goes to other SNN libraries; --target follows the ways of one of them. ONNX and torch files are run once in
    their runtimes and compared with the net. C is the compiled engine (C99, one sample). What a format cannot express
    is named.

    \b
    Examples:
      ranvier export runs/first --to nir --target norse
      ranvier export delay_mlp_shd --to onnx --out shd.onnx
      ranvier export spiking_mlp T=4 --to torch --mode sequence --json
    """
    from ranvier import infer

    seen = subject.find(model, arguments, data, data_root, max(batch, 2), seed)
    path = out or Path(f"{Path(model).name or 'model'}{_SUFFIX[to]}")
    facts: dict[str, Any] = {"format": to} if to == "c" else {"format": to, "file": str(path)}
    example = _sequence(seen.x)
    if to == "nir":
        graph = infer.to_nir(seen.net, path, example=example, dt=dt, target=target, soft_reset=soft_reset)  # pyright: ignore[reportArgumentType]
        kinds = [type(node).__name__ for node in graph.nodes.values()]
        counted = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
        facts |= {"target": target, "dt": float(graph.metadata["dt"]), "nodes": counted}
    elif to == "c":
        facts |= _c(infer, seen.net, path, seen.x, steps)
    else:
        write = infer.export_onnx if to == "onnx" else infer.export_torch
        done = write(seen.net, path, mode=mode, example=example, T=steps, batch=batch)  # pyright: ignore[reportArgumentType]
        facts |= {
            "mode": done.mode, "inputs": done.inputs, "outputs": done.outputs, "initial": done.initial,
            "difference": done.difference,
        }  # fmt: skip
    if as_json:
        print_json({"model": model, **facts})
        return
    rows = [(key, _shown(value)) for key, value in facts.items() if value not in ({}, None)]
    print_table(["", ""], rows)
    print(seen.caption)


def _sequence(x: Tensor) -> Tensor | None:
    """`x` if it is a sequence; a static image leaves the choice to the format."""
    return x if x.dim() in (3, 5) and x.is_floating_point() else None


def _c(infer: Any, net: Any, folder: Path, x: Tensor, steps: int | None) -> dict[str, Any]:
    """The engine's program as C99 in a folder of its own."""
    name = re.sub(r"\W+", "_", folder.name)
    engine = infer.compile(net, x if steps is None or _sequence(x) is None else x[:steps])
    written = infer.export_c(engine, folder, name if not name[:1].isdigit() else f"net_{name}")
    files = sorted(path for path in written.iterdir() if path.suffix in (".c", ".h"))
    return {"folder": str(written), "bytes": {path.name: path.stat().st_size for path in files}}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
