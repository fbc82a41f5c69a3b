from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train import cross_entropy, tet
from ranvier.train.loss import binary, spike_mse

T, B, K = 3, 5, 4


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(T, B, K, dtype=torch.float64)


def test_cross_entropy_is_that_of_the_time_mean(logits: torch.Tensor) -> None:
    y = torch.tensor([0, 1, 2, 3, 0])
    expected = -logits.mean(0).log_softmax(1)[range(B), y].mean()
    torch.testing.assert_close(cross_entropy(logits, y), expected)


def test_smoothed_labels_equal_soft_targets(logits: torch.Tensor) -> None:
    y = torch.tensor([0, 1, 2, 3, 0])
    soft = F.one_hot(y, K).double() * 0.9 + 0.1 / K
    torch.testing.assert_close(cross_entropy(logits, y, 0.1), cross_entropy(logits, soft))
    torch.testing.assert_close(cross_entropy(logits, soft, 0.3), cross_entropy(logits, soft))
    torch.testing.assert_close(tet(logits, y, label_smoothing=0.1), tet(logits, soft))


def test_tet_against_its_equations(logits: torch.Tensor) -> None:
    y = torch.tensor([3, 1, 2, 0, 0])
    each = sum(F.cross_entropy(logits[t], y) for t in range(T)) / T
    to_target = sum(((logits[t] - 1.5) ** 2).mean() for t in range(T)) / T
    torch.testing.assert_close(tet(logits, y, 0.2, 1.5), 0.8 * each + 0.2 * to_target)
    torch.testing.assert_close(tet(logits, y, 0.0), torch.as_tensor(each))


def test_with_one_step_tet_without_lambda_is_cross_entropy(logits: torch.Tensor) -> None:
    y = torch.tensor([3, 1, 2, 0, 0])
    torch.testing.assert_close(tet(logits[:1], y, 0.0), cross_entropy(logits[:1], y))


@pytest.mark.parametrize("loss", [cross_entropy, tet])
def test_shapes_are_checked(loss, logits: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"\[T, B, K\]"):
        loss(logits[0], torch.zeros(B, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"labels \[5\]"):
        loss(logits, torch.zeros(B - 1, dtype=torch.long))
    with pytest.raises(ShapeError, match="at least one step"):
        loss(logits[:0], torch.zeros(B, dtype=torch.long))


def test_lambda_is_checked(logits: torch.Tensor) -> None:
    with pytest.raises(ArgumentError, match="lam"):
        tet(logits, torch.zeros(B, dtype=torch.long), lam=1.5)


def test_binary_is_one_logistic_regression_a_class(logits: torch.Tensor) -> None:
    y = torch.tensor([3, 1, 2, 0, 0])
    wanted = F.one_hot(y, logits.shape[2]).to(logits.dtype)
    each = torch.stack([F.binary_cross_entropy_with_logits(step, wanted) for step in logits])
    torch.testing.assert_close(binary(logits, y), each.mean())
    torch.testing.assert_close(binary(logits, wanted), each.mean())


@pytest.mark.parametrize("loss", [cross_entropy, binary])
def test_labels_of_every_frame(loss, logits: torch.Tensor) -> None:
    y = torch.randint(0, logits.shape[2], (B, T))
    each = torch.stack([loss(logits[t : t + 1], y[:, t]) for t in range(T)])
    torch.testing.assert_close(loss(logits, y), each.mean())
    twice = logits.repeat_interleave(2, 0)  # two steps a frame
    torch.testing.assert_close(loss(twice, y), each.mean())
    with pytest.raises(ShapeError, match="T a multiple of F"):
        loss(logits[:-1], y)


def test_spike_mse_differs_from_rate_mse_by_the_variance_over_time() -> None:
    votes = torch.rand(7, 5, 3, dtype=torch.float64)
    target = torch.tensor([0, 2, 1, 1, 0])
    each, rate = spike_mse(votes, target), spike_mse(votes, target, per_step=False)
    torch.testing.assert_close(each - rate, votes.var(0, unbiased=False).mean())
    assert spike_mse(F.one_hot(target, 3).double().expand(7, 5, 3), target) == 0
