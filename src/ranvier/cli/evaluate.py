"""`ranvier eval`: a finished run, or trained weights of the package, on its data again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ranvier.train import Evaluation


def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Folder of a run; with --pretrained a model, or MODEL.TAG.")
    ],
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Samples a forward pass.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    context: Annotated[int | None, typer.Option("--context", min=1, help="Of text: tokens a window.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Of text: tokens between windows.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Of text: read it as one stream.")] = False,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Evaluate trained weights that come with the package.")
    ] = False,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the selected weights of a run: accuracy after each time step; of a text, bits and perplexity.

    With --pretrained: the weights that come with the package, on the data that their card names, beside the figure on
    the card (`ranvier models --pretrained` lists them).

    A text is cut into windows of --context tokens (its training length), each read from an empty state; with --stride
    they overlap and each token is scored once, --stream carries the state through the whole text.

    \b
    Examples:
      ranvier eval runs/first
      ranvier eval runs/first --split validation --json
      ranvier eval runs/bard --context 256 --stride 64
      ranvier eval runs/bard --stream
      ranvier eval spiking_mlp --pretrained
    """
    from ranvier import train as room

    if pretrained:
        if context or stride or stream:
            raise typer.BadParameter("--context, --stride and --stream are for texts", param_hint="--pretrained")
        _pretrained(run, split, batch_size, data_root, device, as_json)
        return
    _guess(run)
    if context or stride or stream:
        text = room.evaluate_run_text(
            run, split=split, context=context, stride=stride, streaming=stream, data_root=data_root, device=device,
            batch_size=batch_size or 8,
        )  # fmt: skip
        if as_json:
            print_json({"run": run, "split": split, **text.to_json()})
            return
        way = "one stream" if text.context is None else f"windows of {text.context} every {text.stride}"
        units = {"token": text.bits_per_token, "character": text.bits_per_character, "byte": text.bits_per_byte}
        print_table(["", ""], [
            (f"{split} text", f"{text.tokens:,} tokens, {way}"),
            *((f"bits a {unit}", f"{bits:.4f}") for unit, bits in units.items() if bits is not None),
            ("perplexity a token", f"{text.perplexity:.3f}"), ("time", f"{text.seconds:.1f} s"),
        ])  # fmt: skip
        return
    figures = room.evaluate(
        run, split=split, batch_size=batch_size, data_root=data_root, device=device  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    if as_json:
        print_json({"run": run, "split": split, **figures.to_json()})
        return
    print_table(["", ""], _facts(figures, split))


def _facts(figures: Evaluation, split: str) -> list[tuple[str, str]]:
    by_step = ", ".join(f"{accuracy:.2%}" for accuracy in figures.accuracy_by_step)
    rate = "—" if figures.firing_rate is None else f"{figures.firing_rate:.2%}"
    accuracy: list[tuple[str, str]] = []
    if figures.accuracy is not None:
        accuracy = [(f"{split} accuracy", f"{figures.accuracy:.2%} of {figures.n}"), ("after each step", by_step)]
    scores = [(f"{split} {name}", "—" if value < 0 else f"{value:.2%}") for name, value in figures.scores.items()]
    return [
        *accuracy,
        *scores,
        ("loss", f"{figures.loss:.4f}"),
        ("firing rate", rate),
        ("time", f"{figures.seconds:.2f} s"),
    ]


def _pretrained(
    name: str, split: str, batch_size: int | None, data_root: Path | None, device: str, as_json: bool
) -> None:
    from ranvier.train import evaluate_pretrained

    check = evaluate_pretrained(
        name, split=split, batch_size=batch_size, data_root=data_root, device=device  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    card = check.card
    if as_json:
        stored = {"value": card.value, "standard_error": card.standard_error, "n": card.n, "date": card.date}
        print_json({
            "weights": card.name, "data": card.data["name"], "split": split, **check.evaluation.to_json(),
            "card": stored, "same_data": check.same_data, "within_one_standard_error": check.within,
        })  # fmt: skip
        return
    verdict = {True: "within one standard error", False: "NOT within one standard error", None: "not comparable"}
    other = "" if check.same_data else " (the data here has another fingerprint)"
    print_table([card.name, f"on {card.data['name']}{other}"], [
        *_facts(check.evaluation, split),
        ("card", f"{card.value:.2%} ± {card.standard_error:.2%} of {card.n}: {verdict[check.within]}"),
        ("seeds", f"{len(card.seeds)}, {card.mean:.2%}"
            + ("" if card.deviation is None else f" ± {card.deviation:.2%} over them")),
        ("trained", f"{card.date}, {card.train_s:.0f} s: {card.command}"),
    ])  # fmt: skip


def _guess(run: str) -> None:
    """Say what to do where the name of a model is given instead of a folder."""
    if Path(run).exists():
        return
    from ranvier.models import MODELS

    if run.partition(".")[0] in MODELS:
        raise typer.BadParameter(f"{run} is a model, not a run; --pretrained evaluates its trained weights")
