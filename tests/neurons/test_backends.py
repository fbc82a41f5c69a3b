"""Neurons of other libraries: what can be said without them here, parity in the peers' environment where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ranvier.errors import ArgumentError, MissingExtraError
from ranvier.neurons import LIF, build
from ranvier.neurons.backends import BACKENDS, backend_of, backends_of, is_installed

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".venv-peers" / "bin" / "python"


def test_parity_with_every_library_that_is_here() -> None:
    if not PEERS.exists():
        pytest.skip("no .venv-peers (python -m benchmarks makes it)")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    said = subprocess.run(
        [PEERS, "-W", "ignore", HERE / "backends_here.py"], capture_output=True, text=True, env=environment, timeout=230
    )
    assert said.returncode == 0, said.stderr[-3000:]
    found = json.loads(said.stdout.splitlines()[-1])
    if not found:
        pytest.skip("none of the libraries is in .venv-peers")
    for backend, compared in found.items():
        assert list(compared.values()).count("equal") >= 6, backend


def test_our_own_backend_is_the_default() -> None:
    assert type(build({"type": "lif", "backend": "ranvier"})) is LIF
    assert backend_of("lif") is None and is_installed("ranvier") and not is_installed("norse")
    assert BACKENDS == ("ranvier", "spikingjelly", "snntorch", "braincog")
    assert backends_of("lif") == BACKENDS and backends_of("klif") == ("ranvier", "spikingjelly")
    assert backends_of("glif") == backends_of("") == ("ranvier",)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": "lif", "backend": "spikingjely"}, "did you mean 'spikingjelly'"),
        ({"type": "lif", "backend": 3}, "expected one of ranvier"),
        ({"type": "glif", "backend": "snntorch"}, "only if, lif, plif"),
        ({"type": "lif", "backend": "snntorch", "taw": 3.0}, "did you mean 'tau'"),
        ({"type": "lif", "backend": "braincog", "per_channel": True}, "channels"),
    ],
)
def test_what_cannot_be_is_said(spec: dict, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        build(spec)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("raw", [False, True])
def test_a_missing_library_is_named(backend: str, raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == backend]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(MissingExtraError, match=f"pip install {backend}"):
        build({"type": backend} if raw else {"type": "lif", "backend": backend})
