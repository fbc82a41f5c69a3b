"""`ranvier models`: what can be created by name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json, print_table
from ranvier.errors import UnknownNameError, nearest


def models(
    pattern: Annotated[str, typer.Argument(help="A name or a wildcard, such as 'spik*'.")] = "*",
    family: Annotated[str | None, typer.Option("--family", help="Only models of this family.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only models that come with weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the registered models, or show the card of one.

    `params` is what the publication counts, `trainable` counts everything; `weights` are the trained ones that come
    with the package: `create_model(name, pretrained=True)`, `ranvier eval NAME --pretrained`.

    \b
    Examples:
      ranvier models
      ranvier models 'spik*' --json
      ranvier models spikformer_cifar_4_384
      ranvier models --pretrained
    """
    from ranvier.models import describe_models, list_models

    cards = [
        card
        for card in describe_models(pattern, counts=False)
        if family in (None, card["family"]) and (card["pretrained"] or not pretrained)
    ]
    if not cards:
        asked = pattern if family is None else f"{pattern} of family {family}"
        if pretrained and list_models(pattern, family):
            known = ", ".join(list_models(pretrained=True))
            raise UnknownNameError(f"no model that matches {asked!r} comes with trained weights; these do: {known}")
        raise UnknownNameError(f"no model matches {asked!r}{nearest(pattern, list_models())} (all: ranvier models)")
    alone = len(cards) == 1 and cards[0]["name"] == pattern
    if as_json or alone:  # a table does without what takes seconds to count
        cards = [described for card in cards for described in describe_models(card["name"])]
    if as_json:
        print_json(cards)
    elif alone:
        show(cards[0])
    else:
        columns = ["name", "family", ">params", ">T", "input", "spikes", "weights", "summary"]
        print_table(columns, map(row, cards))


def shape(sizes: tuple[int, ...]) -> str:
    """`3×32×32`."""
    return "×".join(map(str, sizes))


def row(card: dict[str, Any]) -> tuple[Any, ...]:
    """A line of the list."""
    params, size = f"{card['params']:,}", shape(card["input_shape"])
    return card["name"], card["family"], params, card["T"], size, card["spike_type"], _tags(card), card["summary"]


def _tags(card: dict[str, Any]) -> str:
    return ", ".join(weights["name"].partition(".")[2] for weights in card["pretrained"]) or "—"


def show(card: dict[str, Any]) -> None:
    """The card of one model, a fact a line."""
    facts = {
        "summary": card["summary"],
        "family": card["family"],
        "params": f"{card['params']:,} ({card['counting']})",
        "trainable": f"{card['trainable']:,}",
        "input": f"{shape(card['input_shape'])}, T = {card['T']}, {card['num_classes']} classes",
        "spikes": card["spike_type"],
        "spike-driven": "by design"
        if card["spike_driven"]
        else f"no: {'; '.join(card['violations']) or 'see the audit'}",
        "streams": "yes" if card["streams"] else "no: it looks at all steps at once",
    }
    for weights in card["pretrained"]:
        facts[f"weights {weights['name']}"] = (
            f"{weights['metric']} {weights['value']:.2%} ± {weights['standard_error']:.2%} on {weights['data']}"
            f" ({weights['bytes'] / 1e6:.2f} MB)"
        )
    if paper := card["paper"]:
        facts["paper"] = ", ".join(filter(None, (paper["title"], paper["venue"], paper["id"])))
    if card["code"]:
        facts["code"] = card["code"]
    for number in card["reported"]:
        steps = "" if number["T"] is None else f", T = {number['T']}"
        facts[f"reported, {number['dataset']}"] = f"{number['value']} {number['metric']}{steps} ({number['source']})"
    for i, deviation in enumerate(card["deviations"]):
        facts["deviations" if i == 0 else " " * (i + 1)] = deviation
    print_table([card["name"], ""], list(facts.items()))
