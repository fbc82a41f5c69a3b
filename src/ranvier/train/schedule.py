"""Learning rate as a function of the step alone, so that there is nothing to save or to restore."""

from __future__ import annotations

import math

from ranvier.errors import ArgumentError
from ranvier.train.recipe import TrainSection

ONECYCLE_WARMUP = 0.3
ONECYCLE_START = 1 / 25
ONECYCLE_END = 1 / 25e4
ONECYCLE_BETAS = (0.95, 0.85)


def learning_rate(train: TrainSection, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The rate of update number `step` (from 0) of `total_steps`, for the schedules that `TrainSection` describes."""
    if not 0 <= step < total_steps or steps_per_epoch < 1:
        raise ArgumentError(f"step must lie in 0 .. {total_steps - 1}, got {step} ({steps_per_epoch} steps an epoch)")
    if train.schedule_by == "epoch":
        step -= step % steps_per_epoch
    epoch, epochs = step / steps_per_epoch, total_steps / steps_per_epoch
    if train.schedule == "onecycle":
        return _one_cycle(train, epoch, epochs)[0]
    if epoch < train.warmup_epochs:
        return train.warmup_lr + (train.lr - train.warmup_lr) * epoch / train.warmup_epochs
    if train.schedule == "constant":
        return train.lr
    if train.schedule == "step":
        return max(train.min_lr, train.lr * train.gamma ** math.floor((epoch + 1e-9) / train.step_epochs))
    length = epochs - train.warmup_epochs - train.cooldown_epochs
    return _cosine(train.lr, train.min_lr, epoch - train.warmup_epochs, length)


def first_beta(train: TrainSection, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The first of the betas at update number `step`: moved against the rate where the recipe says so."""
    if not train.cycle_momentum:
        return train.betas[0]
    if train.schedule_by == "epoch":
        step -= step % steps_per_epoch
    return _one_cycle(train, step / steps_per_epoch, total_steps / steps_per_epoch)[1]


def _one_cycle(train: TrainSection, epoch: float, epochs: float) -> tuple[float, float]:
    """Rate and first beta."""
    epochs -= train.cooldown_epochs
    rise = train.warmup_epochs or ONECYCLE_WARMUP * epochs
    if train.schedule_by == "epoch":  # as PyTorch counts: the last epoch has the final rate
        rise, epochs = rise - 1, epochs - 1
    if epoch < rise:
        start = train.warmup_lr or train.lr * ONECYCLE_START
        return _cosine(start, train.lr, epoch, rise), _cosine(*ONECYCLE_BETAS, epoch, rise)
    end = train.min_lr or train.lr * ONECYCLE_END
    low, high = reversed(ONECYCLE_BETAS)
    done, length = epoch - rise, epochs - rise
    return _cosine(train.lr, end, done, length), _cosine(low, high, done, length)


def _cosine(start: float, end: float, position: float, length: float) -> float:
    done = 1.0 if length <= 0 else min(1.0, position / length)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
