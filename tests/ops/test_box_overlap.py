"""Overlap of rotated boxes and the search for voxels: compiled kernels against plain torch and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.box_overlap import bev_intersection, bev_iou, iou_3d, nms
from ranvier.ops.sparse_conv import pack, unpack
from ranvier.ops.voxel_query import voxel_query, voxel_query_reference


def rectangles(n: int) -> Tensor:
    return torch.cat([torch.randn(n, 2) * 2, torch.rand(n, 2) * 3 + 0.2, torch.randn(n, 1) * 3], 1).double()


def test_closed_forms() -> None:
    square = torch.tensor([[0.0, 0, 2, 2, 0]], dtype=torch.float64)
    for other, area in (
        ([0.0, 0, 2, 2, 0], 4), ([1.0, 0, 2, 2, 0], 2), ([0.0, 0, 2, 2, math.pi / 2], 4), ([3.0, 0, 2, 2, 0], 0),
        ([2.0, 0, 2, 2, 0], 0), ([0.0, 0, 2, 2, math.pi / 4], 8 * (math.sqrt(2) - 1)), ([0.0, 0, 1, 1, 0.3], 1),
    ):  # fmt: skip
        shared = bev_intersection(square, torch.tensor([other], dtype=torch.float64))
        assert shared.item() == pytest.approx(area, abs=1e-9)
    box = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]])
    assert iou_3d(box, box + torch.tensor([0, 0, 1.0, 0, 0, 0, 0])).item() == pytest.approx(1 / 3)


def test_kernel_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rectangles(40), rectangles(60)
    fast = bev_intersection(a, b)
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    torch.testing.assert_close(fast, bev_intersection(a, b), rtol=0, atol=1e-7)
    assert fast.count_nonzero() > 200
    torch.testing.assert_close(bev_iou(a, b).T, bev_iou(b, a), rtol=0, atol=1e-7)


def test_suppression(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = rectangles(200)
    boxes = torch.cat([flat[:, :2], torch.zeros(200, 1), flat[:, 2:4], torch.ones(200, 1), flat[:, 4:]], 1).float()
    scores = torch.rand(200)
    kept = nms(boxes, scores, 0.3)
    assert (scores[kept][1:] <= scores[kept][:-1]).all() and kept[0] == scores.argmax()
    iou = bev_iou(flat[kept], flat[kept]).fill_diagonal_(0)
    assert iou.max() <= 0.3 + 1e-6
    dropped = [i for i in range(200) if i not in kept]
    for i in dropped:
        better = kept[scores[kept] >= scores[i]]
        assert bev_iou(flat[i : i + 1], flat[better]).max() > 0.3 - 1e-6
    assert torch.equal(nms(boxes, scores, 0.3, 7), kept[:7])
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    assert torch.equal(nms(boxes, scores, 0.3), kept)


def test_voxel_query() -> None:
    coords = unpack(pack(torch.randint(0, 12, (300, 4)) * torch.tensor([0, 1, 1, 1])).unique())
    coords[len(coords) // 2 :, 0] = 1
    coords = unpack(pack(coords).unique())
    centres = coords[:, 1:].float() + 0.5
    places = torch.rand(100, 3) * 14 - 1
    cells = torch.cat([torch.randint(0, 2, (100, 1)), places.floor().long()], 1)
    found = voxel_query(coords, centres, cells, places, 2, 1.9, 5)
    assert torch.equal(found, voxel_query_reference(coords, centres, cells, places, 2, 1.9, 5))
    assert (found[:, 0] < 0).any() and (found >= 0).any()
    own = found[:, 0] >= 0
    assert torch.equal(coords[found[own, 0], 0].long(), cells[own, 0])


def test_bad_boxes() -> None:
    with pytest.raises(ShapeError, match=r"\[N, 5\]"):
        bev_intersection(torch.rand(3, 4), torch.rand(3, 5))
    with pytest.raises(ArgumentError, match="finite"):
        iou_3d(torch.full((1, 7), float("nan")), torch.rand(1, 7))
    with pytest.raises(ArgumentError, match="threshold"):
        nms(torch.rand(1, 7), torch.rand(1), 2.0)
    assert bev_intersection(torch.rand(0, 5), torch.rand(3, 5)).shape == (0, 3)
    assert len(nms(torch.rand(0, 7), torch.rand(0), 0.5)) == 0
