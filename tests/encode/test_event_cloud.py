"""The coordinate coding of SpikePoint: non-negative, invariant, and as accurate as the binomial says."""

from __future__ import annotations

import math

import pytest
import torch

from ranvier.encode import DeterministicRate, EventCloudGrouper, Rate
from ranvier.encode.event_cloud import HALF_NORMAL_MEAN
from ranvier.errors import ArgumentError, ShapeError


def relative_error(p: float, T: int) -> float:
    """E|p̂ − p| / p of the exact binomial."""
    return sum(math.comb(T, n) * p**n * (1 - p) ** (T - n) * abs(n / T - p) for n in range(T + 1)) / p


def test_groups_by_definition() -> None:
    cloud = torch.rand(2, 64, 3, dtype=torch.float64)
    x1, x2 = EventCloudGrouper(64, 6).eval()(cloud)
    assert x2 is cloud and x1.shape == (2, 64, 6, 6)
    for b in range(2):
        rows = torch.cdist(cloud[b], cloud[b]).argsort(1)[:, :6]
        offsets = cloud[b][rows] - cloud[b][:, None]
        spread = offsets.flatten().std()
        torch.testing.assert_close(x1[b, ..., :3], offsets.abs() / (spread + 1e-5))
        torch.testing.assert_close(x1[b, :, 0, 3:], cloud[b][rows].amin(1))
    assert (x1 >= 0).all() and x1[:, :, 0, :3].eq(0).all()  # the centroid is its own first neighbour
    own, _ = EventCloudGrouper(64, 6, sd_scope="group").eval()(cloud)
    assert not torch.allclose(own, x1)
    raw, _ = EventCloudGrouper(64, 6, sign="raw").eval()(cloud)
    affine, _ = EventCloudGrouper(64, 6, sign="affine").eval()(cloud)
    assert raw[..., :3].max() < 1 and affine[..., :3].min() == 0 and affine[..., :3].max() == 1
    mean, _ = EventCloudGrouper(64, 6, anchor="mean").eval()(cloud)
    assert (mean[..., 3:] <= cloud[:, :, None]).all()


def test_moved_and_scaled_clouds_have_the_same_offsets() -> None:
    cloud = torch.rand(1, 200, 3, dtype=torch.float64)
    grouper = EventCloudGrouper(20, 8).eval()
    x1, centres = grouper(cloud)
    moved, shifted = grouper(cloud + 0.25)
    scaled, _ = grouper(cloud * 3)
    torch.testing.assert_close(moved[..., :3], x1[..., :3], rtol=0, atol=1e-9)
    torch.testing.assert_close(shifted - 0.25, centres, rtol=0, atol=1e-9)
    torch.testing.assert_close(scaled[..., :3], x1[..., :3], rtol=0, atol=1e-3)
    assert torch.equal(grouper(cloud)[0], x1)  # evaluation draws nothing
    training = grouper.train()
    assert any(not torch.equal(training(cloud)[1], centres) for _ in range(5))


def test_half_normal_figures() -> None:
    z = torch.randn(1_000_000, dtype=torch.float64).abs()
    assert pytest.approx(0.7978846, abs=1e-7) == HALF_NORMAL_MEAN
    assert z.mean().item() == pytest.approx(HALF_NORMAL_MEAN, abs=0.002)
    assert (z > 1).double().mean().item() == pytest.approx(0.3173105, abs=0.002)
    assert z.clamp_max(1).mean().item() == pytest.approx(0.631254, abs=0.002)


def test_coding_error() -> None:
    assert relative_error(0.039, 16) == pytest.approx(1.0583, abs=1e-4)
    assert relative_error(0.75, 16) == pytest.approx(0.11260, abs=1e-5)
    p = torch.tensor([0.039, 0.75]).expand(100_000, 2)
    rate = Rate(seed=1)(p, 16).mean(0)
    error = (rate - p).abs().mean(0) / p[0]
    assert error.tolist() == pytest.approx([1.0583, 0.1126], rel=0.02)
    assert rate.mean(0).tolist() == pytest.approx([0.039, 0.75], abs=4 * math.sqrt(0.1875 / 1.6e6))
    z = torch.randn(200_000).abs()
    clipped = z.clamp_max(1)
    coded = Rate(seed=2)(clipped, 16).mean(0)
    normalised = ((coded - clipped).abs() / clipped).mean().item()
    assert normalised == pytest.approx(0.221, abs=0.005)
    raw = (z * 0.052).clamp_max(1)
    plain = ((Rate(seed=3)(raw, 16).mean(0) - raw).abs() / raw).mean().item()
    assert plain / normalised > 4
    ends = Rate()(torch.tensor([0.0, 1.0]), 1000)
    assert ends[:, 0].sum() == 0 and ends[:, 1].sum() == 1000


@pytest.mark.parametrize("T", [1, 3, 16])
def test_deterministic_rate(T: int) -> None:
    x = torch.rand(1000, dtype=torch.float64)
    spikes = DeterministicRate()(x, T)
    assert spikes.shape == (T, 1000) and set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(spikes.sum(0), (T * x).floor())
    assert torch.equal(spikes.cumsum(0), (torch.arange(1, T + 1)[:, None] * x).floor())
    assert DeterministicRate()(torch.tensor([0.0, 1.0]), 5).sum(0).tolist() == [0, 5]


def test_bad_settings() -> None:
    with pytest.raises(ArgumentError, match="sign"):
        EventCloudGrouper(sign="square")  # pyright: ignore
    with pytest.raises(ArgumentError, match="num_groups"):
        EventCloudGrouper(0)
    with pytest.raises(ShapeError, match="at least 24 points"):
        EventCloudGrouper(4, 24)(torch.rand(1, 10, 3))
