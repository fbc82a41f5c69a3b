"""Training a language model: cross-entropy of the next token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.errors import ShapeError
from ranvier.state import carry
from ranvier.train.evaluation import Evaluation
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.recipe import TrainSection
from ranvier.train.survey import How, Survey


class _L2Wrap(torch.autograd.Function):
    """The loss, whose backward pass also pulls the largest logit of every position towards 0."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, logits: Tensor, weight: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(*logits.max(-1, keepdim=True))
        ctx.shape, ctx.weight = logits.shape, weight
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        largest, place = ctx.saved_tensors
        pull = largest * (ctx.weight / place.numel()) * grad.to(largest.dtype)
        return grad, torch.zeros(ctx.shape, dtype=largest.dtype, device=largest.device).scatter_(-1, place, pull), None


def next_token_loss(logits: Tensor, target: Tensor, l2_wrap: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` `[T, B, V]` with the next tokens `target` `[B, T]`, in nats; a scalar.

    With `l2_wrap` > 0 the gradient of every position's largest logit z gets `l2_wrap / (B T) · z` (times the gradient
    of the loss) added, which keeps logits small; the loss itself does not change. RWKV's trainer uses 1e-4.
    """
    if logits.dim() != 3 or tuple(target.shape) != (logits.shape[1], logits.shape[0]):
        raise ShapeError(
            f"logits [T, B, V] need the next tokens [B, T], got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    loss = F.cross_entropy(logits.flatten(0, 1).float() if logits.dtype in (torch.float16, torch.bfloat16)
                           else logits.flatten(0, 1), target.T.flatten(), label_smoothing=label_smoothing)  # fmt: skip
    wrapped = _L2Wrap.apply(loss, logits, l2_wrap) if l2_wrap else loss
    assert isinstance(wrapped, Tensor)
    return wrapped


def backward_in_chunks(
    net: nn.Module, ids: Tensor, target: Tensor, chunk: int, l2_wrap: float = 0.0
) -> float:  # fmt: skip
    """Gradients of the mean loss over a long text, at the memory of `chunk` tokens; returns that loss.

    `ids` `[T, B]` are read chunk by chunk with carried state, so that every token sees all of the text before it;
    gradients stop at the chunk's start (truncated backpropagation through time) and add up in `.grad`.
    """
    total = 0.0
    with carry(net) as memory:
        for start in range(0, ids.shape[0], chunk):
            part, wanted = ids[start : start + chunk], target[:, start : start + chunk]
            loss = next_token_loss(net(part), wanted, l2_wrap) * (part.shape[0] / ids.shape[0])
            loss.backward()
            memory.detach()
            total += float(loss.detach())
    return total


class NextToken(PlainObjective):
    """The objective of language models (`Objective`)."""

    classifies = False

    def __init__(self, train: TrainSection) -> None:
        self.train = train

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        loss = next_token_loss(forward(x), y, self.train.l2_wrap, self.train.label_smoothing)
        return loss, torch.zeros((), device=x.device)

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure_next_token(net, dataset, batch_size, **shared)


@torch.no_grad()
def measure_next_token(net: nn.Module, dataset: Dataset[Any], batch_size: int, **how: Unpack[How]) -> Evaluation:
    """Mean cross-entropy in nats a token over the windows of `dataset`, each read from an empty state."""
    survey = Survey(net, **how)
    sums = torch.zeros(2, dtype=torch.float64)
    with survey.batches(dataset, batch_size) as batches:
        for number, (x, y) in enumerate(batches):
            with survey.watching(number):
                loss = next_token_loss(net(x.to(survey.device)), y.to(survey.device))
            sums += torch.tensor([float(loss) * len(y), len(y)], dtype=torch.float64)
    total, n = survey.total(sums).tolist()
    return Evaluation(int(n), None, total / n, (), survey.rate(), survey.seconds())
