"""Trained weights measured again, and packed from runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranvier.errors import ArgumentError
from ranvier.models.pretrained import list_pretrained, packed_cards, read_card
from ranvier.train import evaluate_pretrained, fit, load_recipe, pack_weights


def test_the_digits_give_what_their_card_says() -> None:
    check = evaluate_pretrained("spiking_mlp")
    assert check.same_data and check.within
    assert check.evaluation.accuracy == check.card.value  # the same machine kind: to the sample
    held = evaluate_pretrained("spiking_mlp", split="validation")
    assert held.within is None and held.evaluation.n == check.card.data["validation"]


@pytest.mark.parametrize("card", [c for c in list_pretrained() if c.data["name"] != "digits"], ids=lambda c: c.name)
def test_other_weights_give_what_their_cards_say(card, ranvier_data: Path) -> None:
    if card.data["name"] == "fsdd-spikes" or card.n > 1000:
        pytest.skip("takes long; `ranvier eval NAME --pretrained` does it")
    check = evaluate_pretrained(card.name)
    assert check.same_data and check.within


def test_packing_takes_the_best_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for seed in (3, 4):
        recipe = load_recipe(
            "digits_mlp", [f"seed={seed}", "train.max_steps=6", "data.limit_train=200", "data.limit_test=50"]
        )
        runs.append(tmp_path / str(seed))
        fit(recipe, runs[-1], progress=False)
    path = pack_weights(runs, "few", tmp_path / "weights", command="a command", default=False)
    card = read_card(path)
    assert card.name == "spiking_mlp.few" and [run["seed"] for run in card.seeds] == [3, 4]
    assert card.n == 50 and card.data["options"] == {"train_size": 200, "test_size": 50}
    monkeypatch.setattr("ranvier.models.pretrained.FOLDER", path.parent)
    packed_cards.cache_clear()
    try:
        assert evaluate_pretrained("spiking_mlp.few").evaluation.accuracy == card.value
    finally:
        packed_cards.cache_clear()
    other = tmp_path / "other"
    fit(load_recipe("digits_mlp", ["train.max_steps=1", "train.lr=1.0"]), other, progress=False)
    with pytest.raises(ArgumentError, match="one recipe"):
        pack_weights([runs[0], other], "x", tmp_path, command="", default=False)
    with pytest.raises(ArgumentError, match="not a finished run"):
        pack_weights([tmp_path / "nothing"], "x", tmp_path, command="", default=False)
