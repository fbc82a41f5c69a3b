from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ranvier.errors import CheckpointError
from ranvier.train.checkpoint import (
    CheckpointFolder,
    from_bytes,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    save_weights,
    to_bytes,
)
from ranvier.train.files import RunError
from ranvier.train.journal import Journal, read_journal
from ranvier.train.random_state import random_state, restore_random_state, seed_all


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_tensors_of_every_layout_survive(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {
        "transposed": base.t(), "view": base[1:], "same": base, "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 2),
        "integers": torch.arange(3), "flags": torch.tensor([True]), "half": base.bfloat16(), "µ\"": base.int(),
        "large": torch.randn(300, 1001).t(), "byte": base.to(torch.uint8), "small": base.to(torch.float8_e5m2),
        "wide": base.double(),
    }  # fmt: skip
    again = from_bytes(to_bytes(tensors), "here")
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name].double(), tensor.double())
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    assert to_bytes(tensors) == safetensors.torch.save(copies)
    save_weights(tmp_path / "x", tensors)
    assert (tmp_path / "x").read_bytes() == to_bytes(tensors)
    with pytest.raises(CheckpointError, match=r"tensor 'z' cannot be written: .*complex128"):
        to_bytes({"z": torch.zeros(1, dtype=torch.complex128)})


def test_newest_and_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "c")
    assert folder.latest() is None
    for step, best in ((1, 1), (2, 1), (3, 1)):
        folder.save(step, {"x": torch.tensor([step])}, {"a": step}, best)
    assert names(folder.folder) == {"step-000000001", "step-000000003", "latest.json"}
    latest, best = folder.latest(), folder.best()
    assert latest is not None and best is not None
    assert (latest[0]["x"].item(), latest[1]["a"], best[0]["x"].item()) == (3, 3, 1)
    folder.save(4, {"x": torch.tensor([4])}, {}, 4)
    assert names(folder.folder) == {"step-000000004", "latest.json"}


@pytest.mark.parametrize("call", ["rename", "replace", "fsync"])
def test_a_failed_write_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"x": torch.tensor([1])}, {}, None)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RunError, match="No space left on device"):
            folder.save(2, {"x": torch.tensor([2])}, {}, None)
    found = folder.latest()
    assert found is not None
    assert found[0]["x"].item() == 1
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    folder.save(2, {"x": torch.tensor([3])}, {}, None)  # over a folder that nothing pointed to
    assert folder.load("step-000000002")[0]["x"].item() == 3
    assert names(tmp_path) == {"step-000000002", "latest.json"}


def test_damage_is_noticed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"x": torch.randn(100)}, {}, None)
    tensors = tmp_path / "step-000000001" / "tensors.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        folder.latest()
    tensors.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        folder.latest()
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        from_bytes(whole[:20], "x")
    (tmp_path / "latest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"latest\.json"):
        folder.latest()
    (tmp_path / "latest.json").write_text(json.dumps({"latest": "../../etc"}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        folder.latest()


def test_restore_module_names_what_does_not_fit() -> None:
    net = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match=r"lacks tensor 'bias'"):
        restore_module(net, {"weight": torch.zeros(3, 2)}, "it")
    with pytest.raises(CheckpointError, match=r"unknown tensor 'more'"):
        restore_module(net, {**net.state_dict(), "more": torch.zeros(1)}, "it")
    with pytest.raises(CheckpointError, match=r"'weight' has shape \(2, 2\), the model needs \(3, 2\)"):
        restore_module(net, {**net.state_dict(), "weight": torch.zeros(2, 2)}, "it")


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizer_continues_to_the_same_bits(kind) -> None:
    def trained(steps: int, restart_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimizer = kind(net.parameters(), lr=0.1, **options)
        for step in range(steps):
            if step == restart_at:
                stored = from_bytes(to_bytes(optimizer_tensors(optimizer)), "x")
                optimizer = kind(net.parameters(), lr=0.1, **options)
                restore_optimizer(optimizer, stored)
            optimizer.zero_grad()
            net(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
        return net.weight.detach()

    assert torch.equal(trained(6, None), trained(6, 3))


def test_random_generators_continue() -> None:
    def draw() -> list[float]:
        return [float(torch.randn(1)), random.gauss(0, 1), float(np.random.randn()), random.random()]

    seed_all(5)
    draw()  # leaves half a pair of gaussians in NumPy and Python
    stored = from_bytes(to_bytes(random_state()), "x")
    expected = [draw() for _ in range(3)]
    seed_all(6)
    assert draw() != expected[0]
    restore_random_state(stored)
    assert [draw() for _ in range(3)] == expected
    with pytest.raises(CheckpointError, match="random state"):
        restore_random_state({**stored, "numpy": stored["numpy"][:10]})


def test_seeds_differ_between_processes_and_repeat() -> None:
    seed_all(5, rank=0)
    first = torch.rand(1)
    seed_all(5, rank=1)
    assert torch.rand(1) != first
    seed_all(5)
    assert torch.rand(1) == first


def test_journal_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Journal(path, 0) as journal:
        journal.write({"step": 1})
        size = journal.sync()
        journal.write({"step": 2})
    with open(path, "ab") as file:
        file.write(b'{"step": ')  # killed in the middle of a line
    assert read_journal(path) == [{"step": 1}, {"step": 2}]
    with Journal(path, size) as journal:
        journal.write({"step": 3})
    assert read_journal(path) == [{"step": 1}, {"step": 3}]


def test_journal_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"), Journal(tmp_path / "none" / "m.jsonl", 0):
        pass
