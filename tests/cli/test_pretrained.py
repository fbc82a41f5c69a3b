"""`ranvier eval NAME --pretrained` and `ranvier models --pretrained`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Ranvier = Callable[..., Any]


def test_eval_gives_the_figure_of_the_card(ranvier: Ranvier) -> None:
    found = json.loads(ranvier("eval", "spiking_mlp", "--pretrained", "--json").out)
    assert found["weights"] == "spiking_mlp.digits" and found["same_data"]
    assert found["within_one_standard_error"] and found["accuracy"] == pytest.approx(found["card"]["value"], abs=0.006)
    table = ranvier("eval", "spiking_mlp.digits", "--pretrained")
    assert table.code == 0 and "within one standard error" in table.out and "scripts/train_weights.py" in table.out


def test_errors_say_what_exists(ranvier: Ranvier) -> None:
    none = ranvier("eval", "sdt", "--pretrained")
    assert none.code == 2 and "spiking_mlp.digits" in none.err
    tag = ranvier("eval", "spiking_mlp.imagenet", "--pretrained")
    assert tag.code == 2 and "it has: digits" in tag.err
    forgotten = ranvier("eval", "spiking_mlp")
    assert forgotten.code == 2 and "--pretrained" in forgotten.err
    assert ranvier("eval", "spiking_mlp", "--pretrained", "--stream").code == 2


def test_models_with_weights(ranvier: Ranvier) -> None:
    cards = json.loads(ranvier("models", "spiking_*", "--pretrained", "--json").out)
    assert {"spiking_mlp", "spiking_conv_net"} <= {card["name"] for card in cards} and all(
        c["pretrained"] for c in cards
    )
    assert "weights spiking_mlp.digits" in ranvier("models", "spiking_mlp").out
    none = ranvier("models", "sdt*", "--pretrained")
    assert none.code == 2 and "spiking_mlp" in none.err
