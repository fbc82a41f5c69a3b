from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranvier.train import fit, parse_recipe

Ranvier = Callable[..., Any]
SIZES = ("img_size=16", "embed=[4,8,8,16]", "depth=4", "num_heads=2", "layer_scale=0.5", "num_classes=5")


def test_a_fresh_model(ranvier: Ranvier) -> None:
    outcome = ranvier("convert", "qsd_transformer_15m", *SIZES, "--samples", 6, "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found["virtual steps"] == 4 and found["merged"] == 20 and found["unfolded"] == []
    same = found["equivalence"]
    assert same["equal"] and same["same_predictions"] == same["samples"] == 6
    assert [name for name, _ in same["exempt"]] == ["down.0.block.conv.synapse"]
    text = ranvier("convert", "qsd_transformer_15m", *SIZES, "--samples", 6, "--no-merge").out
    assert "depthwise" in text and "of 4 bits or fewer" in text and "equal: logits" in text
    text = ranvier("convert", "qsd_transformer_15m", *SIZES, "--samples", 6, "--requantize", 4).out
    assert "not the same net" in text and "of 4 bits or fewer" in text


def test_a_run_is_written_and_verified_again(ranvier: Ranvier, tmp_path: Path) -> None:
    recipe = {
        "name": "small", "data": {"name": "digits", "limit_train": 64, "limit_test": 32, "validation": 0},
        "model": {"name": "spiking_conv_net", "args": {"channels": [4], "hidden": 8, "T": 2,
                                                       "neuron": {"type": "ie_lif", "levels": 2}}},
        "train": {"epochs": 1, "accelerator": "cpu"},
    }  # fmt: skip
    fit(parse_recipe(recipe), tmp_path / "run", progress=False)
    outcome = ranvier("convert", tmp_path / "run", "--out", tmp_path / "spikes", "--samples", 20)
    assert outcome.code == 0 and "written to" in outcome.out and "20 of 20 samples" in outcome.out
    outcome = ranvier("verify-equivalence", tmp_path / "run", tmp_path / "spikes", "--samples", 20, "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["equal"]
    assert ranvier("verify-equivalence", tmp_path / "run", tmp_path / "nothing").code == 1


def test_what_cannot_be_converted(ranvier: Ranvier) -> None:
    outcome = ranvier("convert", "spiking_mlp", "--precision", "float16")
    assert outcome.code == 2 and "float64" in outcome.err
