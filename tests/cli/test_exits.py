from __future__ import annotations

import pytest
import typer

from ranvier.cli.exits import resumable, run
from ranvier.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
    ShapeError,
    StateError,
    UnknownNameError,
)


def app_that(action: Exception | type[BaseException] | None) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="rich")

    @app.command()
    def models(json: bool = False) -> None:
        if action is not None:
            raise action

    @app.command()
    def train() -> None:
        with resumable(["ranvier", "train", "a b.yaml", "--resume"]):
            raise KeyboardInterrupt

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (StateError("x"), 1),
        (CheckpointError("x"), 1),
        (PermissionError(13, "not allowed"), 1),
        (ConfigError("x"), 2),
        (ArgumentError("x"), 2),
        (ShapeError("x"), 2),
        (UnknownNameError("x"), 2),
        (DataError("x"), 3),
        (MissingExtraError("x"), 3),
        (KeyboardInterrupt, 130),
        (typer.Exit(7), 7),
    ],
)
def test_exit_codes(
    error: Exception | type[BaseException] | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app_that(error), ["models"]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if isinstance(error, Exception) and not isinstance(error, typer.Exit):
        assert err == f"error: {error}\n"


def test_an_error_of_many_lines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(app_that(ConfigError("first\n   second")), ["models"])
    assert capsys.readouterr().err == "error: first second\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(app_that(ZeroDivisionError()), ["models"])


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_DEBUG", "1")
    with pytest.raises(ConfigError):
        run(app_that(ConfigError("x")), ["models"])


@pytest.mark.parametrize(
    ("arguments", "said"), [(["modls"], "models"), (["models", "--jsn"], "--json"), (["models", "x"], "argument")]
)
def test_wrong_usage_is_one_line_with_the_nearest_name(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app_that(None), arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_ctrl_c_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(None), ["train"]) == 130
    assert "to continue: ranvier train 'a b.yaml' --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dc", "search"], "(see: ranvier dc search --help)"),
        (["dc"], "(see: ranvier dc --help)"),
        (["report"], "(see: ranvier report --help)"),
        (["nothing"], "(see: ranvier --help)"),
        (["export", "spiking_mlp", "--to", "foo"], "Invalid value for '--to': 'foo' is not one of 'nir', 'onnx'"),
    ],
)
def test_wrong_usage_says_where_to_look(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    from ranvier.cli.app import app

    assert run(app, [*arguments, "--no-such-option"] if said.endswith("dc --help)") else arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1 and said in shown
