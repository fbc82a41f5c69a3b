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
before = [m for m in {heavy!r} if m in sys.modules]
start = time.perf_counter()
import ranvier
print(json.dumps([time.perf_counter() - start, before, [m for m in {heavy!r} if m in sys.modules]]))
"""


def python(code: str, *arguments: str) -> str:
    result = subprocess.run([sys.executable, *arguments, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_import_is_light() -> None:
    seconds = []
    for _ in range(3):  # what else runs on the machine only adds to the time
        took, before, after = json.loads(python(TIMED_IMPORT.format(heavy=HEAVY)))
        assert set(after) <= set(before)
        seconds.append(took)
        if took <= 0.3:
            return
    pytest.fail(f"importing ranvier took {seconds} s more than importing torch")


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
    said = with_torch().run(
        "import sys, ranvier.models; print([m for m in ('torch._dynamo', 'numba') if m in sys.modules])"
    )
    assert said.stdout.strip() == "[]", said.stderr


def test_version_is_the_distribution_s() -> None:
    assert ranvier.__version__ == version("ranvier")


def test_typed_and_lazy_names_exist() -> None:
    assert (SOURCE / "py.typed").is_file()
    for name in ranvier.__all__:
        assert getattr(ranvier, name) is not None
    assert set(ranvier.__all__) <= set(dir(ranvier))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ranvier.nonsense


def dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes, "" of anything else."""
    if isinstance(node, ast.Attribute):
        value = dotted(node.value)
        return value and f"{value}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(source: str) -> list[str]:
    """What `source` does that can run foreign code, or reads what can."""
    found: list[str] = []
    foreign = {"cloudpickle", "dill", "marshal", "shelve"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in foreign]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in foreign:
                found.append(f"from {node.module} import")
            elif node.module == "pickle":  # what torch.load raises may be caught, nothing may be unpickled
                found += [f"from pickle import {a.name}" for a in node.names if a.name != "UnpicklingError"]
        elif isinstance(node, ast.Attribute):
            if dotted(node.value) == "pickle" and node.attr != "UnpicklingError":
                found.append(dotted(node))
        elif isinstance(node, ast.Call):
            name, keywords = dotted(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name in {"eval", "exec", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system"}:
                found.append(name)
            if name == "torch.load" and keywords.get("weights_only") != "True":
                found.append("torch.load without weights_only")
            if name in {"np.load", "numpy.load"} and keywords.get("allow_pickle", "False") != "False":
                found.append("numpy.load with pickles")
            if keywords.get("shell", "False") != "False":
                found.append("shell=True")
    return found


ROOMS = sorted({path.relative_to(SOURCE).parts[0] for path in FILES})


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_unsafe_is_loaded(room: str) -> None:
    files = [path for path in FILES if path.relative_to(SOURCE).parts[0] == room]
    found = {path.relative_to(SOURCE).as_posix(): unsafe(path.read_text(encoding="utf-8")) for path in files}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import dill", "from marshal import loads", "from pickle import loads", "pickle.load(file)", "x = pickle.loads",
        "eval(text)", "yaml.load(text)", "os.system(text)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)", "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_what_is_unsafe_is_found(line: str) -> None:
    assert len(unsafe(line)) == 1


def test_no_path_of_one_machine() -> None:
    machine = re.compile(r"""["'](/home/|/root/|/work/|/Users/|/mnt/|[A-Z]:\\\\)""")
    assert [path for path in FILES if machine.search(path.read_text(encoding="utf-8"))] == []
