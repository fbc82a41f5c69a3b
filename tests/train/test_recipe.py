from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ranvier.errors import ConfigError
from ranvier.train import Recipe, list_recipes, load_recipe, parse_recipe
from ranvier.train.recipe import dotted_keys

MINIMAL = {"name": "m", "data": {"name": "digits"}, "model": {"name": "spiking_mlp"}}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_of_the_library_loads_under_its_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_resolved_yaml_reads_back_to_an_equal_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("cifar10_spikformer_4_384", ["train.lr=3e-4", "data.augment.cutmix=0.5"])
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "r.yaml")
    assert again == recipe
    assert again.hash() == recipe.hash()
    assert set(yaml.safe_load(recipe.to_yaml())["train"]) == set(type(recipe.train).model_fields)


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.lr=1e-3", lambda r: r.train.lr, 1e-3),
        ("lr=1e-3", lambda r: r.train.lr, 1e-3),
        ("train.max_steps=7", lambda r: r.train.max_steps, 7),
        ("train.max_steps=null", lambda r: r.train.max_steps, None),
        ("data.augment.flip=true", lambda r: r.data.augment.flip, True),
        ("data.augment.randaugment=[2, 9]", lambda r: r.data.augment.randaugment, (2, 9.0)),
        ("data.validation=0.2", lambda r: r.data.validation, 0.2),
        ("data.validation=50", lambda r: r.data.validation, 50),
        ("model.args.T=2", lambda r: r.model.args["T"], 2),
        ("model.args.neuron.tau=3e0", lambda r: r.model.args["neuron"], {"tau": 3.0}),
        ("model.name=spiking_conv_net", lambda r: r.model.name, "spiking_conv_net"),
    ],
)
def test_override(override: str, read, value: object) -> None:
    found = read(load_recipe("digits_mlp", [override]))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trian.lr=3", ["trian.lr", "did you mean 'train.lr'"]),
        ("train.epoch=3", ["train.epoch", "did you mean 'train.epochs'"]),
        ("data.lr=3", ["data.lr", "did you mean 'train.lr'"]),
        ("data.augment.flipp=1", ["did you mean 'data.augment.flip'"]),
        ("train.lr=fast", ["train.lr", "number", "'fast'"]),
        ("train.lr=-1", ["train.lr", "greater than 0"]),
        ("train.lr=.nan", ["train.lr", "finite"]),
        ("train.schedule=cos", ["train.schedule", "'cosine'"]),
        ("data.validation=1.0", ["data.validation"]),
        ("data.augment.randaugment=[1]", ["data.augment.randaugment"]),
        ("train=3", ["train", "section"]),
        ("train.warmup_epochs=50", ["warmup_epochs 50", "30 epochs"]),
        ("train.lr", ["KEY=VALUE"]),
        ("train.lr=[", ["not valid YAML"]),
        ("name=x/y", ["name"]),
        ("model.args.x=.nan", ["not plain data"]),
        ("model.args.x=2020-01-01", ["not plain data"]),
        ("data.options.x=!!python/object/apply:os.system ['true']", ["not valid YAML"]),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("digits_mlp", [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_key_in_a_wrong_section_is_still_recognised() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'data\.options'"):
        load_recipe("digits_mlp", ["dat.options=3"])
    assert load_recipe("digits_mlp", ["name=other"]).name == "other"  # the recipe's own, not that of data or model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: m\ndata: {name: digits}\nmodel: {name: x}\ntrain: {learning_rate: 1}\n", ["train.learning_rate"]),
        ("name: m\ndata: {name: digits}\nmodel: {name: x}\ntrain: {warmup_epoch: 1}\n", ["'train.warmup_epochs'"]),
        ("name: m\ndata: {name: digits}\n", ["model", "required"]),
        ("name: m\nname: n\n", ["'name' stands twice"]),
        ("- 1\n", ["expected a mapping"]),
        ("", ["expected a mapping"]),
        ("a: &x 1\nb: *x\n", ["aliases"]),
        ("? [1]\n: 2\n", ["plain name"]),
        ("a: [" * 3000, ["not valid YAML"]),
        ("name: \x00", ["not valid YAML"]),
    ],
)
def test_a_wrong_file_is_one_clear_line_that_names_it(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    for word in ["mine.yaml", *words]:
        assert word in str(caught.value)


def test_missing_binary_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'digits_mlp'"):
        load_recipe("digit_mlp")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_recipe(tmp_path / "b.yaml")
    (tmp_path / "h.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger"):
        load_recipe(tmp_path / "h.yaml")


def test_hash_is_of_the_content() -> None:
    recipe = parse_recipe(MINIMAL)
    changed = {"train": {"lr": 2e-3}}
    assert parse_recipe({**MINIMAL, **changed}).hash() != recipe.hash()
    assert parse_recipe({**MINIMAL, "seed": 1}).hash() != recipe.hash()
    assert parse_recipe({**MINIMAL, "train": {}}).hash() == recipe.hash()
    elsewhere = {"data": {"name": "digits", "root": "/x"}, "name": "other", "log": {"every": 3}}
    assert parse_recipe({**MINIMAL, **elsewhere}).hash() == recipe.hash()
    reordered = json.loads(json.dumps(recipe.model_dump(mode="json"), sort_keys=True))
    assert parse_recipe(reordered).hash() == recipe.hash()


def test_recipes_do_not_change() -> None:
    recipe = parse_recipe(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.lr = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_dotted_keys_name_every_leaf() -> None:
    assert {"seed", "train.lr", "data.augment.mixup", "model.args", "log.every"} <= set(dotted_keys())
    assert set(Recipe.model_fields) <= set(dotted_keys())


def test_importing_the_room_is_light() -> None:
    heavy = "lightning_fabric", "kornia", "rich", "sklearn"
    code = f"import ranvier.train, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
