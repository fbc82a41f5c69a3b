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


def ann_run(folder: Path, **train: Any) -> Path:
    recipe = {
        "name": "ann", "data": {"name": "digits", "limit_train": 300, "limit_test": 60, "validation": 60},
        "model": {"name": "vgg16_qcfs", "args": {"layers": [8, "A", 16], "hidden": 24, "start": 2.0}},
        "train": {"epochs": 2, "lr": 0.01, "accelerator": "cpu", **train},
    }  # fmt: skip
    fit(parse_recipe(recipe), folder, progress=False)
    return folder


def test_a_trained_ann_becomes_a_spiking_net(ranvier: Ranvier, tmp_path: Path) -> None:
    run = ann_run(tmp_path / "ann")
    outcome = ranvier("convert", run, "--from-ann", "--steps", 12, "--out", tmp_path / "snn", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert len(found["thresholds"]) == 4 and len(found["accuracy_by_step"]) == 12 and found["input_steps"] is None
    assert found["agreement"] > 0.3
    signed = ranvier("convert", run, "--from-ann", "--steps", 40, "--neuron", "qffs_if", "--json")
    assert json.loads(signed.out)["agreement"] == 1.0 and json.loads(signed.out)["input_steps"] == 4
    text = ranvier("convert", run, "--from-ann", "--steps", 4).out
    assert "accuracy of the ANN" in text and "layers of qcfs_if" in text
    # early exit of the written net knows its data
    outcome = ranvier("exit", "calibrate", tmp_path / "snn", "--out", tmp_path / "exit")
    assert outcome.code == 0 and "60 samples held out" in outcome.out
    assert ranvier("exit", "eval", tmp_path / "exit").code == 0


def test_a_model_by_name_with_weights(ranvier: Ranvier, tmp_path: Path) -> None:
    run = ann_run(tmp_path / "ann")
    sizes = ("in_channels=1", "img_size=8", "layers=[8,A,16]", "hidden=24")
    weights = ("--checkpoint", run / "model.safetensors")
    by_name = ranvier("convert", "vgg16_qcfs", *sizes, "--from-ann", *weights, "--json")
    assert by_name.code == 0 and len(json.loads(by_name.out)["thresholds"]) == 4
    on_data = ranvier("convert", "vgg16_qcfs", *sizes[2:], "--from-ann", *weights, "--data", "digits", "--json")
    same = ranvier("convert", run, "--from-ann", "--json")
    assert json.loads(on_data.out)["thresholds"] == json.loads(same.out)["thresholds"]
    for arguments, words in (
        (("spiking_mlp", "--from-ann"), "cannot be converted because of: neurons"),
        (("vgg16_qcfs", *sizes, "--checkpoint", run / "model.safetensors"), "goes with --from-ann"),
        (("vgg16_qcfs", "--from-ann", *weights), "the weights in"),
        ((run, "--from-ann", "--data", "digits"), "give none of these"),
        (("vgg16_qcfs", *sizes, "--from-ann", "--neuron", "lif"), "neuron must be"),
    ):
        outcome = ranvier("convert", *arguments)
        assert outcome.code in (1, 2) and words in outcome.err and outcome.err.count("\n") == 1, outcome
