from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ranvier.bench import suite as suites
from ranvier.errors import ConfigError


class _AnyRecipe:
    """Stands in for the trainer's recipe: what the suite makes of its parts is the subject here."""

    def __init__(self, draft: dict[str, Any]) -> None:
        self.draft = draft

    def model_dump(self, mode: str) -> dict[str, Any]:
        return self.draft


@pytest.fixture
def any_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "validate_recipe", _AnyRecipe)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny", "version": 1, "title": "Tiny", "budget_minutes": 1,
        "base": {"train": {"epochs": 2, "lr": 0.1}},
        "models": ["a", {"name": "b", "label": "B", "args": {"depth": 2}, "overrides": {"train.lr": 0.5}}],
        "data": ["digits"], "seeds": [0, 1], **changes,
    }  # fmt: skip


@pytest.mark.usefixtures("any_recipe")
def test_expands_models_by_sweep_by_data_by_seed() -> None:
    given = document(sweep={"model.args.T": [2, 4], "train.epochs": [1, 2, 3]}, data=["digits", {"name": "mnist"}])
    cells = suites.expand(suites.parse_suite(given))
    assert len(cells) == 2 * 6 * 2 * 2
    assert len({cell.run_id for cell in cells}) == len({cell.config_hash for cell in cells}) == len(cells)
    last = cells[-1]
    assert last.label == "B, T=4, epochs=3"
    assert last.recipe["train"] == {"epochs": 3, "lr": 0.5}
    assert last.recipe["model"] == {"name": "b", "args": {"depth": 2, "T": 4}}
    assert last.recipe["data"]["name"] == "mnist" and last.seed == 1


@pytest.mark.usefixtures("any_recipe")
def test_hash_follows_content_and_variant_ignores_the_seed_only() -> None:
    first, second, *_ = suites.expand(suites.parse_suite(document()))
    assert first.config_hash != second.config_hash and first.variant_hash == second.variant_hash
    again = suites.expand(suites.parse_suite(document(title="Another title", budget_minutes=9)))[0]
    assert again.config_hash == first.config_hash
    assert suites.hash_config(first.recipe, "digits", 2) != first.config_hash
    with pytest.raises(ConfigError, match="written for version 99"):
        suites.expand(suites.parse_suite(document(data=[{"name": "digits", "version": 99}])))
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        suites.expand(suites.parse_suite(document(data=["digit"])))
    changed = suites.expand(suites.parse_suite(document(base={"train": {"epochs": 3, "lr": 0.1}})))[0]
    assert changed.config_hash != first.config_hash


@pytest.mark.usefixtures("any_recipe")
def test_hash_depends_on_the_schema_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = suites.hash_config({"a": 1}, "digits", 1)
    monkeypatch.setattr(suites, "RESULT_SCHEMA_VERSION", 99)
    assert suites.hash_config({"a": 1}, "digits", 1) != before


@pytest.mark.usefixtures("any_recipe")
def test_base_is_not_shared_between_cells() -> None:
    cells = suites.expand(suites.parse_suite(document()))
    cells[0].recipe["train"]["lr"] = -1
    assert cells[1].recipe["train"]["lr"] == 0.1


@pytest.mark.usefixtures("any_recipe")
def test_cell_survives_the_trip_to_a_worker() -> None:
    cell = suites.expand(suites.parse_suite(document()))[2]
    assert suites.Cell.from_json(cell.to_json()) == cell
    assert suites.Cell.from_json(cell.to_json()).config_hash == cell.config_hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modles": []}, ["modles", "did you mean 'models'"]),
        ({"models": [{"name": "a", "arg": {}}]}, ["models.0.arg", "did you mean 'args'"]),
        ({"data": [{"nmae": "digits"}]}, ["data.0"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [1, 1]}, ["listed twice"]),
        ({"seeds": [-1]}, ["seeds.0"]),
        ({"models": ["a", "a"]}, ["two models are called 'a'"]),
        ({"name": "../up"}, ["name"]),
        ({"sweep": {"train.lr": []}}, ["sweep"]),
    ],
)
def test_bad_suites_name_the_key(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        suites.parse_suite(document(**change))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.usefixtures("any_recipe")
def test_equal_cells_and_bad_overrides_are_refused() -> None:
    with pytest.raises(ConfigError, match="is a value, not a section"):
        suites.expand(suites.parse_suite(document(sweep={"train.lr.x": [1]})))
    with pytest.raises(ConfigError, match="dotted key"):
        suites.expand(suites.parse_suite(document(sweep={"train..lr": [1]})))


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object/apply:os.system [true]", "\x00", "&a [*a"])
def test_hostile_yaml_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"suite\.yaml"):
        suites.load_suite(path)


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        suites.load_suite("quik")
    with pytest.raises(ConfigError, match="cannot be read"):
        suites.load_suite("nowhere.yaml")


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "../../etc/passwd", "", "ÜÖ", "a" * 500, "x\n\x00y"])
def test_slug_is_safe_in_paths_and_urls(label: str) -> None:
    name = suites.slug(label)
    assert name and len(name) <= 60 and "/" not in name and not name.startswith(".")
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name)
