"""The command as a whole: help, names, start-up."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ranvier as package
from ranvier import cli
from ranvier.cli.app import VERBS, app


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ranvier", *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


@cache
def group() -> Any:
    """The command line as one object; making it takes longer than showing a page of help."""
    from typer.main import get_command

    return get_command(app)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_runnable_examples(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert group().main([verb, "--help"], "ranvier", standalone_mode=False) == 0
    output = capsys.readouterr().out
    assert "Examples:" in output
    examples = re.findall(rf"^ *(ranvier {verb}.*)$", output, re.MULTILINE)
    assert examples
    for example in examples:
        _parses(shlex.split(example)[1:])


def _parses(arguments: list[str]) -> None:
    """The options of an example exist and its arguments fit; nothing is run."""
    verb = group().commands[arguments[0]]
    with verb.make_context(arguments[0], arguments[1:]):
        pass


def test_examples_name_what_there_is() -> None:
    """Claims, recipes, suites and data sets in the help exist; files of a reader's own (`my_suite.yaml`) may not."""
    from ranvier.bench import list_suites
    from ranvier.claims import list_claims
    from ranvier.data import list_datasets
    from ranvier.train import list_recipes

    sources = "\n".join(p.read_text(encoding="utf-8") for p in Path(cli.__file__).parent.glob("*.py"))
    known = {
        "claims run": list_claims(), "train": list_recipes(), "bench": list_suites(),
        "data": [info.name for info in list_datasets()],
    }  # fmt: skip
    for verb, names in known.items():
        shown = re.findall(rf"^ +ranvier {verb} ([a-z]\w*)(?![\w./])", sources, re.MULTILINE)
        assert shown, verb
        assert set(shown) - {"build"} <= set(names), verb


def test_help_of_the_whole_names_every_verb_and_exit_code() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    for verb in VERBS:
        assert f" {verb} " in output
    for code in ("0", "1", "2", "3", "130"):
        assert re.search(rf"^ *{code}  +\w", output, re.MULTILINE)


def test_version(ranvier: Callable[..., Any]) -> None:
    assert ranvier("--version").out == f"ranvier {package.__version__}\n"


def test_without_a_verb_the_help_is_shown(ranvier: Callable[..., Any]) -> None:
    outcome = ranvier()
    assert outcome.code == 2
    assert "Usage: ranvier" in outcome.out + outcome.err


def test_starting_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from ranvier.cli import main\n"
        "assert main(['train', '--help']) == 0\n"
        "print([m for m in ('torch', 'numpy', 'lightning_fabric') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")


def test_without_typer_the_extra_is_named() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom ranvier.cli import main\nsys.exit(main(['models']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 3
    assert "pip install 'ranvier[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_installed_command_and_the_module_are_one() -> None:
    script = Path(sys.executable).with_name("ranvier")
    if not script.exists():
        pytest.skip("the ranvier command is not installed beside this Python")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == command("--version").stdout


def test_exit_code_and_one_line_of_a_real_process() -> None:
    result = command("models", "no_such_model")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: no model matches 'no_such_model'")
    assert result.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_error() -> None:
    """As when `head` has read enough and is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    run = [sys.executable, "-m", "ranvier", "models", "spiking_mlp", "--json"]
    result = subprocess.run(run, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.stderr == ""


def test_the_shell_completes_verbs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from ranvier.cli import main

    for key, value in (("_RANVIER_COMPLETE", "complete_bash"), ("COMP_WORDS", "ranvier be"), ("COMP_CWORD", "1")):
        monkeypatch.setenv(key, value)
    main([])
    assert capfd.readouterr().out.split() == ["bench"]
