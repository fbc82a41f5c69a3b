from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.train.recipe import TrainSection
from ranvier.train.schedule import learning_rate


def rates(steps: int, per_epoch: int, **train: Any) -> list[float]:
    section = TrainSection(**{"lr": 1.0, "epochs": steps // per_epoch, **train})
    return [learning_rate(section, step, steps, per_epoch) for step in range(steps)]


def test_constant_with_warmup_is_a_straight_line() -> None:
    found = rates(8, 2, schedule="constant", warmup_epochs=2, warmup_lr=0.2)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


def test_cosine_closed_form_and_cooldown() -> None:
    found = rates(12, 2, schedule="cosine", min_lr=0.1, warmup_epochs=1, cooldown_epochs=1)
    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert found == pytest.approx([0, 0.5, *cosine, 0.1, 0.1])


def test_by_epoch_changes_only_between_epochs() -> None:
    found = rates(12, 3, schedule="cosine", schedule_by="epoch")
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * e / 4)) for e in range(4) for _ in range(3)])


def test_step_schedule() -> None:
    found = rates(10, 1, schedule="step", step_epochs=3, gamma=0.5, min_lr=0.2)
    assert found == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2])


def test_one_cycle_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=40, cycle_momentum=False)
    expected: list[float] = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    # PyTorch reaches the last rate at the last step, so its phases are one step shorter
    found = rates(40, 1, schedule="onecycle")
    assert found == pytest.approx(expected, abs=0.08)
    assert found[0] == pytest.approx(1 / 25)
    assert max(found) == found[12] == 1.0


def test_step_out_of_range() -> None:
    with pytest.raises(ArgumentError, match="step"):
        learning_rate(TrainSection(), 5, 5, 1)
