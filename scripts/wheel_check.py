"""Build the sdist and the wheel, install the wheel where nothing else is, and use it as its first user would.

    python scripts/wheel_check.py                       # or: make wheel-check
    python scripts/wheel_check.py --keep /tmp/release   # keeps the files, the environment and what was written

What is committed is what is built, and the wheel is built from the sdist, so that what either lacks is missed. First
the bare wheel: it imports, and the command says which extra it needs. Then the extras of the first page of the
documentation: a suite is trained and compared, weights that come inside the wheel are evaluated, a report is checked.
Every command and how long it took is printed; the exit code is 0 when all ended as they should.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "cli,train,data,report"


@dataclass(frozen=True)
class Check:
    """A command in the new environment, how it ends, and what it says."""

    command: tuple[str, ...]
    says: str
    code: int = 0


BARE = (
    Check(("python", "-c", "import ranvier; print(ranvier.create_model('spiking_mlp').card.name)"), "spiking_mlp"),
    Check(("ranvier", "models"), "pip install 'ranvier[cli]'", 3),
)
FIRST_HOUR = (
    Check(("ranvier", "--version"), "ranvier "),
    Check(("ranvier", "doctor"), "torch"),
    Check(("ranvier", "models", "spiking_*"), "spiking_mlp"),
    Check(("ranvier", "eval", "spiking_mlp.digits", "--pretrained"), "accuracy"),
    Check(("ranvier", "train", "digits_mlp", "train.epochs=1", "--out", "runs/first"), "accuracy"),
    Check(("ranvier", "energy", "runs/first"), "as built:"),
    Check(("ranvier", "claims", "list"), "spam_quadratic"),
    Check(("ranvier", "bench", "quick", "--out", "runs/quick"), "report"),
    Check(("ranvier", "report", "runs/quick", "--check"), "runs/quick"),
    Check(("ranvier", "eval", "runs/no_such_run"), "one is made by: ranvier train", 1),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="a folder for all that is made; by default it is removed at the end")
    parser.add_argument("--build-only", action="store_true", help="stop when the two files are built and compared")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        return check(given.keep.resolve(), given.build_only)
    with tempfile.TemporaryDirectory(prefix="ranvier-wheel-") as folder:
        return check(Path(folder), given.build_only)


def check(folder: Path, build_only: bool) -> int:
    """Build, compare, install, use; returns the number of commands that did not end as they should."""
    source = committed(folder / "source")
    wheel = build(source, folder)
    missing = different(source, wheel)
    for line in missing:
        print(f"wrong: {line}")
    if build_only or missing:
        return len(missing)
    tools = environment(folder / "venv")
    pip = (str(tools / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pinned = ("-c", str(source / "constraints.txt"))
    work = folder / "work"
    work.mkdir(exist_ok=True)
    timed("install the wheel", (*pip, *pinned, str(wheel)), work)
    wrong = [c for c in BARE if not holds(c, tools, work)]
    timed(f"install its extras {EXTRAS}", (*pip, *pinned, f"{wheel}[{EXTRAS}]"), work)
    wrong += [c for c in FIRST_HOUR if not holds(c, tools, work)]
    print(f"{wheel.name}: " + (f"{len(wrong)} commands went wrong" if wrong else "everything ended as it should"))
    return len(wrong)


def environment(folder: Path) -> Path:
    """A new virtual environment; returns where its commands are."""
    venv.create(folder, with_pip=True, clear=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def committed(folder: Path) -> Path:
    """The checkout as it is committed, without what lies about in the working tree."""
    folder.mkdir(exist_ok=True)
    said = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True)
    if said.returncode:
        raise SystemExit(f"error: a release is checked from a git checkout: {said.stderr.decode()}")
    with tarfile.open(fileobj=io.BytesIO(said.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def build(source: Path, folder: Path) -> Path:
    """The sdist of `source`, and the wheel built from it."""
    builder = str(environment(folder / "builder") / "python")
    pip = (builder, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build")
    timed("install the builder", pip, folder)
    dist = folder / "dist"
    timed("build the sdist and the wheel", (builder, "-m", "build", "--outdir", str(dist), str(source)), folder)
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    for file in (sdist, wheel):
        print(f"      {file.name}: {file.stat().st_size / 1e6:.1f} MB")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    for needed in ("README.md", "CHANGELOG.md", "LICENSE", "constraints.txt", "Makefile", "tests/conftest.py"):
        if needed not in names:
            raise SystemExit(f"error: {needed} is not in {sdist.name}")
    return wheel


def different(source: Path, wheel: Path) -> list[str]:
    """Files of the package that only one of the two has."""
    package = source / "src" / "ranvier"
    there = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as files:
        here = {name for name in files.namelist() if name.startswith("ranvier/")}
    lost = [f"{name} is not in the wheel" for name in sorted(there - here)]
    return lost + [f"{name} is in the wheel, and not committed" for name in sorted(here - there)]


def holds(check: Check, tools: Path, work: Path) -> bool:
    """Run a command in the new environment and compare how it ends; its output where that is not as it should."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("RANVIER_", "PYTHON", "VIRTUAL_ENV"))}
    environ["PATH"] = f"{tools}{os.pathsep}{environ.get('PATH', '')}"
    start = time.perf_counter()
    said = subprocess.run(
        [str(tools / check.command[0]), *check.command[1:]], cwd=work, env=environ, capture_output=True, text=True
    )
    heard = said.stdout + said.stderr
    good = said.returncode == check.code and check.says in heard and "Traceback" not in heard
    what = " ".join(check.command)
    print(f"{'ok   ' if good else 'WRONG'} {time.perf_counter() - start:7.1f} s  {what}", flush=True)
    if not good:
        print(f"      exit code {said.returncode}, expected {check.code} and {check.says!r}; it said:\n{heard}")
    return good


def timed(what: str, command: tuple[str, ...], folder: Path) -> None:
    start = time.perf_counter()
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if said.returncode:
        raise SystemExit(f"error: could not {what}:\n{said.stdout}{said.stderr}")
    print(f"ok    {time.perf_counter() - start:7.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
