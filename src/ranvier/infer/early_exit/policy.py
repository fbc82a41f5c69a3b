"""A small net for `LearnedPolicy`, and its training on held-out samples, a part of which is kept for the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.early_exit.calibrate import ExitResult, evaluate_exit
from ranvier.infer.early_exit.criteria import LearnedPolicy, check_recorded, train_policy

BETAS = (0.5, 1.0, 2.0, 4.0, 16.0)


class PolicyNet(nn.Module):
    """From a sample `[N, *shape]` (an image, or the first frame of a sequence) to logits over the steps 1..T.

    Images get two convolutions of stride 2 and a read-out of a 2 × 2 grid; anything else a hidden layer.

    Args:
        shape: of a sample, without the batch.
        steps: T.
        width: channels of the first convolution, and an eighth of the hidden layer.
    """

    def __init__(self, shape: Sequence[int], steps: int, width: int = 16) -> None:
        super().__init__()
        if not shape or min(shape) < 1 or steps < 1 or width < 1:
            raise ArgumentError(f"shape, steps and width must be positive, got {tuple(shape)}, {steps}, {width}")
        self.shape = tuple(shape)
        if len(shape) == 3:
            self.net = nn.Sequential(
                nn.Conv2d(shape[0], width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
                nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, steps),
            )  # fmt: skip
        else:
            size = int(torch.tensor(shape).prod())
            self.net = nn.Sequential(
                nn.Flatten(), nn.Linear(size, 8 * width), nn.ReLU(), nn.Linear(8 * width, steps)
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ShapeError(f"x must be [N, {', '.join(map(str, self.shape))}], got {tuple(x.shape)}")
        return self.net(x.float())


@dataclass(frozen=True)
class FittedPolicy:
    """A trained policy and the weight β of accuracy in its training; `found` is what it does to the samples with the
    indices `kept` `[M]`, which its training has not seen."""

    policy: LearnedPolicy
    beta: float
    kept: Tensor
    found: ExitResult


def fit_policy(
    x: Tensor, logits: Tensor, labels: Tensor, tolerance: float = 0.0, *, betas: Sequence[float] = BETAS,
    epochs: int = 30, lr: float = 3e-3, seed: int = 0,
) -> FittedPolicy:  # fmt: skip
    """Train a `PolicyNet` on two of every three held-out samples, one net for every β; choose on the third.

    Args:
        x: samples `[N, ...]` as the runner shows them to a criterion: images, or the first frames of sequences.
        logits, labels: recorded `[T, N, K]` and `[N]`.
        tolerance: accuracy that may be lost against all steps, on the third; of the nets that do, the one with the
            fewest mean steps is taken, else the most accurate one.

    Raises `ArgumentError` for fewer than six samples.
    """
    check_recorded(logits, labels)
    steps, samples, _ = logits.shape
    if len(x) != samples:
        raise ShapeError(f"x must hold the {samples} samples of the logits, got {len(x)}")
    if samples < 6 or not betas:
        raise ArgumentError(f"labels: a policy needs at least six samples and one beta, got {samples} and {len(betas)}")
    third = torch.arange(samples) % 3 == 2
    kept, seen = third.nonzero()[:, 0], (~third).nonzero()[:, 0]
    full = float((logits[:, kept].sum(0).argmax(-1) == labels[kept]).double().mean())
    tried: list[FittedPolicy] = []
    for beta in betas:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = PolicyNet(x.shape[1:], steps)
            policy = train_policy(net, x[seen].float(), logits[:, seen], labels[seen], beta, epochs, lr)
        tried.append(
            FittedPolicy(policy, float(beta), kept, evaluate_exit(logits[:, kept], labels[kept], policy, x=x[kept]))
        )
    enough = [one for one in tried if one.found.accuracy >= full - tolerance - 1e-9]
    if enough:
        return min(enough, key=lambda one: one.found.mean_steps)
    return max(tried, key=lambda one: (one.found.accuracy, -one.found.mean_steps))
