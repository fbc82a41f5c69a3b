"""A Python process that has imported what is slow to import, and forks itself for every program that it is given.

Run as a script with the names to import; reads one JSON request a line from standard input and answers with one line.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from types import ModuleType
from typing import Any


def run(request: dict[str, Any]) -> int:
    """In the forked process: what `python -c` or `python -m` would do; returns the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for path, number in ((os.devnull, 0), (request["stdout"], 1), (request["stderr"], 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    sys.path[0] = request["cwd"]  # in place of the folder of this file
    sys.argv = ["-c", *request["arguments"]]
    sys.modules["__main__"] = main = ModuleType("__main__")
    status: Any = 0
    try:
        exec(compile(request["code"], "<string>", "exec"), main.__dict__)
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:
        traceback.print_exception(error)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status or 0


def serve() -> None:
    """Requests: a program (answered by its process number), or {"poll": number} (answered by its status, or null)."""
    requests, answers = sys.stdin, sys.stdout
    for line in requests:
        request = json.loads(line)
        if "poll" in request:
            done, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        else:
            answer = os.fork()
            if answer == 0:
                os._exit(run(request))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    serve()
