"""The C export: compiled with the C compiler of this machine, beside the engine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.infer.engine_nets import SMALL, quantised, random_net, settled

from ranvier.errors import ArgumentError
from ranvier.infer import compile, export_c
from ranvier.infer.engine import Engine

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler (cc, gcc or clang) on this machine")


def run_c(engine: Engine, x: np.ndarray, folder: Path) -> np.ndarray:
    export_c(engine, folder, "net")
    library = folder / "net.so"
    command = [CC, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off", "-fPIC",
               "-shared", str(folder / "net.c"), "-o", str(library), "-lm"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    net = ctypes.CDLL(str(library))
    real = ctypes.c_double if engine.dtype == np.float64 else ctypes.c_float
    pointer = ctypes.POINTER(real)
    made = np.empty((len(x), *engine.output_shape), engine.dtype)
    for _ in range(2):  # a reset forgets the first run
        net.net_reset()
        for x_t, y in zip(np.ascontiguousarray(x, engine.dtype), made, strict=True):
            net.net_step(x_t.ctypes.data_as(pointer), y.ctypes.data_as(pointer))
    return made


@needs_cc
@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 8, 11, 17])
def test_random_nets_in_c(seed: int, tmp_path: Path) -> None:
    net, shape = random_net(seed)
    x = (torch.rand(7, 2, *shape) < 0.3).float()
    net = settled(net, x)
    engine = compile(net, x, modes=("event", "dense")[seed % 2], verify=False)
    np.testing.assert_array_equal(run_c(engine, x[:, 0].numpy(), tmp_path), engine.run(x[:, 0].numpy()))


@needs_cc
@pytest.mark.parametrize("name", ["spikformer", "delay_mlp_shd"])
def test_models_in_c(name: str, tmp_path: Path) -> None:
    from ranvier import create_model

    torch.manual_seed(0)
    model = create_model(name, **SMALL[name]).double()
    x = torch.rand(6, 1, *model.input_shape, dtype=torch.float64)
    engine = compile(settled(model, x), x, modes="event", verify=False)
    np.testing.assert_array_equal(run_c(engine, x[:, 0].numpy(), tmp_path), engine.run(x[:, 0].numpy()))


@needs_cc
def test_integers_in_c(tmp_path: Path) -> None:
    net, x = quantised()
    engine = compile(settled(net, x), x, modes="event", verify=False)
    np.testing.assert_array_equal(run_c(engine, x[:, 0].numpy(), tmp_path), engine.run(x[:, 0].numpy()))
    assert "int8_t Q_const" in (tmp_path / "net_weights.h").read_text()


def test_bad_names(tmp_path: Path) -> None:
    net, x = quantised()
    engine = compile(settled(net, x), x, verify=False)
    with pytest.raises(ArgumentError, match="identifier"):
        export_c(engine, tmp_path, "my net")
    with pytest.raises(ArgumentError, match="engine"):
        export_c(net, tmp_path)  # pyright: ignore
