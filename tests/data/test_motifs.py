from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.data.motifs import SpikingMotifs
from ranvier.errors import ArgumentError
from ranvier.layers.space_time import SpaceTimeConv


def test_a_motif_without_noise_is_its_pattern() -> None:
    rule = SpikingMotifs(neurons=6, motifs=2, spikes=4, span=9, rate=0.01, background=0.0, jitter=0)
    patterns = rule.patterns()
    assert ((patterns >= 0).sum(1) == 4).all() and patterns.max() < 9
    spikes, ends = rule.raster(4000, seed=1)
    starts = [(int(t) - rule.reach, int(m)) for t, m in ends.nonzero().tolist()]
    assert 30 < len(starts) < 130
    expected = torch.zeros_like(spikes)
    for t, m in starts:
        for n in range(6):
            if patterns[m, n] >= 0:
                expected[t + patterns[m, n], n] = 1
    assert torch.equal(spikes, expected)
    assert torch.equal(rule.raster(4000, seed=1)[0], spikes) and not torch.equal(rule.raster(4000, seed=2)[0], spikes)


def test_background_and_errors() -> None:
    spikes, ends = SpikingMotifs(rate=0.0).raster(5000)
    assert not ends.any() and spikes.mean().item() == pytest.approx(0.02, rel=0.1)
    for arguments, said in (({"spikes": 21}, "at most the 20"), ({"rate": 2}, "rate"), ({"span": 0}, "span")):
        with pytest.raises(ArgumentError, match=said):
            SpikingMotifs(**arguments)
    with pytest.raises(ArgumentError, match="steps must be"):
        SpikingMotifs().raster(30)


def f1(logits: Tensor, ends: Tensor) -> float:
    """Of detections, the largest logit within two steps, against the ends of the motifs, one step of tolerance."""
    peak = (logits > 0) & (logits == F.max_pool1d(logits.T, 5, 1, 2).T)
    near_end, near_peak = (F.max_pool1d(x.float().T, 3, 1, 1).T > 0 for x in (ends, peak))
    hits, precision = (ends.bool() & near_peak).sum() / ends.sum(), (peak & near_end).sum() / peak.sum().clamp(min=1)
    return float(2 * hits * precision / (hits + precision).clamp(min=1e-9))


def test_motifs_are_found_by_delays_and_not_without_them() -> None:
    rule = SpikingMotifs()
    spikes, ends = rule.raster(10_000, seed=1)
    unseen, unseen_ends = rule.raster(10_000, seed=2)

    def trained(taps: int) -> float:
        torch.manual_seed(0)
        layer = SpaceTimeConv(20, 5, (taps, 1, 1))
        solver = torch.optim.LBFGS(layer.parameters(), max_iter=40, line_search_fn="strong_wolfe")
        movie = lambda x: x[:, None, :, None, None]  # noqa: E731
        around = F.max_pool1d(ends.T, 3, 1, 1).T  # with jitter, the end itself is uncertain by a step

        def loss() -> Tensor:
            solver.zero_grad()
            logits = layer(movie(spikes))[:, 0, :, 0, 0]
            value = F.binary_cross_entropy_with_logits(logits, around) + 2e-5 * layer.weight.square().sum()
            value.backward()
            return value

        solver.step(loss)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            return f1(layer(movie(unseen))[:, 0, :, 0, 0], unseen_ends)

    assert trained(rule.reach + 1 + rule.jitter) >= 0.95
    assert trained(1) < 0.1
