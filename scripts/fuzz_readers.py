"""Broken and hostile files for every reader: `python scripts/fuzz_readers.py [READER ...] --cases 100000`.

A sound file of each format is damaged in one to six ways a case (bits, bytes, lengths, cuts, repeats). A reader may
read what comes out or raise a `RanvierError`; anything else is a finding: another exception, a crash, more than
`--seconds` of processor time for a file, or more than `--memory` MiB. Cases are numbered: `--first N --cases 1`
repeats one. `--json` adds to a file what it holds of other readers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fuzz.harness import fuzz
from fuzz.targets import TARGETS

from ranvier.measure.machine import processor


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(t.name for t in TARGETS)}; default: all")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--memory", type=int, default=1024, help="MiB a reader may take")
    parser.add_argument("--budget", type=float, help="processor seconds a reader; stops between rounds of cases")
    parser.add_argument("--json", type=Path, help="write the outcome there")
    given = parser.parse_args(argv)
    names = {t.name for t in TARGETS}
    if unknown := set(given.readers) - names:
        parser.error(f"unknown readers {', '.join(sorted(unknown))}; known: {', '.join(sorted(names))}")
    failed = False
    for target in TARGETS:
        if given.readers and target.name not in given.readers:
            continue
        found = _run(target, given)
        failed |= bool(found["findings"])
        print(
            f"{target.name:24} {found['cases']:7} cases, {found['read']:7} read, {found['refused']:7} refused, "
            f"{len(found['findings']):4} findings, {found['seconds']:6.1f} s", flush=True,
        )  # fmt: skip
        for line in found["findings"][:20]:
            print(f"    {line}", flush=True)
        if given.json:
            _add(given.json, target.name, found)
    return 1 if failed else 0


def _run(target: Any, given: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"cases": 0, "read": 0, "refused": 0, "findings": []}
    start = os.times()
    spent, size = 0.0, min(given.cases, 2000 if given.budget else given.cases)
    while found["cases"] < given.cases and (given.budget is None or spent < given.budget):
        first = given.first + found["cases"]
        outcome = fuzz(target, min(size, given.cases - found["cases"]), first, given.seconds, given.memory)
        if not outcome.cases:
            break
        for key in ("cases", "read", "refused", "findings"):
            found[key] += getattr(outcome, key)
        now = os.times()
        spent = sum(now[:4]) - sum(start[:4])
        size = 2000 if given.budget is None else max(50, min(20_000, round(size * 20 / max(spent, 0.1))))
    return {**found, "seconds": round(spent, 1), "date": f"{datetime.now(UTC):%Y-%m-%d}"}


def _add(path: Path, name: str, found: dict[str, Any]) -> None:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    document["machine"] = {
        "processor": processor(), "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "h5py", "pillow", "faery", "safetensors")},
    }  # fmt: skip
    document.setdefault("readers", {})[name] = found
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
