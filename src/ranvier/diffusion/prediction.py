"""What a denoiser predicts, and its conversion to the data or the noise that a sampler works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from ranvier.diffusion.coefficients import Form
from ranvier.errors import ArgumentError, nearest

Prediction = Literal["epsilon", "sample", "v", "flow", "score"]
_NAMES = {
    "epsilon": "epsilon", "noise": "epsilon", "eps": "epsilon", "sample": "sample", "data": "sample", "x0": "sample",
    "v": "v", "v_prediction": "v", "flow": "flow", "flow_prediction": "flow", "score": "score",
}  # fmt: skip


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding of the predicted image (Saharia et al., 2022); for models of pixels, never of latents.

    Per sample, s is the `ratio` quantile of |x_0|, at least 1 and at most `largest` (None: no limit); then
    `x_0 ← clip(x_0, −s, s)/s`.
    """

    ratio: float = 0.995
    largest: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ArgumentError(f"ratio must lie in (0, 1], got {self.ratio!r}")
        if self.largest is not None and not self.largest >= 1:
            raise ArgumentError(f"largest must be at least 1, got {self.largest!r}")

    def __call__(self, x0: Tensor) -> Tensor:
        """`x0` (`[B, ...]`) with every sample inside −1 .. 1."""
        s = torch.quantile(x0.abs().flatten(1).float(), self.ratio, dim=1).clamp(1.0, self.largest).to(x0)
        s = s.view(-1, *[1] * (x0.dim() - 1))
        return torch.maximum(torch.minimum(x0, s), -s) / s


def threshold_named(thresholding: bool | Threshold) -> Threshold | None:
    """True is dynamic thresholding with its usual numbers, False none."""
    if isinstance(thresholding, Threshold):
        return thresholding
    if not isinstance(thresholding, bool):
        raise ArgumentError(f"thresholding must be True, False or a Threshold, got {thresholding!r}")
    return Threshold() if thresholding else None


def prediction_named(name: str) -> Prediction:
    """The one name of a prediction that has several."""
    if name not in _NAMES:
        raise ArgumentError(f"prediction must say what the denoiser predicts, got {name!r}{nearest(str(name), _NAMES)}")
    return cast("Prediction", _NAMES[name])


def convert(
    output: Tensor, x: Tensor, alpha: float, sigma: float, prediction: Prediction, form: Form,
    threshold: Threshold | None = None,
) -> Tensor:  # fmt: skip
    """A denoiser's output at `x` as the image x_0 (`form` "data") or as the noise ε ("noise").

    `epsilon`: ε. `sample`: x_0. `v`: α ε − σ x_0. `flow`: ε − x_0. `score`: −ε/σ. Exact for any α and σ, also where
    α² + σ² ≠ 1.
    """
    if threshold is not None:
        x0 = threshold(_linear(output, x, *_weights(alpha, sigma, prediction, "data")))
        return x0 if form == "data" else (x - alpha * x0) / sigma
    return _linear(output, x, *_weights(alpha, sigma, prediction, form))


def _weights(alpha: float, sigma: float, prediction: Prediction, form: Form) -> tuple[float, float]:
    """Weights of the output and of x."""
    if prediction == "score":
        on_output, on_x = _weights(alpha, sigma, "epsilon", form)
        return -sigma * on_output, on_x
    if prediction == "epsilon":
        return (1.0, 0.0) if form == "noise" else (-sigma / alpha, 1 / alpha)
    if prediction == "sample":
        return (1.0, 0.0) if form == "data" else (-alpha / sigma, 1 / sigma)
    if prediction == "v":
        power = alpha * alpha + sigma * sigma
        return (-sigma / power, alpha / power) if form == "data" else (alpha / power, sigma / power)
    total = alpha + sigma
    return (-sigma / total, 1 / total) if form == "data" else (alpha / total, 1 / total)


def _linear(output: Tensor, x: Tensor, on_output: float, on_x: float) -> Tensor:
    if on_x == 0:
        return output if on_output == 1 else output * on_output
    return torch.add(x * on_x, output, alpha=on_output)
