"""Trained weights inside the package: cards, arguments, errors."""

from __future__ import annotations

import hashlib
import json
import math
import socket
from pathlib import Path

import pytest
import torch

from ranvier.errors import ArgumentError, CheckpointError, UnknownNameError
from ranvier.models import create_model, describe_models, list_models, list_pretrained, weight_card
from ranvier.models.pretrained import FOLDER, LARGEST, packed_cards, read_card

CARDS = list_pretrained()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_describes_its_file(card) -> None:
    content = card.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == card.sha256
    assert len(content) == card.bytes <= LARGEST
    assert card.standard_error == pytest.approx(math.sqrt(card.value * (1 - card.value) / card.n))
    assert card.seed in [run["seed"] for run in card.seeds]
    best = max(card.seeds, key=lambda run: run["validation"])
    assert best["seed"] == card.seed and best["test"] == card.value  # chosen on the validation part
    assert card.recipe["seed"] == card.seed and card.recipe["data"]["root"] is None
    assert str(Path.home()) not in json.dumps(card.to_json())
    assert read_card(FOLDER / f"{card.name}.json") == card


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_weights_load_without_a_network(card, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no network is needed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    net = create_model(card.name, pretrained=True)
    assert not net.training and net.card.name == card.model
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == card.params
    assert all(torch.equal(net.state_dict()[key], value) for key, value in card.weights().items())
    again = create_model(net.config["name"], **net.config["args"])  # how a run rebuilds it: without weights
    again.load_state_dict(net.state_dict())


def test_default_weights_tags_and_overrides() -> None:
    net = create_model("spiking_mlp", pretrained=True)
    assert net.num_classes == 10 and net.img_size == (8, 8)
    assert torch.equal(net.head.weight, create_model("spiking_mlp", pretrained="digits").head.weight)
    assert create_model("spiking_mlp", pretrained=True, T=7).T == 7
    fresh = create_model("spiking_mlp.digits")
    assert not torch.equal(fresh.head.weight, net.head.weight)
    assert fresh.config["args"] == net.config["args"] == weight_card("spiking_mlp").arguments
    for model in {card.model for card in CARDS}:
        assert sum(card.default for card in list_pretrained(model)) == 1


def test_errors_name_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"'sdt' comes without trained weights; there are: .*spiking_mlp.digits"):
        create_model("sdt", pretrained=True)
    with pytest.raises(UnknownNameError, match="it has: digits"):
        create_model("spiking_mlp", pretrained="imagenet")
    with pytest.raises(UnknownNameError, match="did you mean 'spiking_mlp'"):
        create_model("spikng_mlp.digits", pretrained=True)
    with pytest.raises(ArgumentError, match="contradicts"):
        create_model("spiking_mlp.digits", pretrained="mnist")
    with pytest.raises(ArgumentError, match=r"do not fit \(.*head"):
        create_model("spiking_mlp", pretrained=True, num_classes=5)


def test_the_registry_shows_them() -> None:
    assert "spiking_mlp" in list_models(pretrained=True) and "sdt" not in list_models(pretrained=True)
    (described,) = describe_models("spiking_mlp")
    assert described["pretrained"][0]["name"] == "spiking_mlp.digits"
    assert describe_models("sdt")[0]["pretrained"] == []


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = weight_card("spiking_mlp")
    (tmp_path / f"{card.name}.safetensors").write_bytes(card.path.read_bytes()[:-4])
    monkeypatch.setattr("ranvier.models.pretrained.FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="damaged"):
        card.weights()
    for text in ('{"format": 1}', "{", '{"format": 9}', "[]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"x\.json"):
            read_card(tmp_path / "x.json")
    packed_cards.cache_clear()
    try:
        with pytest.raises(CheckpointError):
            list_pretrained()
    finally:
        packed_cards.cache_clear()
