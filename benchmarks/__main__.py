"""`python -m benchmarks [NAME ...]`: run benchmarks in the environment that holds the peers (made on first use)."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.peers import ROOT, python

BENCHMARKS = ("lif", "step_scan", "packed")


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"error: unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    interpreter = python()
    return max(subprocess.run([interpreter, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())
