from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ranvier.models import list_models

Ranvier = Callable[..., Any]


def test_json_is_a_list_of_every_model(ranvier: Ranvier) -> None:
    cards = json.loads(ranvier("models", "--json").out)
    assert [card["name"] for card in cards] == list_models()
    for card in cards:
        assert isinstance(card["params"], int)
        assert isinstance(card["trainable"], int)
        assert isinstance(card["family"], str)


def test_wildcard_and_family(ranvier: Ranvier) -> None:
    cards = json.loads(ranvier("models", "spik*", "--json").out)
    assert cards
    assert all(card["name"].startswith("spik") for card in cards)
    only = json.loads(ranvier("models", "--family", "mlp", "--json").out)
    assert {card["family"] for card in only} == {"mlp"}


def test_the_table_has_a_line_a_model(ranvier: Ranvier) -> None:
    lines = ranvier("models").out.splitlines()
    assert len(lines) == 1 + len(list_models())


def test_one_name_shows_its_card(ranvier: Ranvier) -> None:
    out = ranvier("models", "spikformer_8_512").out
    assert "Spikformer" in out
    assert "29,689,384" in out


def test_unknown_name_names_the_nearest(ranvier: Ranvier) -> None:
    outcome = ranvier("models", "spiking_mpl")
    assert outcome.code == 2
    assert "did you mean 'spiking_mlp'?" in outcome.err
