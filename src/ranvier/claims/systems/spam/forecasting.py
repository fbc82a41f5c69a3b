"""SPAM and Stable-SPAM on real measurements with anomalies: the oil temperature of electricity transformers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ranvier.claims import Claim, Metric, Order, Outcome, Ratio, Scale, Trial
from ranvier.claims.systems.spam.arms import ADAM, CLIPPED, PUBLISHED, RESTART, STABLE, STRICT, cosine, stepper

if TYPE_CHECKING:
    from torch import Tensor

LENGTH, AHEAD, BATCH = 96, 24, 12
MONTH = 30 * 24


@lru_cache(maxsize=2)
def _series(name: str) -> tuple[Tensor, Tensor]:
    """Training and test hours of the seven channels, normalised by the training part: 12, 4 and 4 months."""
    import numpy as np
    import torch

    from ranvier.data import data_root
    from ranvier.errors import DataError

    root = data_root()
    path = None if root is None else root / "ett" / f"{name}.csv"
    if path is None or not path.is_file():
        raise DataError(f"{name}.csv is needed in <data folder>/ett; set RANVIER_DATA to the data folder")
    values = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 8), dtype=np.float64)
    mean, spread = values[: 12 * MONTH].mean(0), values[: 12 * MONTH].std(0)
    scaled = torch.from_numpy((values - mean) / spread).float()
    return scaled[: 12 * MONTH], scaled[16 * MONTH - LENGTH : 20 * MONTH]


def _windows(series: Tensor, starts: Any) -> tuple[Tensor, Tensor]:
    import torch

    whole = torch.stack([series[s : s + LENGTH + AHEAD] for s in starts])
    return whole[:, :LENGTH], whole[:, LENGTH:]


def forecast(trial: Trial, name: str, share: float, severity: float) -> float:
    """Test error (mean square, clean data) of a net trained while `share` of the batches hold anomalies."""
    import torch

    from ranvier.claims.controls.transformer import PatchTransformer

    assert trial.arm is not None
    steps = trial.settings["steps"]
    training, test = _series(name)
    torch.manual_seed(trial.seed)
    net = PatchTransformer(LENGTH, AHEAD)
    optimizer, step = stepper(net.parameters(), trial.arm.settings, 2e-3, steps // 4, steps // 12)
    generator = torch.Generator().manual_seed(trial.seed)
    harm = torch.Generator().manual_seed(7000 + trial.seed)
    for t in range(steps):
        starts = torch.randint(len(training) - LENGTH - AHEAD, (BATCH,), generator=generator).tolist()
        x, y = _windows(training, starts)
        if float(torch.rand(1, generator=harm)) < share:
            size = severity * float(x.abs().max())
            parts: list[Tensor] = []
            for part in (x, y):
                hit = torch.rand(part.shape, generator=harm) < 0.1
                parts.append(torch.where(hit, part + size * torch.randn(part.shape, generator=harm), part))
            x, y = parts
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        cosine(optimizer, 2e-3, t, steps, least=0.05)
        step()
    net.eval()
    with torch.no_grad():
        x, y = _windows(test, range(0, len(test) - LENGTH - AHEAD, 7))
        error = float((net(x) - y).square().mean())
    return error if math.isfinite(error) else 1e6


def run(trial: Trial) -> Outcome:
    """Clean, with anomalies in 2 % of the batches, and in 10 % of them."""
    metrics: dict[str, float] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in trial.settings["sets"]:
        errors = [forecast(trial, name, share, 20.0) for share in (0.0, 0.02, 0.1)]
        for key, error in zip(("clean", "rare", "frequent"), errors, strict=True):
            metrics[key] = metrics.get(key, 0.0) + error / len(trial.settings["sets"])
        curves[f"{name}: test error"] = list(zip((0.0, 2.0, 10.0), errors, strict=True))
    for severity in trial.settings["severities"]:
        error = forecast(trial, trial.settings["sets"][0], 0.05, severity)
        curves.setdefault("test error by severity, 5 % of the batches", []).append((float(severity), error))
    return Outcome(metrics, curves)


CLAIM = Claim(
    name="spam_anomalies",
    title="SPAM learns to forecast from measurements with anomalies",
    system="spam",
    paper="T. Huang et al. (ICLR 2025), SPAM, section 5.4; T. Huang et al. (2025), Stable-SPAM, arXiv 2502.17055",
    statement="On time series with corrupted values SPAM loses less than Adam, the more so the stronger the corruption; Stable-SPAM is more robust still.",  # noqa: E501
    question="A patch transformer forecasts a day of seven channels from four days. In 2 % or 10 % of the training batches a tenth of the values get noise of 20 times the largest value. Error on sound test data; the mean of both series.",  # noqa: E501
    data="ETTh1 and ETTh2 (Zhou et al. 2021): hourly measurements at two electricity transformers, 12 months training, 4 months test; only the anomalies are made",  # noqa: E501
    arms=(ADAM, CLIPPED, RESTART, PUBLISHED, STRICT, STABLE),
    metrics=(
        Metric("rare", "Test error, anomalies in 2 % of the batches", "mean square", False, 3),
        Metric("frequent", "Test error, anomalies in 10 % of the batches", "mean square", False, 3),
        Metric("clean", "Test error without anomalies", "mean square", False, 3),
    ),
    rules=(
        Order("rare", ("adam", "spam"), falling=True),
        Ratio("rare", "spam", "adam", at_most=0.9),
        Order("frequent", ("adam", "spam"), falling=True),
        Order("frequent", ("spam", "stable_spam"), falling=True),
        Ratio("frequent", "stable_spam", "adam_norm_clip", at_most=1.0, essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 6, {"steps": 300, "sets": ["ETTh1", "ETTh2"], "severities": []}),
        "full": Scale(tuple(range(10)), 240, {"steps": 1200, "sets": ["ETTh1", "ETTh2"], "severities": [0, 5, 20, 50]}),
    },
    run=run,
)
