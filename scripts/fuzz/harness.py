"""Runs a reader on damaged files in processes of their own, and sees errors, crashes, hangs and greed."""

from __future__ import annotations

import mmap
import os
import resource
import select
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fuzz import damage
from ranvier.errors import RanvierError

BATCH = 2000  # cases a process
_WAITING, _OPEN, _READ, _REFUSED, _FINDING = range(5)


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the format.
        files: makes the files that are sound, by their paths in a folder; a lone one may be empty for "cannot be made".
        hit: the path of the one that is damaged.
        read: reads it, given its path; the other files lie around it.
        text: whether words of a syntax are among the injuries.
        cut: a recording that is cut off already, so that the reader may refuse it sound.
    """

    name: str
    files: Callable[[], Mapping[str, bytes]]
    hit: str
    read: Callable[[Path], object]
    text: bool = False
    cut: bool = False

    @cached_property
    def sound(self) -> bytes:
        """The file before it is damaged."""
        return self.files()[self.hit]


@dataclass
class Outcome:
    """What became of the cases of a reader."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    findings: list[str] = field(default_factory=list)


class _TooLong(BaseException):
    pass


def _alarm(*_: object) -> None:
    raise _TooLong


def _batch(
    target: Target, numbers: range, path: Path, seconds: float, memory: int, said: mmap.mmap, out: int
) -> None:  # fmt: skip
    """In a process of its own: try the cases; a byte a case tells what became of it, the pipe `out` what was found."""
    signal.signal(signal.SIGPROF, _alarm)
    limit = _resident() + memory * 2**20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = address + 4 * memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # the machine itself stays unharmed
    warnings.simplefilter("ignore")
    for place, number in enumerate(numbers):
        said[place] = _OPEN
        path.write_bytes(damage.case(target.name, target.sound, number, target.text))
        signal.setitimer(signal.ITIMER_PROF, seconds)  # of processor time: a busy machine is no finding
        outcome, found = _READ, ""
        try:
            target.read(path)
        except RanvierError:
            outcome = _REFUSED
        except _TooLong:
            found = f"takes more than {seconds:g} s"
        except MemoryError:
            found = "MemoryError"
        except BaseException as error:  # a panic of an extension module is no `Exception`
            found = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        greedy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limit
        if greedy and not found:
            found = f"more than {memory} MiB"
        if found:
            outcome = _FINDING
            os.write(out, f"{number}\t{found}\n".encode(errors="replace"))
        said[place] = outcome
        if greedy:
            return  # the peak stays: the rest goes to a new process


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _watched(pid: int, pipe: int, said: mmap.mmap, count: int, seconds: float, wall: float) -> tuple[bytes, int, str]:
    """What the child wrote, its exit status, and why it was ended: a case took too long, outside of Python's reach."""
    told, why = b"", ""
    current, since, used = -1, time.monotonic(), 0.0
    while True:
        ready, _, _ = select.select([pipe], [], [], 0.5)
        if ready:
            part = os.read(pipe, 1 << 16)
            if not part:
                break
            told += part
        done = count - said[:count].count(_WAITING)
        now = time.monotonic()
        if done != current:
            current, since, used = done, now, _processor_seconds(pid)
        elif not why and (now - since > wall or _processor_seconds(pid) - used > 2 * seconds + 1):
            why = f"takes more than {seconds:g} s"
            os.kill(pid, signal.SIGKILL)
    return told, os.waitpid(pid, 0)[1], why


def fuzz(
    target: Target, cases: int, first: int = 0, seconds: float = 5.0, memory: int = 1024, wall: float = 300.0
) -> Outcome:  # fmt: skip
    """Try `cases` damaged files from number `first` on.

    A reader may return or raise a `RanvierError`. Findings: another exception, a crash, more than `seconds` of
    processor time (or `wall` of the clock) for a file, more than `memory` MiB on top of what it had.
    """
    outcome = Outcome()
    if not target.sound:
        return outcome
    ram = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=ram if ram.is_dir() and os.access(ram, os.W_OK) else None))
    said = mmap.mmap(-1, BATCH)
    try:
        for name, content in target.files().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        path = folder / target.hit
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.read(path)  # also loads what the reader needs, once
        except RanvierError as error:
            if not target.cut:
                raise AssertionError(f"the sound file of {target.name} is refused: {error}") from error
        at, end = first, first + cases
        while at < end:
            numbers = range(at, min(end, at + BATCH))
            at = _tried(target, numbers, path, seconds, memory, wall, said, outcome)
    finally:
        said.close()
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _tried(
    target: Target, numbers: range, path: Path, seconds: float, memory: int, wall: float, said: mmap.mmap,
    outcome: Outcome,
) -> int:  # fmt: skip
    """Let a child try `numbers`; returns the first number that it left."""
    said[: len(numbers)] = bytes(len(numbers))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                _batch(target, numbers, path, seconds, memory, said, write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    told, status, why = _watched(pid, read, said, len(numbers), seconds, wall)
    os.close(read)
    states = said[: len(numbers)]
    tried = len(numbers) - states.count(_WAITING)
    outcome.cases += tried
    outcome.read += states.count(_READ)
    outcome.refused += states.count(_REFUSED)
    for line in told.decode(errors="replace").splitlines():
        number, _, what = line.partition("\t")
        outcome.findings.append(f"{target.name} case {number}: {what}")
    if (stuck := states.find(_OPEN)) >= 0:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        outcome.findings.append(f"{target.name} case {numbers[stuck]}: {why or f'the process died ({how})'}")
    elif not tried:
        raise AssertionError(f"{target.name}: the process ended before its first case (status {status})")
    return numbers[0] + tried
