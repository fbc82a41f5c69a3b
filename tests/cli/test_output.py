from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ranvier.cli.output import plain, print_json, print_table


@dataclass
class Point:
    x: float
    where: Path


def test_plain_makes_json_types() -> None:
    value = {"p": Point(float("nan"), Path("a/b")), 3: (True, None, 2), "s": {1}}
    assert plain(value) == {"p": {"x": None, "where": "a/b"}, "3": [True, None, 2], "s": [1]}


def test_print_json_is_one_strict_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("inf"), "b": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": "é"}


def test_table_keeps_brackets_and_long_names_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 150
    print_table(["name", ">value"], [["[bold]x[/bold]", 1], [name, None]])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert name in out
