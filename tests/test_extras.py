"""Optional dependencies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.warm import with_trainer

from ranvier.errors import MissingExtraError
from ranvier.extras import only_version_of, require


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package whose import is noticed."""
    name = "some_large_package"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("__version__ = '1.2.3'\nexecuted = True\n")
    (tmp_path / f"{name}-1.2.3.dist-info").mkdir()
    (tmp_path / f"{name}-1.2.3.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_only_the_version_is_there_and_later_all_of_it(package: str) -> None:
    with only_version_of(package):
        module = require(package, extra="x")
        assert module.__version__ == "1.2.3" and not hasattr(module, "executed")
        with only_version_of(package):  # again: nothing to do
            assert sys.modules[package] is module
        assert sys.modules[package] is module
    assert package not in sys.modules
    whole = require(package, extra="x")
    assert whole.executed
    with only_version_of(package):  # already imported: it stays
        assert sys.modules[package] is whole
    assert sys.modules[package] is whole


def test_it_is_tidy_after_an_error(package: str) -> None:
    with pytest.raises(ZeroDivisionError), only_version_of(package):
        raise ZeroDivisionError
    assert package not in sys.modules


def test_a_folder_that_is_not_installed_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with only_version_of("only_a_folder"):
        assert "only_a_folder" not in sys.modules


def test_a_missing_package_stays_missing() -> None:
    with only_version_of("no_such_package_at_all"), pytest.raises(MissingExtraError, match=r"ranvier\[train\]"):
        require("no_such_package_at_all", extra="train")


def test_training_imports_no_torchmetrics(tmp_path: Path) -> None:
    said = with_trainer().run(
        "import sys, ranvier.train as t\n"
        "recipe = t.load_recipe('digits_mlp', ['train.epochs=1', 'data.limit_train=20', 'data.limit_test=10'])\n"
        "t.fit(recipe, sys.argv[1])\n"
        "assert 'lightning_fabric' in sys.modules and 'torchmetrics' not in sys.modules\n"
        "import torchmetrics; torchmetrics.MeanMetric\n",
        tmp_path / "run",
    )
    assert said.returncode == 0, said.stderr
