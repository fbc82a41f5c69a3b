"""`python -m benchmarks [NAME ...] [OPTION ...]`: run benchmarks in the environment that holds the peers.

The environment is made on first use. What follows the names, from the first option on, goes to each of them.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.peers import ROOT, python

BENCHMARKS = (
    "lif",
    "step_scan",
    "families",
    "packed",
    "memory",
    "compile",
    "libraries",
    "delays",
    "motion",
    "wkv",
    "spam",
    "max_resnet",
    "sparse_conv",
    "engine",
)


def main() -> int:
    begin = next((i for i, argument in enumerate(sys.argv) if i and argument.startswith("-")), len(sys.argv))
    names, options = sys.argv[1:begin] or list(BENCHMARKS), sys.argv[begin:]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"error: unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    interpreter = python()
    return max(
        subprocess.run([interpreter, "-m", f"benchmarks.{name}", *options], cwd=ROOT).returncode for name in names
    )


if __name__ == "__main__":
    sys.exit(main())
