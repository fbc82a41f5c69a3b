"""The table of verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import ranvier
from ranvier.cli.audit import audit
from ranvier.cli.bench import bench
from ranvier.cli.claims import claims
from ranvier.cli.convert import convert, verify_equivalence
from ranvier.cli.data import data
from ranvier.cli.dc import dc
from ranvier.cli.doctor import doctor
from ranvier.cli.energy import energy
from ranvier.cli.evaluate import evaluate
from ranvier.cli.exit import exit_verb
from ranvier.cli.export import export
from ranvier.cli.generate import generate
from ranvier.cli.loop import loop
from ranvier.cli.models import models
from ranvier.cli.report import report
from ranvier.cli.sample import sample
from ranvier.cli.stream import stream
from ranvier.cli.train import train
from ranvier.cli.transfer import transfer

VERBS: dict[str, Callable[..., Any] | typer.Typer] = {
    "models": models,
    "train": train,
    "eval": evaluate,
    "bench": bench,
    "report": report,
    "claims": claims,
    "loop": loop,
    "audit": audit,
    "energy": energy,
    "convert": convert,
    "verify-equivalence": verify_equivalence,
    "export": export,
    "stream": stream,
    "data": data,
    "sample": sample,
    "generate": generate,
    "dc": dc,
    "exit": exit_verb,
    "transfer": transfer,
    "doctor": doctor,
}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
for name, verb in VERBS.items():
    if isinstance(verb, typer.Typer):  # a verb with verbs of its own
        app.add_typer(verb, name=name)
    else:
        app.command(name)(verb)


def _version(asked: bool) -> None:
    if asked:
        print(f"ranvier {ranvier.__version__}")
        raise typer.Exit(0)


@app.callback()
def ranvier_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Spiking neural networks on PyTorch: train, measure and compare them.

    \b
    Examples:
      ranvier models 'spik*'
      ranvier train digits_mlp train.epochs=1 --out runs/first
      ranvier bench quick --out runs/quick

    \b
    Exit codes:
      0    done
      1    the run failed
      2    wrong usage, option or configuration
      3    an optional package or data is missing
      130  interrupted (Ctrl-C); what had been done can be continued
    """
