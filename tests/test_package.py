"""The package as a whole: what importing it costs, what it ships, what it never does."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pytest
from tests.warm import with_torch

import ranvier

SOURCE = Path(ranvier.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = [
    "numba", "kornia", "lightning", "lightning_fabric", "pydantic", "typer", "rich", "torchmetrics", "sklearn", "h5py",
    "plotly", "matplotlib", "jinja2", "PIL", "faery", "ray", "scipy", "yaml", "triton._C",
]  # fmt: skip

TIMED_IMPORT = """
import json, sys, time
import torch
start = time.perf_counter()
import ranvier
print(json.dumps([time.perf_counter() - start, [m for m in {heavy!r} if m in sys.modules]]))
"""


def python(code: str, *arguments: str) -> str:
    result = subprocess.run([sys.executable, *arguments, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_import_is_light() -> None:
    before = json.loads(
        python(f"import json, sys, torch; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    )
    runs = [json.loads(python(TIMED_IMPORT.format(heavy=HEAVY))) for _ in range(3)]
    assert median(seconds for seconds, _ in runs) <= 0.3
    assert [m for m in runs[0][1] if m not in before] == []


@pytest.mark.parametrize(
    "room",
    [
        "neurons",
        "layers",
        "encode",
        "models",
        "data",
        "measure",
        "train",
        "bench",
        "circuits",
        "claims",
        "diffusion",
        "infer",
        "loop",
        "optim",
    ],
)
def test_a_room_imports_without_the_optional_packages(room: str) -> None:
    """What is an extra stays an extra: a room loads where only torch, numpy, numba and safetensors are installed."""
    blocked = [m for m in HEAVY if m not in ("numba", "scipy", "triton._C", "pydantic", "yaml")]
    said = with_torch().run(
        "import sys\n"
        f"for name in {blocked!r}: sys.modules.setdefault(name, None)\n"
        f"import ranvier.{room}\n"
        f"print(*ranvier.{room}.__all__)"
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == importlib.import_module(f"ranvier.{room}").__all__


def test_neurons_and_models_import_without_the_compiler() -> None:
    loaded = python(
        "import sys, torch, ranvier.models; print([m for m in ('torch._dynamo', 'numba') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_version_is_the_distribution_s() -> None:
    assert ranvier.__version__ == version("ranvier")


def test_typed_and_lazy_names_exist() -> None:
    assert (SOURCE / "py.typed").is_file()
    for name in ranvier.__all__:
        assert getattr(ranvier, name) is not None
    assert set(ranvier.__all__) <= set(dir(ranvier))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ranvier.nonsense


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_nothing_unsafe_is_loaded(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not imported & {"cloudpickle", "dill", "marshal", "shelve"}
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "pickle"}
    assert used <= {"UnpicklingError"}  # what torch.load raises may be caught, nothing may be unpickled
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "pickle" for a in n.names}
    assert names <= {"UnpicklingError"}
    for name, call in calls(tree):
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        assert name not in {"eval", "exec", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system"}
        if name in {"np.load", "numpy.load"}:
            assert keywords.get("allow_pickle", "False") == "False"
        assert keywords.get("shell", "False") == "False"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_no_path_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""["'](/home/|/root/|/work/|/Users/|/mnt/|[A-Z]:\\\\)""", text)
