"""The detector: sizes of its parts, coding of boxes, targets, a cloud that it learns, and the real sweep."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers import sparse
from ranvier.models import create_model, load_official
from ranvier.models.e3dsnn.detection import (
    AnchorHead,
    AnchorSettings,
    E3DSNNDetector,
    VoxelRCNNHeadSpike,
    box_corners,
    decode_boxes,
    encode_boxes,
)
from ranvier.ops.box_overlap import iou_3d

SMALL = {
    "voxel_size": (0.4, 0.4, 0.2), "range": (0.0, -9.6, -3.0, 19.2, 9.6, 1.0), "embed": 8, "channels": (8, 8, 8),
    "out_channels": 16, "bev": {"filters": (16, 16), "layers": (1, 1), "up_filters": (16, 16)},
    "roi": {"width": 32, "grid": 3, "pool_width": 8}, "bn_momentum": 0.1,
}  # fmt: skip


def boxes(n: int) -> Tensor:
    return torch.cat([torch.randn(n, 3) * 3, torch.rand(n, 3) + 0.5, torch.randn(n, 1)], 1).double()


@pytest.mark.parametrize(
    ("part", "count"),
    [("backbone_3d", 1_722_368), ("backbone_2d", 1_219_328), ("dense_head", 5_140), ("roi_head", 5_650_280)],
)
def test_parts_have_their_published_sizes(part: str, count: int) -> None:
    with torch.device("meta"):
        model = create_model("e3dsnn_kitti")
        single = create_model("e3dsnn_kitti", two_stage=False)
    assert sum(p.numel() for p in model.get_submodule(part).parameters()) == count
    assert sum(p.numel() for p in model.parameters()) == 8_597_116
    assert sum(p.numel() for p in single.parameters()) == 2_946_836


def test_coding_is_invertible() -> None:
    anchors, given = boxes(50), boxes(50)
    torch.testing.assert_close(decode_boxes(encode_boxes(given, anchors), anchors), given)
    residuals = torch.randn(50, 7, dtype=torch.float64) * 0.2
    refined = VoxelRCNNHeadSpike.decode(residuals, given)
    back = VoxelRCNNHeadSpike.decode(torch.zeros_like(residuals), given)
    torch.testing.assert_close(back, given)
    unit = torch.stack([given[:, 3:5].norm(dim=1)] * 2 + [given[:, 5]], 1)
    moved = (refined[:, :3] - given[:, :3]).norm(dim=1)
    torch.testing.assert_close(moved, (residuals[:, :3] * unit).norm(dim=1))
    corners = box_corners(given)
    torch.testing.assert_close(corners.mean(1), given[:, :3])
    torch.testing.assert_close((corners[:, 7] - corners[:, 0]).norm(dim=1), given[:, 3:6].norm(dim=1))


def test_anchor_targets() -> None:
    head = AnchorHead(4, (0, 0, -3, 16, 16, 1), [AnchorSettings()])
    anchors, kinds = head.anchors(17, 17, torch.zeros(()))
    assert anchors.shape == (17 * 17 * 2, 7)
    assert anchors[0].tolist() == pytest.approx([0, 0, -1, 3.9, 1.6, 1.56, 0])
    assert anchors[3].tolist() == pytest.approx([1, 0, -1, 3.9, 1.6, 1.56, 1.57])
    car = torch.tensor([[8.0, 5.0, -1.0, 3.9, 1.6, 1.56, 0.0]])
    target, row = head.assign(anchors, kinds, car, torch.zeros(1, dtype=torch.int64))
    exact = (5 * 17 + 8) * 2
    assert target[exact] == 1 and row[exact] == 0 and target[exact + 1] == 0  # the turned anchor overlaps too little
    assert (target == -1).any() or (target == 1).sum() >= 1
    none, _ = head.assign(anchors, kinds, car[:0], torch.zeros(0, dtype=torch.int64))
    assert none.eq(0).all()
    far = torch.tensor([[8.4, 5.3, -1.0, 1.0, 0.5, 1.5, 0.0]])  # too small to match: the best anchor is taken anyway
    forced, _ = head.assign(anchors, kinds, far, torch.zeros(1, dtype=torch.int64))
    assert (forced == 1).sum() >= 1


def test_heading_comes_back_through_axis_and_direction() -> None:
    head = AnchorHead(4, (0, 0, -3, 16, 16, 1), [AnchorSettings()])
    anchors, _ = head.anchors(3, 3, torch.zeros((), dtype=torch.float64))
    for heading in (0.1, 1.5, 3.0, -2.0, -0.7):
        truth = anchors.clone()
        truth[:, 6] = heading
        way = (heading - 0.78539) % (2 * math.pi) >= math.pi
        directions = torch.zeros(len(anchors), 2, dtype=torch.float64)
        directions[:, int(way)] = 1
        for turn in (0.0, math.pi):  # the sine cannot tell these apart
            code = encode_boxes(truth, anchors)
            code[:, 6] += turn
            decoded = head.decode(code, directions, anchors)
            assert ((decoded[:, 6] - heading + math.pi) % (2 * math.pi) - math.pi).abs().max() < 1e-6


def scene(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ground, and two cars as boxes of points."""
    ground = torch.rand(600, 3, generator=generator) * torch.tensor([19.2, 19.2, 0.1]) + torch.tensor([0, -9.6, -1.8])
    cars = torch.tensor([[5.0, -4.0, -1.0, 3.9, 1.6, 1.56, 0.3], [13.0, 4.0, -1.0, 3.9, 1.6, 1.56, 1.4]])
    local = torch.rand(2, 250, 3, generator=generator) - 0.5
    cos, sin = cars[:, 6, None].cos(), cars[:, 6, None].sin()
    scaled = local * cars[:, None, 3:6]
    x, y = scaled[..., 0] * cos - scaled[..., 1] * sin, scaled[..., 0] * sin + scaled[..., 1] * cos
    points = torch.stack([x, y, scaled[..., 2]], -1) + cars[:, None, :3]
    cloud = torch.cat([ground, points.flatten(0, 1)])
    return torch.cat([cloud, torch.rand(len(cloud), 1, generator=generator)], 1), cars


def test_it_learns_a_scene() -> None:
    cloud, cars = scene(torch.Generator().manual_seed(0))
    model = E3DSNNDetector(**SMALL).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = last = 0.0
    for step in range(80):
        losses = model.loss([cloud, cloud], [cars, cars])
        assert set(losses) == {"anchor_cls", "anchor_box", "anchor_dir", "roi_cls", "roi_box", "roi_corner"}
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first, last = (total.item() if step == 0 else first), total.item()
    assert last < 0.3 * first
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    found = model.eval()([cloud])[0]
    overlap = iou_3d(cars, found.boxes)
    assert len(found.boxes) >= 2 and overlap.amax(1).min() > 0.4, (overlap, found)
    torch.testing.assert_close(model([cloud])[0].boxes, found.boxes)


def test_empty_scenes_train_too() -> None:
    cloud, _ = scene(torch.Generator().manual_seed(0))
    model = E3DSNNDetector(**SMALL).train()
    losses = model.loss([cloud, cloud], [torch.zeros(0, 7)] * 2)
    sum(losses.values()).backward()
    assert losses["anchor_box"] == 0 and losses["roi_corner"] == 0


def test_original_names_and_layout() -> None:
    theirs, ours = E3DSNNDetector(**SMALL), E3DSNNDetector(**SMALL)
    state = {"global_step": torch.zeros(1)}
    sizes = {name: m.kernel_size for name, m in theirs.named_modules() if isinstance(m, sparse.SparseConv)}
    for name, tensor in theirs.state_dict().items():
        layer = name.removesuffix(".weight")
        state[name] = sparse.to_spconv(tensor, sizes[layer]) if layer in sizes else tensor
    for expected in (
        "backbone_3d.conv_input.0.weight", "backbone_3d.conv1.0.1.weight", "backbone_3d.conv2.down.1.weight",
        "backbone_3d.conv4.blocks.1.voxel_block.4.weight", "backbone_3d.conv_out.0.weight",
        "backbone_2d.blocks.0.2.weight",
        "backbone_2d.blocks.1.5.weight", "backbone_2d.deblocks.1.1.weight", "dense_head.conv_dir_cls.bias",
        "roi_head.roi_grid_pool_layers.2.mlps_out.0.1.weight", "roi_head.shared_fc_layer.1.weight",
        "roi_head.shared_fc_layer.5.weight", "roi_head.reg_fc_layers.5.weight", "roi_head.cls_pred_layer.bias",
    ):  # fmt: skip
        assert expected in state
    assert load_official(ours, {"model_state": state}["model_state"]).complete
    for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="multiples of 8"):
        E3DSNNDetector(range=(0, 0, -3, 10.2, 10, 1))
    with pytest.raises(ArgumentError, match="one setting a class"):
        E3DSNNDetector(num_classes=2)
    model = E3DSNNDetector(**SMALL).eval()
    cloud, cars = scene(torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="no point in the range"):
        model([cloud, cloud + 1000])
    with pytest.raises(DataError, match="not finite"):
        model([torch.full((3, 4), float("inf"))])
    with pytest.raises(ShapeError, match="cloud 0"):
        model([cloud[:, :3]])
    with pytest.raises(DataError, match="no cloud"):
        model([])
    with pytest.raises(DataError, match="positive sizes"):
        model.loss([cloud], [-cars])


def test_the_real_sweep(ranvier_data: Path) -> None:
    path = ranvier_data / "lidar/kitti_000008.bin"
    if not path.is_file():
        pytest.skip("the KITTI sweep is not there")
    cloud = torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, 4))
    model = create_model("e3dsnn_kitti", bev={"filters": (8, 8), "layers": (0, 0), "up_filters": (8, 8)},
                         roi={"width": 16, "grid": 2})  # fmt: skip
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = 1.0
    x = model.train().voxels([cloud])
    assert x.spatial_shape == (41, 1600, 1408) and len(x) == 13_092
    spikes, levels = model.backbone_3d(x)
    assert [level.spatial_shape for level in levels] == [
        (41, 1600, 1408), (21, 800, 704), (11, 400, 352), (6, 200, 176)
    ]  # fmt: skip
    assert spikes.spatial_shape == (2, 200, 176)
    assert spikes.feats.count_nonzero() > 0
