"""STEP's own configuration files, with the keys that they really have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ranvier.bench.step_config import MODELS, convert, import_step
from ranvier.errors import ConfigError
from ranvier.models import create_model
from ranvier.train import load_recipe

CIFAR: dict[str, Any] = {
    "data_dir": "/data/datasets/CIFAR10", "dataset": "torch/cifar10", "num_classes": 10, "img_size": 32,
    "mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616], "crop_pct": 1.0, "scale": [1.0, 1.0],
    "ratio": [1.0, 1.0], "color_jitter": 0.0, "interpolation": "bicubic", "train_interpolation": "bicubic",
    "aa": "rand-m9-n1-mstd0.4-inc1", "epochs": 400, "mixup": 0.5, "mixup_off_epoch": 200, "mixup_prob": 1.0,
    "mixup_mode": "batch", "mixup_switch_prob": 0.5, "cutmix": 0.0, "reprob": 0.25, "remode": "const",
    "model": "spikformer_cifar", "step": 4, "patch_size": 4, "in_channels": 3, "embed_dim": 384, "num_heads": 12,
    "mlp_ratio": 4, "attn_scale": 0.125, "mlp_drop": 0.0, "attn_drop": 0.0, "depths": 4, "embed_layer": "SPS",
    "attn_layer": "SSA", "tau": 2.0, "threshold": 1.0, "act_function": "SigmoidGrad", "node_type": "LIFNode",
    "alpha": 4.0, "amp": True, "batch_size": 128, "val_batch_size": 128, "lr": "5e-4", "min_lr": "1e-5",
    "sched": "cosine", "weight_decay": "6e-2", "cooldown_epochs": 10, "warmup_epochs": 20, "warmup_lr": 0.00001,
    "opt": "adamw", "smoothing": 0.1, "workers": 16, "seed": 42, "log_interval": 200, "output": "/home/x", "device": 2,
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**CIFAR, **changes}.items() if value is not ...}


def test_the_published_configuration_of_spikformer(tmp_path: Path) -> None:
    """It comes out as the recipe at full scale that ships here, but for the crop that timm does not make."""
    file = tmp_path / "spikformer" / "cifar10.yml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(CIFAR))
    found = import_step(file).recipe
    ours = load_recipe("cifar10_spikformer_4_384")
    assert found.name == "step-spikformer-cifar10" and found.seed == 42
    assert found.train == ours.train
    assert found.data.augment == ours.data.augment.model_copy(update={"crop": 0})
    assert found.model.name == ours.model.name == "spikformer_cifar_4_384"
    args = found.model.args
    assert (args["depth"], args["num_heads"], args["scale"], args["T"]) == (4, 12, 0.125, 4)
    assert args["neuron"] == {
        "type": "lif", "tau": 2.0, "threshold": 1.0, "surrogate": {"type": "sigmoid", "alpha": 4.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    "node", ["ComplementaryLIFNeuron", "GLIFTorch", "PSNTorch", "EIFNode", "ILIFNode", "HDLIFNode"]
)
def test_the_net_of_a_configuration_can_be_made(node: str) -> None:
    small = changed(
        embed_dim=24, depths=1, num_heads=4, node_type=node, attn_layer="random_attn", embed_layer="conv2_embed"
    )
    found = convert(small, "small")
    net = create_model(found.recipe.model.name, **found.recipe.model.args)
    assert net(torch.rand(2, 3, 32, 32)).shape == (4, 2, 10)
    assert any("fixed one" in note for note in found.notes) is (node not in ("EIFNode", "ILIFNode"))


@pytest.mark.parametrize("model", [name for name in MODELS if name.endswith("_cifar")])
def test_every_model_for_cifar_gets_arguments_that_it_takes(model: str) -> None:
    found = convert(changed(model=model, num_heads=8, embed_layer=..., attn_layer=...), model)
    settings = [note for note in found.notes if "is not read" in note]
    assert bool(settings) is bool(MODELS[model].without)
    arguments = found.recipe.model.args
    if "embed_dim" in arguments:
        arguments = (
            arguments | {"embed_dim": 32, "num_heads": 2} if "num_heads" in arguments else arguments | {"embed_dim": 32}
        )
        arguments.pop("attention_options", None)
    if model != "spikf_semm_cifar":
        create_model(found.recipe.model.name, **arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 200}, "unknown key 'epoch'; did you mean 'epochs'"),
        ({"embed_layer": "SP"}, "did you mean 'SPS'"),
        ({"model": "spikformer_cifr"}, "did you mean 'spikformer_cifar'"),
        ({"num_heads": 7}, "must divide"),
        ({"mixup_prob": 0.6}, "only 1.0"),
        ({"step": ...}, "step: is missing"),
        ({"node_type": "QIFNode"}, "has no equal here"),
        ({"lr": "fast"}, "expected a number"),
        ({"aa": "augmix-m5"}, "expected a policy"),
        ({"patch_size": 8}, "patches of 4"),
        ({"dataset": "esimnet"}, "has no equal here"),
        ({"model": "qkformer_cifar", "attn_layer": "random_attn"}, "no argument 'freeze_qk'"),
        ({"model-ema": True}, "train.ema"),
        ({"scale": [0.08, 1.0]}, "random resized crops"),
    ],
)
def test_what_has_no_equal_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        convert(changed(**changes), "x")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        import_step(tmp_path / "none.yml")
    (tmp_path / "list.yml").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="mapping"):
        import_step(tmp_path / "list.yml")
