"""Broken and hostile files for every reader: `python scripts/fuzz_readers.py [READER ...] --cases 100000`.

A sound file of each format is damaged in one to six ways a case (bits, bytes, lengths, cuts, repeats). A reader may
read what comes out or raise a `RanvierError`; anything else is a finding: another exception, a crash, more than
`--seconds` for a file, or more than `--memory` MiB. Cases are numbered: `--first N --cases 1` repeats one.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import RanvierError

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
WORDS = (b"nan", b"-1", b"1e309", b"99999999999", b"", b"!!python/object:os.system", b"[", b"{", b"&a *a", b"\xff")
BATCH = 500  # cases a process


@dataclass(frozen=True)
class Target:
    """A reader: a sound file's bytes, its name, and what reads it."""

    name: str
    sound: Callable[[], bytes]
    read: Callable[[Path], object]
    text: bool = False


def _idx() -> bytes:
    return struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 6) + bytes(range(120))


def _nmnist() -> bytes:
    return b"".join(bytes([i % 34, (i * 7) % 34, (i & 1) << 7, 0, i]) for i in range(60))


def _wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(np.arange(400, dtype="<i2").tobytes())
    return file.getvalue()


def _hdf5() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as writer:
        times = writer.create_dataset("spikes/times", 3, h5py.vlen_dtype(np.float16))
        units = writer.create_dataset("spikes/units", 3, h5py.vlen_dtype(np.uint16))
        for i in range(3):
            times[i] = np.linspace(0, 0.5, 5 + i)
            units[i] = np.arange(5 + i)
        writer["labels"] = np.arange(3, dtype=np.uint16)
    return file.getvalue()


def _npy() -> bytes:
    file = io.BytesIO()
    kind = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")]
    np.save(file, np.array([(i * 10, i % 8, i % 6, i % 2) for i in range(50)], kind))
    return file.getvalue()


def _evt(version: int) -> bytes:
    head = f"% evt {version}.0\n% format EVT{version};height=32;width=32\n% geometry 32x32\n% end\n".encode()
    if version == 2:
        words = [(8 << 28) | 1] + [((i & 1) << 28) | ((i % 64) << 22) | ((i % 32) << 11) | (i % 32) for i in range(60)]
        return head + struct.pack(f"<{len(words)}I", *words)
    words = [0x8001, 0x6010]
    for i in range(40):
        words += [i % 32, 0x2000 | ((i & 1) << 11) | (i % 32)]
    return head + struct.pack(f"<{len(words)}H", *words)


def _aedat3() -> bytes:
    body = b"".join(struct.pack("<II", 1 | (i % 2) << 1 | (i % 90) << 2 | (i % 100) << 17, 10 * i) for i in range(20))
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 20, 20, 20) + body


def _recorded(name: str) -> Callable[[], bytes]:
    def sound() -> bytes:
        root = os.environ.get("RANVIER_DATA")
        path = Path(root or "") / "events" / name
        return path.read_bytes()[: 1 << 20] if root and path.is_file() else b""

    return sound


def _off() -> bytes:
    return b"OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def _sweep() -> bytes:
    return np.linspace(-5, 5, 40 * 4, dtype="<f4").tobytes()


def _kitti() -> bytes:
    return b"Car 0.00 0 -1.5 599.4 156.4 629.7 189.2 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n" * 3


def _calibration() -> bytes:
    row = " ".join(f"{v:.6e}" for v in np.linspace(-1, 1, 12))
    square = " ".join(f"{v:.6e}" for v in np.eye(3).reshape(-1))
    lines = [f"P{i}: {row}" for i in range(4)] + [f"R0_rect: {square}", f"Tr_velo_to_cam: {row}"]
    return ("\n".join(lines) + "\n").encode()


def _png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)).save(file, "PNG")
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for split in ("train", "test"):
            for i in range(2):
                writer.writestr(f"set/{split}/{i}/{i}.png", _png())
    return file.getvalue()


def _recipe() -> bytes:
    from importlib import resources

    return (resources.files("ranvier") / "recipes" / "digits_mlp.yaml").read_bytes()


def _suite() -> bytes:
    from importlib import resources

    return (resources.files("ranvier") / "bench" / "suites" / "quick.yaml").read_bytes()


def _safetensors() -> bytes:
    import torch
    from safetensors.torch import save

    return save({"weight": torch.arange(12.0).view(3, 4), "bias": torch.zeros(3, dtype=torch.bfloat16)})


def _claim() -> bytes:
    place = Path(__file__).resolve().parent.parent / "docs" / "assets" / "claims" / "spam_isolated.json"
    return place.read_bytes()


def _read_idx(path: Path) -> object:
    from ranvier.data.idx import read_idx

    return read_idx(path, 3)


def _read_nmnist(path: Path) -> object:
    from ranvier.data.sets.nmnist import read_recording

    return read_recording(path.read_bytes(), str(path))


def _read_wav(path: Path) -> object:
    from ranvier.data.audio.wav import read_wav

    return read_wav(path.read_bytes(), str(path))


def _read_hdf5(path: Path) -> object:
    from ranvier.data.audio.spike_file import read_spike_file

    return read_spike_file(path)


def _read_events(path: Path) -> object:
    from ranvier.data.events.files import read_events

    return read_events(path)


def _read_off(path: Path) -> object:
    from ranvier.data.points.off import read_off, sample_surface

    return sample_surface(read_off(path.read_bytes(), str(path)), 16, 0)


def _read_sweep(path: Path) -> object:
    from ranvier.data.points.lidar import read_sweep

    return read_sweep(path)


def _read_kitti(path: Path) -> object:
    from ranvier.data.points.lidar import read_kitti_objects

    return read_kitti_objects(path)


def _read_calibration(path: Path) -> object:
    from ranvier.data.points.lidar import read_kitti_calibration

    return read_kitti_calibration(path)


def _read_image(path: Path) -> object:
    from ranvier.data.images import decode

    return decode(path.read_bytes(), str(path))


def _read_zip(path: Path) -> object:
    from ranvier.data.archive import Archive

    archive = Archive(path)
    return [archive.read(name) for name in archive.members]


def _read_recipe(path: Path) -> object:
    from ranvier.train.recipe_file import load_recipe

    return load_recipe(str(path))


def _read_suite(path: Path) -> object:
    from ranvier.bench.suite import expand, load_suite

    suite = load_suite(path)
    return expand(suite) if len(suite.models) * len(suite.seeds) < 1000 else suite


def _read_safetensors(path: Path) -> object:
    from ranvier.train.checkpoint import load_weights

    return load_weights(path)


def _read_claim(path: Path) -> object:
    from ranvier.claims import read_result

    return read_result(path)


TARGETS: tuple[Target, ...] = (
    Target("idx-ubyte", _idx, _read_idx),
    Target("idx-ubyte.gz", lambda: gzip.compress(_idx()), _read_idx),
    Target("nmnist.bin", _nmnist, _read_nmnist),
    Target("wav", _wav, _read_wav),
    Target("h5", _hdf5, _read_hdf5),
    Target("npy", _npy, _read_events),
    Target("evt2.raw", lambda: _evt(2), _read_events),
    Target("evt3.raw", lambda: _evt(3), _read_events),
    Target("recorded.aedat4", _recorded("sample.aedat4"), _read_events),
    Target("aedat", _aedat3, _read_events),
    Target("off", _off, _read_off, text=True),
    Target("sweep.bin", _sweep, _read_sweep),
    Target("label.txt", _kitti, _read_kitti, text=True),
    Target("calib.txt", _calibration, _read_calibration, text=True),
    Target("png", _png, _read_image),
    Target("zip", _zip, _read_zip),
    Target("recipe.yaml", _recipe, _read_recipe, text=True),
    Target("suite.yaml", _suite, _read_suite, text=True),
    Target("safetensors", _safetensors, _read_safetensors),
    Target("claim.json", _claim, _read_claim, text=True),
)


def damaged(sound: bytes, draw: random.Random, text: bool) -> bytes:
    """`sound` with one to six injuries."""
    data = bytearray(sound)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            return bytes(data)
        # half of all injuries hit the first bytes, where headers are
        place = draw.randrange(min(len(data), 64) if draw.random() < 0.5 else len(data))
        kind = draw.randrange(9)
        if kind == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + draw.randrange(1, 33)]
        elif kind == 4:
            data[place:place] = data[place : place + draw.randrange(1, 65)]
        elif kind == 5:
            data[place:place] = draw.randbytes(draw.randrange(1, 33))
        elif kind == 6:
            size = draw.choice((2, 4, 8))
            number = draw.choice(NUMBERS) & ((1 << 8 * size) - 1)
            data[place : place + size] = number.to_bytes(size, draw.choice(("little", "big")))
        elif kind == 7:
            other = draw.randrange(len(data))
            data[place : place + 16] = data[other : other + 16]
        elif text:
            words = (
                b"nan",
                b"-1",
                b"1e309",
                b"99999999999",
                b"",
                b"!!python/object:os.system",
                b"[",
                b"{",
                b"&a *a",
                b"\xff",
            )
            data[place : place + draw.randrange(4)] = draw.choice(words)
        else:
            data += draw.randbytes(draw.randrange(1, 257))
    return bytes(data)


def case(target: Target, sound: bytes, number: int) -> bytes:
    """The damaged file of a case; the same on every machine."""
    return damaged(sound, random.Random(f"{target.name}/{number}"), target.text)


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


def _batch(target: Target, sound: bytes, numbers: range, folder: Path, seconds: float, memory: int, out: int) -> None:
    """In a process of its own: try the cases, tell each outcome as a line on the pipe `out`."""
    signal.signal(signal.SIGALRM, _alarm)
    limit = _resident() + memory * 2**20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = folder / f"case.{target.name}"
    warnings.simplefilter("ignore")
    for number in numbers:
        os.write(out, f"start {number}\n".encode())
        path.write_bytes(case(target, sound, number))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        said = "read"
        try:
            target.read(path)
        except RanvierError:
            said = "refused"
        except _TooLong:
            said = f"finding takes more than {seconds:g} s"
        except MemoryError:
            said = "finding MemoryError"
        except BaseException as error:  # a panic of an extension module is no `Exception`
            said = f"finding {type(error).__name__}: {' '.join(str(error).split())[:160]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not said.startswith("finding") and _peak() > limit:
            said = f"finding more than {memory} MiB"
            os.write(out, f"{said}\n".encode())
            return  # the peak stays: the rest goes to a new process
        os.write(out, f"{said}\n".encode())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_child(work: Callable[[int], None]) -> tuple[Iterator[str], Callable[[], int]]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                work(write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)

    def lines() -> Iterator[str]:
        with open(read, encoding="utf-8", errors="replace") as pipe:
            for line in pipe:
                yield line.rstrip("\n")

    return lines(), lambda: os.waitpid(pid, 0)[1]


def fuzz(target: Target, cases: int, first: int = 0, seconds: float = 5.0, memory: int = 1024) -> Outcome:
    """Try `cases` damaged files from number `first` on."""
    outcome = Outcome()
    sound = target.sound()
    if not sound:
        return outcome
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / f"sound.{target.name}"
        whole.write_bytes(sound)
        try:
            target.read(whole)  # also loads what the reader needs, once
        except RanvierError as error:
            if not target.name.startswith("recorded"):  # a cut recording is already damaged
                raise AssertionError(f"the sound file of {target.name} is refused: {error}") from error
        at, end = first, first + cases
        while at < end:
            numbers = range(at, min(end, at + BATCH))
            lines, ended = _in_child(lambda out, n=numbers: _batch(target, sound, n, folder, seconds, memory, out))
            current = at
            open_case = False
            for line in lines:
                if line.startswith("start "):
                    current, open_case = int(line[6:]), True
                    continue
                open_case = False
                outcome.cases += 1
                at = current + 1
                if line == "read":
                    outcome.read += 1
                elif line == "refused":
                    outcome.refused += 1
                else:
                    outcome.findings.append(f"{target.name} case {current}: {line.removeprefix('finding ')}")
            status = ended()
            if open_case:
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
                outcome.cases += 1
                outcome.findings.append(f"{target.name} case {current}: the process died ({how})")
                at = current + 1
    return outcome


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(t.name for t in TARGETS)}; default: all")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--memory", type=int, default=1024, help="MiB a reader may take")
    parser.add_argument("--json", type=Path, help="write the outcome there")
    given = parser.parse_args(argv)
    names = {t.name for t in TARGETS}
    if unknown := set(given.readers) - names:
        parser.error(f"unknown readers {', '.join(sorted(unknown))}; known: {', '.join(sorted(names))}")
    found: dict[str, Any] = {}
    for target in TARGETS:
        if given.readers and target.name not in given.readers:
            continue
        start = time.perf_counter()
        outcome = fuzz(target, given.cases, given.first, given.seconds, given.memory)
        took = time.perf_counter() - start
        print(
            f"{target.name:16} {outcome.cases:7} cases, {outcome.read:7} read, {outcome.refused:7} refused, "
            f"{len(outcome.findings):4} findings, {took:6.1f} s", flush=True,
        )  # fmt: skip
        for line in outcome.findings[:20]:
            print(f"    {line}", flush=True)
        found[target.name] = {"cases": outcome.cases, "read": outcome.read, "refused": outcome.refused,
                              "findings": outcome.findings, "seconds": round(took, 1)}  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if any(f["findings"] for f in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
