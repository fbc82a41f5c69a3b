"""Nothing in the package can run code that it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "ranvier"
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec"}
# the error class that `torch.load(weights_only=True)` raises lives in pickle
ALLOWED = {("models/official.py", "import of pickle")}


def offences(tree: ast.AST) -> list[tuple[int, str]]:
    """Lines that import a pickler, evaluate text, or load in a way that may run code."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [
                (node.lineno, f"import of {a.name}") for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append((node.lineno, f"import of {node.module}"))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in _call(node)]
    return found


def _call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    given = {k.arg: k.value for k in node.keywords}
    if name in FORBIDDEN_CALLS:
        return [name]
    if name == "torch.load" and not _is(given.get("weights_only"), True):
        return ["torch.load without weights_only=True"]
    if name in ("np.load", "numpy.load") and "allow_pickle" in given and not _is(given["allow_pickle"], False):
        return ["numpy.load that allows pickle"]
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        loader = given.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        if loader is None or not (ast.unparse(loader).endswith("SafeLoader") or ast.unparse(loader) == "_Loader"):
            return [name]
    if name in ("subprocess.run", "subprocess.Popen", "subprocess.call") and _is(given.get("shell"), True):
        return ["a shell"]
    return []


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("import pickle", 1), ("from pickle import loads", 1), ("torch.load(f)", 1),
        ("torch.load(f, weights_only=True)", 0), ("torch.load(f, weights_only=False)", 1), ("eval('1')", 1),
        ("net.eval()", 0), ("yaml.load(text)", 1), ("yaml.load(text, Loader=yaml.SafeLoader)", 0),
        ("np.load(f, allow_pickle=True)", 1), ("np.load(f)", 0), ("subprocess.run('ls', shell=True)", 1),
    ],
)  # fmt: skip
def test_the_check_sees(code: str, count: int) -> None:
    assert len(offences(ast.parse(code))) == count


def test_the_package_is_free_of_it() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 300
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {what}"
        for path in files
        for line, what in offences(ast.parse(path.read_text(encoding="utf-8")))
        if (path.relative_to(PACKAGE).as_posix(), what) not in ALLOWED
    ]
    assert found == []
