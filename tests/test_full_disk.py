"""A full disk, or a folder that is read-only: one error that names the file, and what lay there before stays."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ranvier
from ranvier.errors import RanvierError

Write = Callable[[Path], Any]


def _mlp() -> nn.Module:
    return ranvier.create_model("spiking_mlp", num_classes=3, hidden=[4], img_size=2, in_channels=1, T=2).eval()


def _train() -> Write:
    from ranvier.train import fit, load_recipe

    recipe = load_recipe("digits_mlp", ["train.epochs=1", "model.args.hidden=[8]", "data.batch_size=512"])
    return lambda out: fit(recipe, out, progress=False)


def _bench_result() -> Write:
    from ranvier.bench.result import write_json

    return lambda out: write_json(out / "results" / "cell.json", {"accuracy": 0.5})


def _bench() -> Write:
    from ranvier.bench.runner import run

    return lambda out: run("quick", out, show_progress=False)


def _report() -> Write:
    from ranvier.bench.report import write_text

    return lambda out: write_text(out / "index.html", "<html>")


def _claim() -> Write:
    from ranvier.claims.record import Machine, TrialRecord, write_trial

    machine = Machine(ranvier="0", torch="2", python="3", platform="L", processor="p", cores=1, threads=1)
    record = TrialRecord(
        claim="c", digest="0", arm="a", seed=0, scale="quick", created="now", wall_s=1.0, machine=machine,
        metrics={"accuracy": 0.5},
    )  # fmt: skip
    return lambda out: write_trial(out / "trial.json", record)


def _convert() -> Write:
    from ranvier.infer import convert, save_converted

    done = convert(_mlp(), torch.rand(2, 1, 2, 2))
    return lambda out: save_converted(done, out)


def _convert_ann() -> Write:
    from ranvier.infer import convert_ann, save_ann_conversion

    net = ranvier.create_model("vgg16_qcfs", layers=[2, "A"], hidden=2, num_classes=3, img_size=4, start=1.0).eval()
    done = convert_ann(net, neuron="qcfs_if")
    return lambda out: save_ann_conversion(done, out)


def _nir() -> Write:
    from ranvier.infer.exchange import to_nir
    from ranvier.neurons import LIF

    net = nn.Sequential(nn.Linear(2, 2), LIF(decay_input=False)).eval()
    return lambda out: to_nir(net, out / "net.nir", example=torch.zeros(2, 1, 2))


def _export() -> Write:
    from ranvier.infer.exchange.runtimes import _written

    return lambda out: _written(out / "net.onnx", lambda temporary: Path(temporary).write_bytes(b"net"))


def _export_c() -> Write:
    from ranvier.infer import engine as room
    from ranvier.infer.engine import export_c

    engine = room.compile(_mlp(), torch.rand(1, 1, 2, 2))
    return lambda out: export_c(engine, out)


def _ratios() -> Write:
    from ranvier.diffusion import CascadePolynomialRegression

    return lambda out: CascadePolynomialRegression().save(out / "regression.json")


def _loop_log() -> Write:
    from ranvier.loop.config import LoopConfig
    from ranvier.loop.record import Log

    return lambda out: Log(LoopConfig(worlds=1)).save(out / "log.npz")


WRITERS = {
    "train": _train, "bench": _bench, "bench result": _bench_result, "report": _report, "claim": _claim,
    "convert": _convert, "convert from an ANN": _convert_ann, "NIR": _nir, "export": _export, "export to C": _export_c,
    "ratios": _ratios, "log of a loop": _loop_log,
}  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, out = WRITERS[name](), tmp_path / "out"
    if name != "bench":  # a whole run of a suite is too long for a test
        write(out)
    before = _files(out) if out.exists() else {}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "fsync", full)
    if name == "train":
        (out / "run.json").unlink()  # as if it had been stopped at its end
        before.pop("run.json")
    with pytest.raises(RanvierError, match="No space left on device"):
        write(out)
    left = {p: c for p, c in _files(out).items() if not p.endswith(".lock")}
    assert left == before
    assert not [p for p in out.rglob(".*") if not p.name.endswith(".lock")]


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_folder_is_one_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = WRITERS[name]()

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(RanvierError, match="Read-only file system"):
        write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
