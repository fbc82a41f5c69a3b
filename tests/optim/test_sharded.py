from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.warm import with_trainer


@pytest.mark.skipif(os.name != "posix", reason="forks its processes")
def test_sharded_weights() -> None:
    """Two processes over gloo: dense SPAM, sparse SPAM, a step skipped by both, Stable-SPAM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kinds = ["dense", "stable", "skip", "sparse"]
    program = (
        f"import runpy; runpy.run_path({str(Path(__file__).with_name('two_processes.py'))!r}, run_name='__main__')"
    )
    done = with_trainer().run(program, port, *kinds, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == kinds
