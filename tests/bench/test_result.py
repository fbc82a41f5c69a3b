from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ranvier.bench.result import Result, json_schema, read_result, write_json, write_result
from ranvier.bench.validation import validate
from ranvier.errors import DataError

Store = Callable[..., Path]


@pytest.fixture
def stored(synthetic: Callable[..., Result], tmp_path: Path) -> Store:
    """Writes one result file with some keys changed."""

    def write(**changes: Any) -> Path:
        result = synthetic("net")
        path = tmp_path / f"{result.run_id}.json"
        write_json(path, {**result.model_dump(mode="json"), **changes})
        return path

    return write


def test_round_trip_and_json_schema(synthetic: Callable[..., Result], tmp_path: Path) -> None:
    result = synthetic("net")
    path = tmp_path / f"{result.run_id}.json"
    write_result(path, result)
    assert read_result(path) == result
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(path.read_text()), schema)
    assert validate(path) == [] and validate(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 2}, "schema_version"),
        ({"run_id": "../up"}, "run_id"),
        ({"config_hash": "abc"}, "config_hash"),
        ({"accuracy_by_step": [1.5]}, "accuracy_by_step"),
        ({"metrics": {"accuracy": {"value": "x", "n": 1, "higher_is_better": True}}}, "metrics"),
    ],
)
def test_schema_refuses(stored: Store, change: dict[str, Any], word: str) -> None:
    path = stored(**change)
    with pytest.raises(DataError, match=word):
        read_result(path)
    assert len(validate(path)) == 1


def test_not_a_number_is_never_written_nor_read(stored: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []  # neither the file nor a temporary one
    path = stored()
    path.write_text(path.read_text().replace('"train_s": ', '"train_s": NaN, "x": '))
    with pytest.raises(DataError):
        read_result(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_broken_files_are_one_clear_error(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"broken\.json"):
        read_result(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"config": {"seed": 0}}, "config_hash"),
        ({"seed": 5}, "seed is 5"),
        ({"run_id": "another-name"}, "file name"),
        ({"accuracy_by_step": [0.1]}, "accuracy_by_step"),
        ({"selected_epoch": 99}, "selected_epoch"),
        ({"metrics": {}}, "'accuracy' is missing, which task.metric names"),
        ({"energy": {"as_built": {"total_pj": 5, "breakdown": {"a": 1}}}}, "the parts sum to 1 pJ"),
    ],
)
def test_validation_recomputes(stored: Store, change: dict[str, Any], word: str) -> None:
    assert word in " ".join(validate(stored(**change)))


def test_validation_finds_duplicates_and_empty_folders(stored: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result files"):
        validate(tmp_path)
    path = stored()
    (tmp_path / "copy.json").write_text(path.read_text())
    assert any("the same experiment" in problem for problem in validate(tmp_path))


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    write_json(path, {"x": 2})
    assert json.loads(path.read_text()) == {"x": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["b.json"]
