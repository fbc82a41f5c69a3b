"""Several processes do what one does: replicated, sharded, continued by more or fewer, and when one is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ranvier.errors import ConfigError
from ranvier.train import Interrupted, NonFiniteError, Recipe, RunError, fit, parse_recipe, read_journal, session
from ranvier.train.sharding import gather, shard
from ranvier.train.sync_norm import share_statistics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="forks its processes"),
]

# FSDP2 of PyTorch 2.6 on CPUs gathers the token embedding in place between its use and the backward pass.
UNSHARDED = "gpt" if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7) else ""

MODELS: dict[str, Any] = {
    "conv": {"name": "spiking_conv_net", "args": {"T": 2, "channels": [4, 8], "hidden": 8}},
    "transformer": {"name": "spikformer", "args": {"T": 2, "embed_dim": 16, "num_heads": 2, "depth": 1}},
    "gpt": {"name": "spike_gpt_41m", "args": {"n_layer": 2, "n_embd": 16, "dropout": 0.0, "init": "torch_default"}},
}
SPAM = {"reset_interval": 4, "warmup_steps": 2, "grace_steps": 1}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """A recipe of 6 steps."""
    monkeypatch.setenv("RANVIER_BACKEND", "reference")  # nothing to compile in the processes

    def make(kind: str, **train: Any) -> Recipe:
        data: dict[str, Any] = {"name": "digits", "limit_train": 96, "limit_test": 20}
        own: dict[str, Any] = {"optimizer": "adamw", "sync_norm": True}
        if kind == "gpt":
            text = tmp_path / "corpus.txt"
            text.write_text("the quick brown fox jumps over the lazy dog. " * 60)
            data = {"name": "text", "options": {"path": str(text), "tokenizer": "chars", "length": 16}}
            own = {"optimizer": "spam", "spam": SPAM, "max_steps": 6}
        return parse_recipe({
            "name": "s", "seed": 3, "data": {**data, "batch_size": 32, "validation": 0}, "model": MODELS[kind],
            "train": {
                # A sum in another order flips a spike now and then in float32, which is no fault of the processes.
                "epochs": 2, "lr": 1e-2, "precision": "64-true", "threads": 1, "accelerator": "cpu",
                "checkpoint_steps": 2, **own, **train,
            },
            "log": {"every": 1},
        })  # fmt: skip

    return make


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_journal(out / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize("kind", ["conv", "transformer", "gpt"])
def test_replicated_and_sharded_processes_do_the_work_of_one(
    kind: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    one = fit(recipe(kind, ema=0.5, clip_norm=5.0), tmp_path / "one", progress=False)
    for strategy in ("ddp_fork",) if kind == UNSHARDED else ("ddp_fork", "fsdp_fork"):
        changes = {"devices": 2, "strategy": strategy, "ema": 0.5, "clip_norm": 5.0}
        two = fit(recipe(kind, **changes), tmp_path / strategy, progress=False)
        assert (two.steps, two.params, two.test.n) == (one.steps, one.params, one.test.n)
        assert losses(tmp_path / strategy) == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
        assert two.test.loss == pytest.approx(one.test.loss, rel=1e-6)
        tensors = load_file(tmp_path / "one" / "model.safetensors")
        for name, tensor in load_file(tmp_path / strategy / "model.safetensors").items():
            torch.testing.assert_close(tensor, tensors[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(("kind", "first", "then"), [("conv", "fsdp_fork", "auto"), ("gpt", "auto", "fsdp_fork")])
def test_a_run_is_continued_by_another_number_of_processes(
    kind: str, first: str, then: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == UNSHARDED:
        pytest.skip("PyTorch 2.6 does not shard this net on CPUs")

    def placed(strategy: str) -> Recipe:
        return recipe(kind, devices=1 if strategy == "auto" else 2, strategy=strategy)

    fit(placed("auto"), tmp_path / "whole", progress=False)
    real = session.Session._update

    def update(self: session.Session, *args: Any) -> None:
        self.request.asked = self.at.step == 2
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(Interrupted):
            fit(placed(first), tmp_path / "cut", progress=False)
    assert fit(placed(then), tmp_path / "cut", progress=False).steps == 6
    notes = [line for line in read_journal(tmp_path / "cut" / "metrics.jsonl") if "processes" in line]
    before, after = (1 if strategy == "auto" else 2 for strategy in (first, then))
    assert notes == [{"step": 3, "processes": after, "processes_before": before}]
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-6)
    with pytest.raises(ConfigError, match="another recipe"):
        fit(recipe(kind, lr=0.5), tmp_path / "cut", progress=False)


@pytest.mark.parametrize("strategy", ["ddp_fork", "fsdp_fork"])
def test_a_killed_process_is_one_clear_error_and_the_run_continues(
    strategy: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("conv", devices=2, strategy=strategy)
    fit(made, tmp_path / "whole", progress=False)
    real = session.Session._update

    def update(self: session.Session, *args: Any) -> None:
        if self.at.step == 3 and self.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *args)

    started = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(RunError, match=r"gone|ended by SIGKILL"):
            fit(made, tmp_path / "cut", progress=False)
    assert time.monotonic() - started < 60
    fit(made, tmp_path / "cut", progress=False)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("strategy", ["ddp_fork", "fsdp_fork"])
def test_numbers_that_are_not_finite_are_found_in_the_process_that_has_them(
    strategy: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = session.Session._update

    def update(self: session.Session, group: list[Any], *args: Any) -> None:
        if self.at.step == 1 and self.rank == 1:
            group[0][0][0][0, 0, 0, 0] = float("nan")
        real(self, group, *args)

    monkeypatch.setattr(session.Session, "_update", update)
    changes = {"devices": 2, "strategy": strategy}
    with pytest.raises(NonFiniteError, match=r"input batch is not finite at step 2 .*training part holds NaN"):
        fit(recipe("conv", **changes), tmp_path / "stop", progress=False)
    assert fit(recipe("conv", non_finite="skip", **changes), tmp_path / "skip", progress=False).steps == 6
    skipped = [line for line in read_journal(tmp_path / "skip" / "metrics.jsonl") if "skipped" in line]
    assert [(line["step"], line["skipped"]) for line in skipped] == [(2, "input")]


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_shared_statistics_are_those_of_batch_normalisation(alone: None) -> None:
    for norm, shape in ((nn.BatchNorm2d(3), (4, 3, 2, 5)), (nn.BatchNorm1d(3, momentum=None), (6, 3))):
        nn.init.uniform_(norm.weight)
        twin = type(norm)(3, momentum=norm.momentum)
        twin.load_state_dict(norm.state_dict())
        assert share_statistics(nn.Sequential(norm)) == 1
        for _ in range(2):
            x = (torch.randn(shape) * 3 + 2).requires_grad_()
            y = x.detach().clone().requires_grad_()
            weight = torch.randn(shape)
            (norm(x) * weight).sum().backward()
            (twin(y) * weight).sum().backward()
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.weight.grad, twin.weight.grad)
        for (name, a), b in zip(norm.named_buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=name)
        norm.eval(), twin.eval()
        torch.testing.assert_close(norm(x), twin(x))


def test_a_net_that_cannot_be_cut_says_so(alone: None) -> None:
    net = nn.Linear(2, 2)
    net.register_parameter("decay", nn.Parameter(torch.tensor(0.5)))
    with pytest.raises(ConfigError, match="'decay' of this model is a single number"):
        shard(net, torch.device("cpu"), 1)
    with pytest.raises(ConfigError, match="sparse moments"):
        parse_recipe({
            "name": "x", "data": {"name": "digits"}, "model": MODELS["conv"],
            "train": {"strategy": "fsdp", "optimizer": "spam", "spam": {"density": 0.5}},
        })  # fmt: skip
    whole = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    parts = shard(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), torch.device("cpu"), 1)
    gather(parts, whole)
    x = torch.randn(4, 3)
    torch.testing.assert_close(parts.eval()(x), whole.eval()(x))
