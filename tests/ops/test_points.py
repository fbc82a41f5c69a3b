"""Farthest points, neighbours and balls against plain torch, and what defines them."""

from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.ops.points import ball_query, farthest_point_sample, group, knn


def test_kernels_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    xyz = torch.rand(3, 120, 3).mul(8).round()  # many ties, many points in one place
    query = torch.rand(3, 40, 3) * 8
    found = []
    for backend in ("auto", "reference"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        found.append((farthest_point_sample(xyz, 120), knn(query, xyz, 9), ball_query(query, xyz, 1.7, 6)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_farthest_points() -> None:
    xyz = torch.rand(200, 3)
    everything = farthest_point_sample(xyz, 200)
    assert torch.equal(everything.sort().values, torch.arange(200))
    assert everything[0] == (xyz - xyz.mean(0)).norm(dim=1).argmin()
    radius = [torch.cdist(xyz, xyz[everything[:m]]).amin(1).max() for m in (5, 20, 60, 150)]
    assert radius == sorted(radius, reverse=True)
    assert torch.equal(farthest_point_sample(xyz, 20), everything[:20])
    assert farthest_point_sample(xyz, 5, start=torch.tensor(7))[0] == 7
    drawn = [farthest_point_sample(xyz, 5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_neighbours() -> None:
    xyz = torch.rand(2, 100, 3)
    rows = knn(xyz, xyz, 8)
    assert torch.equal(rows[..., 0], torch.arange(100).expand(2, -1))  # itself first
    distance = torch.cdist(xyz.double(), xyz.double(), compute_mode="donot_use_mm_for_euclid_dist")
    for b in range(2):
        for q in range(0, 100, 7):
            assert set(rows[b, q].tolist()) == set(distance[b, q].argsort()[:8].tolist())
    members = group(xyz, rows)
    assert members.shape == (2, 100, 8, 3) and torch.equal(members[1, 3, 5], xyz[1, rows[1, 3, 5]])
    assert torch.equal(group(xyz[0], rows[0]), members[0])
    near = ball_query(xyz, xyz, 0.2, 4)
    assert (torch.gather(distance, 2, near) < 0.2).all()
    assert (ball_query(xyz + 9, xyz, 0.2, 4) == -1).all()


def test_bad_points() -> None:
    xyz = torch.rand(10, 3)
    with pytest.raises(ArgumentError, match="1 to the 10 points"):
        farthest_point_sample(xyz, 11)
    with pytest.raises(ArgumentError, match="k must"):
        knn(xyz, xyz, 0)
    with pytest.raises(DataError, match="NaN"):
        knn(xyz, torch.full((5, 3), float("nan")), 1)
    with pytest.raises(DataError, match="empty"):
        farthest_point_sample(torch.zeros(0, 3), 1)
    with pytest.raises(ShapeError, match="agree"):
        knn(torch.rand(2, 4, 3), torch.rand(3, 4, 3), 1)
    with pytest.raises(ArgumentError, match="start"):
        farthest_point_sample(xyz, 3, start=torch.tensor(10))
