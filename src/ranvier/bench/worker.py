"""The process of one cell: reads its order from stdin, trains, measures, writes the result file."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path


def _leave_with_the_parent() -> None:
    """End like Ctrl-C when stdin closes: the bench that started this process was killed."""

    def watch() -> None:
        # the raw descriptor: a buffered read would hold the lock of sys.stdin while the interpreter shuts down
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _order() -> dict[str, object]:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise SystemExit("no order on stdin; this module is started by `ranvier bench`")
        line += part
    return json.loads(line)


def main() -> int:
    """Exit code 0 with a result file, 1 with the error as the last line, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    order = _order()
    _leave_with_the_parent()
    try:
        from ranvier.bench.cell import execute
        from ranvier.bench.suite import Cell

        document, out, threads = order["cell"], order["out"], order["threads"]
        assert isinstance(document, dict) and isinstance(out, str) and isinstance(threads, int)
        execute(Cell.from_json(document), Path(out), threads)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from ranvier.errors import RanvierError

        traceback.print_exc()
        sys.stderr.flush()
        message = str(error) if isinstance(error, RanvierError) else f"{type(error).__name__}: {error}"
        print(" ".join(message.split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
