"""Whole runs: a recipe with images beside events, what it leaves behind, resuming, folds, and weights to start from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ranvier.errors import ConfigError, DataError
from ranvier.models import create_model
from ranvier.train import Recipe, evaluate, fit, load_run, load_splits, read_journal
from ranvier.train.checkpoint import load_weights
from ranvier.train.session import Session
from ranvier.train.transfer import PairedImages

Make = Callable[..., Recipe]


def epochs_of(out: Path) -> list[dict[str, Any]]:
    return [entry for entry in read_journal(out / "metrics.jsonl") if "epoch" in entry]


def test_run_leaves_a_plain_event_net(transfer_recipe: Make, tmp_path: Path) -> None:
    result = fit(transfer_recipe(), tmp_path, progress=False)
    plain = create_model("vgg_snn", widths=(4, 6), pools=(0, 1), img_size=8, num_classes=10, T=4)
    weights = load_weights(tmp_path / "model.safetensors")
    assert set(weights) == set(plain.state_dict())
    assert result.params > sum(p.numel() for p in plain.parameters()) - 1
    net, _ = load_run(tmp_path)
    assert type(net) is type(plain) and sum(p.numel() for p in net.parameters()) == result.params
    found = evaluate(tmp_path)
    assert found.accuracy == result.test.accuracy
    last = epochs_of(tmp_path)[-1]
    assert len(last["temporal"]) == 4 and 0 < last["replacement"] < 1 and last["static_loss"] > 0
    assert 0 <= last["alignment_loss"] <= 1


def test_resumed_run_is_the_same_to_the_bit(
    transfer_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    recipe = transfer_recipe(train={"checkpoint_steps": 1}, transfer={"norms": "separate"})
    fit(recipe, tmp_path / "whole", progress=False)
    plain = Session._update
    count = 0

    def stops(self: Session, *arguments: Any) -> None:
        nonlocal count
        count += 1
        plain(self, *arguments)
        if count == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_update", stops)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "parts", progress=False)
    monkeypatch.setattr(Session, "_update", plain)
    fit(recipe, tmp_path / "parts", progress=False)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert threading.active_count() < 20


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer": {"sliding": "switch", "temporal": "fixed", "temporal_value": 0.0}},
        {"transfer": {"sliding": "none", "coefficient": 0.0, "temporal": "none", "pairing": "shuffled"}},
        {"transfer": {"heads": "shared", "debiased": True, "temporal_bounds": [0.05, 0.95], "temporal_entropy": 0.1}},
        {"transfer": {"temporal": "none", "tap": "blocks.0.neuron", "what": "membrane", "distance": "mmd"},
         "train": {"loss": "cross_entropy"}},
        {"transfer": {"semantic": 0.3, "semantic_margin": 0.0, "semantic_until": 1.0}},
        {"data": {"balanced": True, "fold": [1, 4]}, "transfer": {"share": 0.5, "channel": "grey", "kernel": "rbf"}},
    ],
)  # fmt: skip
def test_variants_run(transfer_recipe: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    changes["train"] = {**changes.get("train", {}), "epochs": 1}
    fit(transfer_recipe(**changes), tmp_path, progress=False)
    entry = epochs_of(tmp_path)[-1]
    if changes["transfer"].get("temporal") == "fixed":
        assert entry["temporal"] == [0.0] * 4
    assert (entry.get("semantic_loss", 0.0) > 0) == ("semantic" in changes["transfer"])
    assert ("temporal" in entry) == (changes["transfer"].get("temporal") != "none")


def test_only_the_net_of_events_is_trained_without_static_gradients(transfer_recipe: Make, tmp_path: Path) -> None:
    """Groups name parameters as the model does, and the coefficients too."""
    recipe = transfer_recipe(
        train={"epochs": 1, "groups": [{"match": "head.*", "lr": 1e-30}, {"match": "coefficients.eta", "lr": 1e-30}]}
    )
    fit(recipe, tmp_path, progress=False)
    assert epochs_of(tmp_path)[-1]["temporal"] == pytest.approx([0.7311] * 4, abs=1e-4)


def test_pictures_of_held_out_recordings_are_not_drawn(
    transfer_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    given: dict[str, Any] = {}
    plain = PairedImages.__init__

    def look(self: PairedImages, *arguments: Any) -> None:
        arguments[1].keys = [f"{n}" for n in range(len(arguments[1]))]
        plain(self, *arguments)
        given["exclude"], given["excluded"] = arguments[5], self.excluded

    monkeypatch.setattr(PairedImages, "__init__", look)
    recipe = transfer_recipe(data={"validation": 20}, train={"epochs": 1})
    fit(recipe, tmp_path, progress=False)
    splits = load_splits(recipe)
    assert splits.validation is not None
    held = {*(splits.validation.keys or ()), *(splits.test.keys or ())}
    assert given["exclude"] == held and given["excluded"] == len(held) == 60


def test_folds_hold_every_sample_once(transfer_recipe: Make) -> None:
    parts = [load_splits(transfer_recipe(data={"fold": [i, 4]})) for i in range(4)]
    keys = [key for part in parts for key in part.test.keys or ()]
    assert len(keys) == 160 and len(set(keys)) == 160
    for part in parts:
        assert not {*(part.train.keys or ())} & {*(part.test.keys or ())} and len(part.train) == 120
        x, y = part.test.batch(range(5))
        assert torch.equal(x[:, 3], part.test[3][0]) and y[3] == part.test[3][1]
    assert len({part.bundle.fingerprint for part in parts}) == 4
    few = load_splits(transfer_recipe(data={"fold": [0, 4], "limit_train": 30}))
    assert len(few.train) == 30


def test_start_from_a_run_on_still_images(transfer_recipe: Make, digit_events: str, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"data": None}
    images = transfer_recipe(
        data={"name": "still_frames", "root": str(tmp_path), "options": {"of": "digits", "T": 4}},
        train={"epochs": 1}, transfer=nothing,
    )  # fmt: skip
    fit(images, tmp_path / "images", progress=False)
    started = transfer_recipe(
        train={"epochs": 1, "lr": 1e-30, "start": str(tmp_path / "images")}, transfer=nothing
    )  # fmt: skip
    fit(started, tmp_path / "events", progress=False)
    before, after = (dict(load_run(tmp_path / name)[0].named_parameters()) for name in ("images", "events"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    other = transfer_recipe(
        model={"args": {"widths": [4, 8], "pools": [0, 1]}}, train={"start": str(tmp_path / "images")}, transfer=nothing
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"train.start: .*'blocks.1.*shape"):
        fit(other, tmp_path / "other", progress=False)
    with pytest.raises(ConfigError, match=r"train.start"):
        fit(transfer_recipe(train={"start": str(tmp_path / "none")}), tmp_path / "none_2", progress=False)


@pytest.mark.parametrize(
    ("changes", "say"),
    [
        ({"data": {"batch_size": 1}}, "data.batch_size: .* batch of 1"),
        ({"data": {"batch_size": 3}, "transfer": {"debiased": True}}, "at least 4"),
        ({"data": {"name": "digits"}}, "must be a set of events"),
        ({"data": {"augment": {"mixup": 0.5}}}, "no static partner"),
        ({"transfer": {"data": "still_frames", "root": "."}}, "must be a set of images"),
        ({"train": {"loss": "cross_entropy"}}, "temporal=none"),
        ({"train": {"compile": True}}, "train.compile"),
        ({"train": {"loss": "binary"}}, "train.loss"),
        ({"transfer": {"tap": "blocks.0.neuro"}}, "did you mean 'blocks.0.neuron'"),
        ({"transfer": {"temporal_bounds": [0.9, 0.1]}}, "temporal_bounds"),
        ({"transfer": {"pairing": "instance"}}, "images have no keys"),
        ({"data": {"fold": [0, 50]}}, "smallest class"),
    ],
)
def test_what_cannot_be_trained(transfer_recipe: Make, tmp_path: Path, changes: dict[str, Any], say: str) -> None:
    with pytest.raises((ConfigError, DataError), match=say):
        fit(transfer_recipe(**changes), tmp_path, progress=False)


def test_recipe_refuses_impossible_folds(transfer_recipe: Make) -> None:
    with pytest.raises(ConfigError, match=r"data: fold must be \[i, k\]"):
        transfer_recipe(data={"fold": [4, 4]})
