"""How far a batch is from its reference, as one number: means that outliers move, and ones that they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError

SearchLoss = Literal["mse", "huber", "median"]


def search_loss(name: SearchLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a search by its name.

    "mse": mean square. "median": median over the samples of their mean square. "huber": mean over the samples of a
    Huber function of their RMS, linear beyond the batch's median RMS. The last two ignore the few samples that end in
    another mode, which would otherwise decide the ratios.
    """
    if name == "mse":
        return F.mse_loss
    if name == "median":
        return lambda x, wanted: per_sample(x, wanted).median()
    if name == "huber":
        return _huber
    raise ArgumentError(f"loss must be 'mse', 'huber' or 'median', got {name!r}")


def per_sample(x: Tensor, wanted: Tensor) -> Tensor:
    """Mean square of each sample, `[B]`."""
    return (x - wanted).square().flatten(1).mean(1)


def _huber(x: Tensor, wanted: Tensor) -> Tensor:
    distance = per_sample(x, wanted).clamp_min(1e-24).sqrt()
    knee = distance.detach().median().clamp_min(1e-12)
    return torch.where(distance <= knee, distance.square(), knee * (2 * distance - knee)).mean()
