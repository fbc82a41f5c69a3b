"""`ranvier eval`: a finished run on its data again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, as `ranvier train --out` wrote it.")],
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Samples a forward pass.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    context: Annotated[int | None, typer.Option("--context", min=1, help="Of text: tokens a window.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Of text: tokens between windows.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Of text: read it as one stream.")] = False,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the selected weights of a run: accuracy after each time step; of a text, bits and perplexity.

    A text is cut into windows of --context tokens (its training length), each read from an empty state; with --stride
    they overlap and each token is scored once, --stream carries the state through the whole text.

    \b
    Examples:
      ranvier eval runs/first
      ranvier eval runs/first --split validation --json
      ranvier eval runs/bard --context 256 --stride 64
      ranvier eval runs/bard --stream
    """
    from ranvier import train as room

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
    by_step = ", ".join(f"{accuracy:.2%}" for accuracy in figures.accuracy_by_step)
    rate = "—" if figures.firing_rate is None else f"{figures.firing_rate:.2%}"
    accuracy: list[tuple[str, str]] = []
    if figures.accuracy is not None:
        accuracy = [(f"{split} accuracy", f"{figures.accuracy:.2%} of {figures.n}"), ("after each step", by_step)]
    facts = [
        *accuracy,
        ("loss", f"{figures.loss:.4f}"),
        ("firing rate", rate),
        ("time", f"{figures.seconds:.2f} s"),
    ]
    print_table(["", ""], facts)
