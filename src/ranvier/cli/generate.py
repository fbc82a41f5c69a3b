"""`ranvier generate`: text from a trained language model, as it is drawn."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json
from ranvier.errors import ArgumentError


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run that trained a language model.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Text to go on with; - reads standard input.")] = "\n",
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=0, help="How many tokens to draw.")] = 333,
    temperature: Annotated[float, typer.Option("--temperature", "-t", help="Above 1 bolder, 0 the likeliest.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Draw from the likeliest tokens of this total.")] = 0.9,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="The same text every time.")] = None,
    ban: Annotated[list[int] | None, typer.Option("--ban", help="A token never to draw (may be repeated).")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Continue a text, a token after the other, at memory that does not grow.

    \b
    Examples:
      ranvier train shakespeare_spike_gpt --out runs/bard
      ranvier generate runs/bard --prompt "ROMEO:" --tokens 400 --seed 1
      echo "To be" | ranvier generate runs/bard --prompt - --temperature 0.7
    """
    import torch

    from ranvier.models import LanguageModel
    from ranvier.train import load_run
    from ranvier.train.run import tokenizer_of

    net, _ = load_run(run)
    if not isinstance(net, LanguageModel):
        raise ArgumentError(f"{run} holds no language model; `ranvier models --family spike_gpt` lists some")
    tokenizer = tokenizer_of(run)
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text:
        raise ArgumentError('--prompt: an empty text; "\\n" begins a new one')
    net.to(device).batch_first = False
    ids = torch.from_numpy(tokenizer.encode(text).copy()).to(device)
    feed, made, started = tokenizer.feed(), [], time.perf_counter()
    for token in net.sample(ids, tokens, temperature, top_p, seed, tuple(ban or ())):
        made.append(feed.push(int(token)))
        if not as_json:
            sys.stdout.write(("" if len(made) > 1 else text) + made[-1])
            sys.stdout.flush()
    seconds = time.perf_counter() - started
    if as_json:
        rate = tokens / seconds if tokens else None
        print_json({"prompt": text, "text": "".join(made), "tokens": tokens, "seed": seed, "tokens_per_second": rate})
    else:
        sys.stdout.write("\n" if made else f"{text}\n")
