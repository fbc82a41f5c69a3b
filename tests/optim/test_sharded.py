from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def test_sharded_weights() -> None:
    """Two processes over gloo: dense SPAM, sparse SPAM, a step skipped by both, Stable-SPAM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kinds = ["dense", "stable", "skip", "sparse"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(port), *kinds],
        capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == kinds
