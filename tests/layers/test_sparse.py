"""Sparse tensors, voxels of points, and sparse layers against dense ones."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers import sparse
from ranvier.layers.sparse import SparseTensor, devoxelize, from_dense, voxelize
from ranvier.measure import count
from ranvier.neurons import SpikeCount


def grid(n: int = 200, side: int = 8, channels: int = 4, dims: int = 3, batch: int = 2) -> SparseTensor:
    place = torch.randperm(batch * side**dims)[:n].sort().values
    axes = [place // side**dims, *(place // side**i % side for i in reversed(range(dims)))]
    feats = torch.randn(n, channels, dtype=torch.float64)
    return SparseTensor(feats, torch.stack(axes, 1), (side,) * dims, batch)


def read(dense: Tensor, x: SparseTensor) -> Tensor:
    b, *axes = x.coords.long().unbind(1)
    return dense[(b, slice(None), *axes)]


def dense_weight(layer: sparse.SparseConv) -> Tensor:
    return layer.weight.permute(2, 1, 0).unflatten(2, layer.kernel_size)


@pytest.mark.parametrize("dims", [2, 3])
def test_dense_and_back(dims: int) -> None:
    x = grid(40, 8, dims=dims)
    again = from_dense(x.dense())
    assert torch.equal(again.coords, x.coords) and torch.equal(again.feats, x.feats)
    steps = SparseTensor(torch.stack([x.feats, 2 * x.feats]), x.voxels)
    assert torch.equal(steps.dense(), torch.stack([x.dense(), 2 * x.dense()]))


@pytest.mark.parametrize("dims", [2, 3])
def test_layers_are_the_dense_ones(dims: int) -> None:
    x = grid(40 if dims == 2 else 200, 8, dims=dims)
    subm = (sparse.SubmConv2d if dims == 2 else sparse.SubmConv3d)(4, 6, 3, bias=True).double()
    strided = (sparse.SparseConv2d if dims == 2 else sparse.SparseConv3d)(
        4, 6, 3, 2, 1, bias=True, boundary="spconv"
    ).double()  # fmt: skip
    conv = F.conv2d if dims == 2 else F.conv3d
    y, z = subm(x), strided(x)
    torch.testing.assert_close(y.feats, read(conv(x.dense(), dense_weight(subm), subm.bias, 1, 1), x))
    expected = conv(x.dense(), dense_weight(strided), strided.bias, 2, 1)
    assert z.spatial_shape == tuple(expected.shape[2:]) and z.stride == (2,) * dims
    torch.testing.assert_close(z.feats, read(expected, z))
    pointwise = type(subm)(4, 5, 1, bias=True).double()
    torch.testing.assert_close(pointwise(x).feats, x.feats @ pointwise.weight[0] + pointwise.bias)


def test_steps_share_the_voxels() -> None:
    x = grid()
    conv = sparse.SubmConv3d(4, 6).double()
    norm = sparse.BatchNorm(6).double()
    steps = SparseTensor(torch.randn(3, 200, 4, dtype=torch.float64), x.voxels)
    y = conv(steps)
    for t in range(3):
        torch.testing.assert_close(y.feats[t], conv(x.replace(steps.feats[t])).feats)
    torch.testing.assert_close(norm(y).feats.mean((0, 1)), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


def test_maps_are_made_once_and_go_with_the_voxels() -> None:
    x = grid()
    a, b = sparse.SubmConv3d(4, 4).double(), sparse.SubmConv3d(4, 4).double()
    down, other = sparse.SparseConv3d(4, 4, 2, 2).double(), sparse.SparseConv3d(4, 4, 2, 2).double()
    b(a(x))
    assert len(x.voxels._maps) == 1
    y, z = down(x), other(x)
    assert y.voxels is z.voxels and (y + z).voxels is y.voxels
    alive = y.voxels._maps
    del y, z
    gc.collect()
    assert all(ref() is None for ref in x.voxels._coarser.values()), f"a cycle keeps coarse voxels alive: {alive}"


def test_inverse_convolution_restores_the_voxels() -> None:
    x = grid()
    down, up = (
        sparse.SparseConv3d(4, 6, 2, 2, key="d1").double(),
        sparse.SparseInverseConv3d(6, 3, 2, key="d1").double(),
    )
    back = up(down(x))
    assert back.voxels is x.voxels
    dense = F.conv_transpose3d(down(x).dense(), up.weight.permute(1, 2, 0).unflatten(2, (2, 2, 2)), stride=2)
    torch.testing.assert_close(back.feats, read(dense, x))
    with pytest.raises(ArgumentError, match="'other'"):
        sparse.SparseInverseConv3d(6, 3, 2, key="other").double()(down(x))
    with pytest.raises(ArgumentError, match="no such layer"):
        up(x.replace(torch.randn(200, 6, dtype=torch.float64)))


def test_spconv_weights_round_trip() -> None:
    layer = sparse.SubmConv3d(4, 6, (3, 1, 5))
    theirs = sparse.to_spconv(layer.weight, layer.kernel_size)
    assert theirs.shape == (6, 3, 1, 5, 4)
    assert torch.equal(sparse.from_spconv(theirs), layer.weight)
    assert torch.equal(theirs.permute(0, 4, 1, 2, 3), dense_weight(layer))


def test_pools_and_views() -> None:
    x = grid()
    dense, mask = x.dense(), from_dense(x.dense()).replace(torch.ones(200, 1, dtype=torch.float64)).dense()
    torch.testing.assert_close(sparse.GlobalAvgPool()(x), dense.sum((2, 3, 4)) / mask.sum((2, 3, 4)))
    for b in range(2):
        own = x.coords[:, 0] == b
        torch.testing.assert_close(sparse.GlobalMaxPool()(x)[b], x.feats[own].amax(0))
    bev = sparse.to_bev(x)
    assert bev.shape == (2, 32, 8, 8)
    torch.testing.assert_close(bev[:, 8:16], dense[:, 1])
    flat = sparse.sum_columns(x)
    torch.testing.assert_close(flat.dense(), dense.sum(2))


def test_translation_by_the_total_stride_changes_nothing() -> None:
    x = grid(batch=1)
    net = nn.Sequential(
        sparse.SubmConv3d(4, 4), sparse.SparseConv3d(4, 4, 2, 2), sparse.SparseConv3d(4, 5, 3, 2, 1)
    ).double()  # fmt: skip
    free = SparseTensor(x.feats, x.coords)
    moved = SparseTensor(x.feats, x.coords + torch.tensor([0, 8, -4, 12]))
    y, z = net(free), net(moved)
    torch.testing.assert_close(z.feats, y.feats, rtol=0, atol=1e-12)
    assert torch.equal(z.coords - y.coords, torch.tensor([[0, 2, -1, 3]]).expand_as(y.coords).int())


def test_counted_operations_are_exact() -> None:
    x = grid(100)
    x = x.replace(torch.randint(0, 5, (100, 4)).double())
    layer = sparse.SubmConv3d(4, 6).double()

    class Net(nn.Module):
        T = 1

        def __init__(self) -> None:
            super().__init__()
            self.spikes, self.conv = sparse.Spikes(SpikeCount()), layer

        def forward(self, feats: Tensor) -> Tensor:
            return self.conv(self.spikes(x.replace(feats))).feats

    report = count(Net(), x.feats, samples=1, T=1, time_first=False)
    (row,) = report.rows
    kmap = x.voxels.submanifold((3, 3, 3), (1, 1, 1))
    fan = kmap.fan_out()
    assert row.op == "sparse_conv" and row.macs_dense == kmap.pairs * 24
    assert row.synops == int((fan * (x.feats > 0).sum(1)).sum()) * 6
    assert row.unrolled == int((fan * x.feats.sum(1)).sum()) * 6


# --- voxels of points ----------------------------------------------------------------------------------------------


def test_voxelize_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.1, 0.2], [0.9, 0.4, 0.4], [2.2, 0.0, 0.0], [0.55, 0.2, 0.3]])
    x, rows = voxelize(points, None, 0.5)
    assert x.coords.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 4, 0, 0]]
    assert rows.tolist() == [0, 1, 1, 2, 1] and x.spatial_shape == (5, 1, 1)
    torch.testing.assert_close(x.feats[1], points[[1, 2, 4]].mean(0))
    assert torch.equal(voxelize(points, None, 0.5, reduce="first")[0].feats, points[[0, 1, 3]])
    torch.testing.assert_close(voxelize(points, None, 0.5, reduce="max")[0].feats[1], points[[1, 2, 4]].amax(0))
    torch.testing.assert_close(voxelize(points, None, 0.5, max_points=2)[0].feats[1], points[[1, 2]].mean(0))
    seeded = [voxelize(points, None, 0.5, reduce="random", generator=torch.Generator().manual_seed(s)) for s in (1, 1)]
    assert torch.equal(seeded[0][0].feats, seeded[1][0].feats)
    assert any(torch.equal(seeded[0][0].feats[1], points[i]) for i in (1, 2, 4))
    limited, rows = voxelize(points.flip(0), None, 0.5, max_voxels=2)
    assert len(limited) == 2 and rows.tolist() == [0, 1, 0, 0, -1]


def test_voxelize_range_batch_and_order() -> None:
    points = torch.rand(500, 3) * 10
    batch = torch.arange(500) % 2
    bounds = [1.0, 2.0, 3.0, 9.0, 8.0, 7.0]
    x, rows = voxelize(points, torch.ones(500, 2), (1.0, 0.5, 2.0), bounds, batch=batch, order=(2, 1, 0))
    inside = ((points >= torch.tensor(bounds[:3])) & (points < torch.tensor(bounds[3:]))).all(1)
    assert torch.equal(rows >= 0, inside) and x.spatial_shape == (2, 12, 8) and x.batch_size == 2
    expected = ((points - torch.tensor(bounds[:3])) / torch.tensor([1.0, 0.5, 2.0])).floor().int().flip(1)[inside]
    assert torch.equal(x.coords[rows[inside]][:, 1:], expected)
    assert torch.equal(x.coords[rows[inside]][:, 0], batch[inside].int())
    far, _ = voxelize(points - 1000 * batch[:, None], None, 0.5, batch=batch)
    assert int(far.coords[:, 1:].min()) == 0 and max(far.spatial_shape) <= 21  # every sample at its own origin


def test_points_that_make_no_voxels() -> None:
    with pytest.raises(DataError, match="empty"):
        voxelize(torch.zeros(0, 3), None, 0.1)
    with pytest.raises(DataError, match="point 1 is not finite"):
        voxelize(torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]), None, 0.1)
    with pytest.raises(DataError, match="sample 0 has no point in the range"):
        voxelize(torch.ones(4, 3), None, 0.1, [2.0, 2, 2, 3, 3, 3])
    with pytest.raises(DataError, match="sample 1 has no point"):
        voxelize(torch.ones(4, 3), None, 0.1, batch=torch.tensor([0, 0, 2, 2]))
    with pytest.raises(ArgumentError, match="larger ones"):
        voxelize(torch.tensor([[0.0, 0, 0], [1e6, 0, 0]]), None, 0.01)
    with pytest.raises(ArgumentError, match="voxel_size"):
        voxelize(torch.ones(4, 3), None, 0.0)
    with pytest.raises(ArgumentError, match="reduce"):
        voxelize(torch.ones(4, 3), None, 1.0, reduce="median")  # pyright: ignore


def test_devoxelize() -> None:
    points = torch.rand(300, 3, dtype=torch.float64) * 4
    x, rows = voxelize(points, None, 1.0, [0.0, 0, 0, 4, 4, 4])
    near = devoxelize(x, rows)
    assert torch.equal(near, x.feats[rows])
    assert devoxelize(x, torch.tensor([-1, 0]))[0].eq(0).all()
    full = from_dense(torch.ones(1, 1, 4, 4, 4, dtype=torch.float64))
    linear = full.replace(full.coords[:, 1:].double() @ torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64))
    inner = torch.rand(50, 3, dtype=torch.float64) * 3 + 0.5
    expected = (inner - 0.5) @ torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    torch.testing.assert_close(devoxelize(linear, mode="trilinear", positions=inner), expected)


def test_bad_tensors() -> None:
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
    with pytest.raises(ArgumentError, match="same voxel"):
        SparseTensor(torch.rand(2, 3), coords)
    with pytest.raises(ArgumentError, match="outside the grid"):
        SparseTensor(torch.rand(1, 3), coords[:1], (2, 2, 2))
    with pytest.raises(ShapeError, match=r"\[1, C\]"):
        SparseTensor(torch.rand(2, 3), coords[:1])
    with pytest.raises(ArgumentError, match="batch_size"):
        SparseTensor(torch.rand(1, 3), torch.tensor([[3, 1, 1, 1]]), batch_size=3)
    with pytest.raises(ArgumentError, match="different voxels"):
        grid() + grid()
    with pytest.raises(ShapeError, match="4 channels"):
        sparse.SubmConv3d(4, 4)(grid(channels=3))
    with pytest.raises(ArgumentError, match="NaN"):
        from_dense(torch.full((1, 1, 2, 2, 2), float("nan")))
    with pytest.raises(ArgumentError, match="odd"):
        sparse.SubmConv3d(4, 4, 2)
