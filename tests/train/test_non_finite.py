"""What is not finite is named, and an update with it stops the run or leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier.data import Samples
from ranvier.errors import ConfigError
from ranvier.train import Interrupted, NonFiniteError, Recipe, assemble, fit, objective, read_journal, session
from ranvier.train.non_finite import NonFinitePolicy, spoilt_samples

MakeRecipe = Callable[..., Recipe]
BAD = (3, 7, 8)  # updates (from 1)


class Spoilt(Samples):
    """A data set with NaN in some samples."""

    def __init__(self, inner: Samples, bad: set[int]) -> None:
        self.inner, self.bad, self.labels, self.time_first = inner, bad, inner.labels, inner.time_first

    def batch(self, indices: Any) -> Any:
        x, y = self.inner.batch(indices)
        for place, index in enumerate(np.asarray(indices)):
            if int(index) in self.bad:
                x[place, 0, 0, 0] = float("nan")
        return x, y


def spoil_data(monkeypatch: pytest.MonkeyPatch, bad: set[int], part: str = "train") -> None:
    real = assemble.load_splits

    def load(recipe: Recipe) -> Any:
        splits = real(recipe)
        object.__setattr__(splits, part, Spoilt(getattr(splits, part), bad))
        return splits

    monkeypatch.setattr(assemble, "load_splits", load)


def spoil_gradients(monkeypatch: pytest.MonkeyPatch, updates: tuple[int, ...], value: float = float("nan")) -> None:
    real = session.Session._spoilt

    def spoilt(self: session.Session, sums: Tensor) -> Any:
        if self.at.step + 1 in updates:
            next(self.network.parameters()).grad.view(-1)[0] = value  # pyright: ignore[reportOptionalMemberAccess]
        return real(self, sums)

    monkeypatch.setattr(session.Session, "_spoilt", spoilt)


def skipping(small: MakeRecipe, **train: Any) -> Recipe:
    return small(
        train={"non_finite": "skip", "epochs": 2, "ema": 0.9, "checkpoint_steps": 1, **train}, log={"every": 1}
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_journal(out / "metrics.jsonl") if "skipped" in line]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb", "spam", "stable_spam"])
def test_a_skipped_update_leaves_nothing_behind(
    optimizer: str, small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_gradients(monkeypatch, BAD)
    real, seen = session.Session._update, []

    def everything(self: session.Session) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"]
        moments = {f"{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}
        average = {f"ema.{k}": v for k, v in self.average.net.state_dict().items()} if self.average else {}
        counters = {k: torch.tensor(self.optimizer.param_groups[0].get(k, 0)) for k in ("steps", "since_reset")}
        now = {**self.net.state_dict(), **moments, **average, **counters}
        return {key: value.clone() for key, value in now.items()}

    def update(self: session.Session, *args: Any) -> None:
        before = everything(self)
        real(self, *args)
        after = everything(self)
        same = before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
        seen.append((self.at.step, same))

    monkeypatch.setattr(session.Session, "_update", update)
    result = fit(skipping(small, optimizer=optimizer), tmp_path, progress=False)
    assert result.steps == 10
    assert [step for step, same in seen if same] == list(BAD)
    assert [(line["step"], line["skipped"]) for line in lines(tmp_path)] == [(step, "gradient") for step in BAD]
    assert "gradient of 'linears.0.weight'" in lines(tmp_path)[0]["reason"]
    epochs = [line for line in read_journal(tmp_path / "metrics.jsonl") if "epoch" in line]
    assert [line["skipped_updates"] for line in epochs] == [1, 2]


def test_a_resumed_run_skips_to_the_same_bits(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_gradients(monkeypatch, (3, 4, 5))
    recipe = skipping(small, non_finite_limit=3)
    fit(recipe, tmp_path / "whole", progress=False)
    real, done = session.Session._update, []

    def update(self: session.Session, *args: Any) -> None:
        real(self, *args)
        done.append(1)
        if len(done) == 4:  # between two skipped ones
            os.kill(os.getpid(), 2)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(Interrupted):
            fit(recipe, tmp_path / "cut", progress=False)
    fit(recipe, tmp_path / "cut", progress=False)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_too_many_in_a_row_end_the_run(small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_gradients(monkeypatch, tuple(range(3, 9)))
    with pytest.raises(NonFiniteError, match=r"at step 6 \(epoch 2\), after 3 skipped updates in a row"):
        fit(skipping(small, non_finite_limit=3), tmp_path / "a", progress=False)
    with pytest.raises(NonFiniteError, match=r"every update of epoch 2 was skipped"):
        monkeypatch.undo()
        spoil_gradients(monkeypatch, tuple(range(6, 11)))
        fit(skipping(small), tmp_path / "b", progress=False)


def test_a_sample_that_is_not_finite_is_named(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_data(monkeypatch, {17})
    with pytest.raises(
        NonFiniteError, match=r"input batch .* step . \(epoch 1\): the training part .* number 17\. Repair"
    ):
        fit(small(), tmp_path / "stop", progress=False)
    assert fit(skipping(small), tmp_path / "skip", progress=False).steps == 10
    found = lines(tmp_path / "skip")
    assert len(found) == 2 and all(line["skipped"] == "input" and "number 17" in line["reason"] for line in found)


def test_a_bad_sample_in_the_validation_part_is_named(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_data(monkeypatch, {5}, "validation")
    with pytest.raises(NonFiniteError, match=r"cannot be evaluated: the data set .* number 5$"):
        fit(small(), tmp_path, progress=False)


def test_a_loss_that_is_not_finite_when_evaluated(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = objective.measure
    monkeypatch.setattr(objective, "measure", lambda *a, **k: replace(real(*a, **k), loss=float("nan")))
    with pytest.raises(
        NonFiniteError, match="evaluated: data, weights and statistics are finite, the outputs overflow"
    ):
        fit(small(), tmp_path, progress=False)


def test_an_infinity_that_spam_clips_is_no_reason_to_stop(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spam = {"grace_steps": 1, "warmup_steps": 0}
    spoil_gradients(monkeypatch, (7,), float("inf"))
    fit(small(train={"optimizer": "spam", "spam": spam}), tmp_path / "a", progress=False)
    with pytest.raises(NonFiniteError, match="gradient is not finite at step 7"):  # the norm would make it NaN
        fit(small(train={"optimizer": "spam", "spam": spam, "clip_norm": 1.0}), tmp_path / "b", progress=False)
    with pytest.raises(NonFiniteError, match="gradient is not finite at step 7"):
        fit(small(), tmp_path / "c", progress=False)


def test_running_statistics_come_back() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    policy = NonFinitePolicy(net, "skip", 2)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    policy.begin()
    net(torch.full((4, 3), float("nan"))).sum().backward()
    assert net[0].running_mean.isnan().all()
    policy.undo()
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    assert all(p.grad is None for p in net.parameters())


def test_places_of_spoilt_samples() -> None:
    x, places = torch.zeros(2, 3, 4), np.array([10, 20, 30])
    assert spoilt_samples(x, 1, places, "it") is None
    x[1, 2, 0], x[0, 0, 3] = float("inf"), float("nan")
    assert spoilt_samples(x, 1, places, "it") == (
        "it holds NaN or infinite values in 2 sample(s) of the batch: number 10, 30"
    )
    assert spoilt_samples(torch.zeros(3, dtype=torch.int64), 0, places, "it") is None


def test_the_keys_are_checked(small: MakeRecipe) -> None:
    with pytest.raises(ConfigError, match="non_finite"):
        small(train={"non_finite": "ignore"})
    with pytest.raises(ConfigError, match="non_finite_limit"):
        small(train={"non_finite_limit": 0})
