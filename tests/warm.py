"""Programs in processes of their own, without the seconds that each would need to import PyTorch."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


class WarmPython:
    """Starts programs as forks of a process that has imported `preload`; Ranvier is never among it.

    A program finds the arguments, folder, environment and exit status of `python -c CODE`. Not for what is about
    imports or the start of the interpreter itself.
    """

    def __init__(self, *preload: str) -> None:
        server = Path(__file__).with_name("warm_server.py")
        self._folder = tempfile.mkdtemp(prefix="warm-")
        self._server = subprocess.Popen(
            [sys.executable, str(server), *preload], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._close)

    def _close(self) -> None:
        self._server.communicate()  # the end of its input is its end
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(
        self, code: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> WarmProcess:
        """Begin `code`; the process runs on its own."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        request = {
            "code": code, "arguments": [str(a) for a in arguments], "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "stdout": str(folder / "stdout"), "stderr": str(folder / "stderr"),
        }  # fmt: skip
        return WarmProcess(self, self.ask(request), folder)

    def run(
        self, code: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `code` to its end."""
        process = self.start(code, *arguments, cwd=cwd, env=env)
        status = process.wait(300)
        return subprocess.CompletedProcess([code], status, *process.output())

    def ask(self, request: dict[str, Any]) -> Any:
        """One request, one answer."""
        to, back = self._server.stdin, self._server.stdout
        assert to is not None and back is not None
        to.write(json.dumps(request) + "\n")
        to.flush()
        answer = back.readline()
        assert answer, "the process that forks is gone"
        return json.loads(answer)


class WarmProcess:
    """A running program."""

    def __init__(self, python: WarmPython, pid: int, folder: Path) -> None:
        self._python, self.pid, self._folder, self.returncode = python, pid, folder, None

    def poll(self) -> int | None:
        """The exit status (minus the signal that ended it), None while it runs."""
        if self.returncode is None:
            self.returncode = self._python.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the exit status; raises `TimeoutError` after `timeout` seconds, and the process is killed."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                raise TimeoutError(f"still running after {timeout} s; it said {self.output()}")
            time.sleep(0.01)
        return status

    def output(self) -> tuple[str, str]:
        """Standard output and standard error so far."""
        files = (self._folder / name for name in ("stdout", "stderr"))
        out, err = (file.read_text(encoding="utf-8") if file.exists() else "" for file in files)
        return out, err


def module(name: str) -> str:
    """The program that `python -m NAME` runs."""
    return f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"


@cache
def with_torch() -> WarmPython:
    """PyTorch and NumPy are imported."""
    return WarmPython("torch", "numpy")


@cache
def with_trainer() -> WarmPython:
    """Also what training, the kernels and the command line need."""
    return WarmPython("torch", "torch._dynamo", "numpy", "numba", "pydantic", "yaml", "rich", "typer", "kornia")
