"""Ctrl-C and SIGTERM: the step that runs is finished, a checkpoint written, and the run can be continued."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ranvier.errors import RanvierError


class Interrupted(RanvierError, KeyboardInterrupt):  # noqa: N818  (like KeyboardInterrupt)
    """A run was stopped by Ctrl-C or SIGTERM and can be continued; also a `KeyboardInterrupt`."""

    exit_code = 130


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def polite_stop() -> Iterator[StopRequest]:
    """Collect the first SIGINT or SIGTERM as a request; a second SIGINT stops at once. Only in the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.asked = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
