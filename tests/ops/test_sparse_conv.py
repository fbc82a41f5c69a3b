"""Kernel maps against brute force, sparse convolution against dense convolution."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.sparse_conv import KernelMap, distinct, kernel_map, pack, sparse_conv, unpack

CASES = [
    {"kernel_size": 1}, {"kernel_size": 3}, {"kernel_size": 5}, {"kernel_size": (1, 3, 3)}, {"kernel_size": (3, 1, 5)},
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": 2, "stride": 2, "mode": "strided"},
    {"kernel_size": 3, "stride": 2, "padding": 1, "mode": "strided"},
    {"kernel_size": (3, 1, 1), "stride": (2, 1, 1), "mode": "strided"},
    {"kernel_size": 3, "stride": 1, "padding": 1, "mode": "strided", "dilation": 2},
]  # fmt: skip
MAPS = pytest.mark.parametrize("case", CASES, ids=str)


def random_voxels(n: int, side: int, batch: int = 3, low: int = 0, seed: int = 0) -> Tensor:
    """Distinct voxels in random order."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randperm(batch * side**3, generator=generator)[:n]
    axes = [place // side**3, *(place // side**i % side + low for i in (2, 1, 0))]
    return torch.stack(axes, 1).to(torch.int32)


def pairs(kmap: KernelMap) -> set[tuple[int, ...]]:
    """The map as a set of (input row, output voxel, offset)."""
    found: list[tuple[int, ...]] = []
    for k, (first, last) in enumerate(itertools.pairwise(kmap.ptr.tolist())):
        outs = kmap.out_coords[kmap.out_idx[first:last].long()].tolist()
        found += [(i, *o, k) for i, o in zip(kmap.in_idx[first:last].tolist(), outs, strict=True)]
    assert len(found) == len(set(found)) == kmap.pairs
    return set(found)


def brute_force(coords: Tensor, case: dict[str, object]) -> set[tuple[int, ...]]:
    """The definition, voxel by voxel."""

    def three(value: object) -> tuple[int, ...]:
        return (value,) * 3 if isinstance(value, int) else tuple(value)  # pyright: ignore

    k, s, p, d = (
        three(case.get(n, v)) for n, v in (("kernel_size", 0), ("stride", 1), ("padding", 0), ("dilation", 1))
    )
    strided = case.get("mode") == "strided"
    inputs = [tuple(row) for row in coords.tolist()]
    rows = {voxel: i for i, voxel in enumerate(inputs)}
    if not strided:
        p = tuple(d_ * (k_ // 2) for d_, k_ in zip(d, k, strict=True))
    offsets = list(itertools.product(*(range(v) for v in k)))
    outputs = set(inputs)
    if strided:
        outputs = {
            (b, *((x + p_ - o * d_) // s_ for x, p_, o, d_, s_ in zip(v, p, kappa, d, s, strict=True)))
            for b, *v in inputs for kappa in offsets
            if all((x + p_ - o * d_) % s_ == 0 for x, p_, o, d_, s_ in zip(v, p, kappa, d, s, strict=True))
        }  # fmt: skip
    found: set[tuple[int, ...]] = set()
    for b, *o in outputs:
        for number, kappa in enumerate(offsets):
            voxel = (b, *(x * s_ - p_ + q * d_ for x, s_, p_, q, d_ in zip(o, s, p, kappa, d, strict=True)))
            if voxel in rows:
                found.add((rows[voxel], b, *o, number))
    return found


@MAPS
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("low", "ordered"), [(0, True), (0, False), (-4, False)])
def test_map_is_the_definition(
    case: dict[str, int], backend: str, low: int, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    coords = random_voxels(220, 7, low=low)
    if ordered:
        coords = unpack(pack(coords).sort().values)
    kmap = kernel_map(coords, **case)
    assert pairs(kmap) == brute_force(coords, case)
    for first, last in itertools.pairwise(kmap.ptr.tolist()):
        assert kmap.out_idx[first:last].unique().numel() == last - first
    if case.get("mode") == "strided":
        keys = pack(kmap.out_coords)
        assert (keys[1:] > keys[:-1]).all()


@given(n=st.integers(1, 60), side=st.integers(1, 6), low=st.integers(-3, 3), seed=st.integers(0, 99))
def test_any_voxels(n: int, side: int, low: int, seed: int) -> None:
    coords = random_voxels(n, side, 2, low, seed)
    for case in ({"kernel_size": 3}, {"kernel_size": 3, "stride": 2, "padding": 1, "mode": "strided"}):
        assert pairs(kernel_map(coords, **case)) == brute_force(coords, case)


def test_map_is_symmetric() -> None:
    kmap = kernel_map(random_voxels(200, 7), 3)
    rows = {(i, int(o), k) for k in range(27) for i, o in zip(
        kmap.in_idx[kmap.ptr[k] : kmap.ptr[k + 1]].tolist(), kmap.out_idx[kmap.ptr[k] : kmap.ptr[k + 1]].tolist(),
        strict=True)}  # fmt: skip
    assert rows == {(o, i, 26 - k) for i, o, k in rows}


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bad_voxels(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    twice = torch.tensor([[0, 1, 2, 3], [0, 5, 5, 5], [0, 1, 2, 3]])
    for case in ({"kernel_size": 3}, {"kernel_size": 2, "stride": 2, "mode": "strided"}):
        with pytest.raises(ArgumentError, match=r"rows 0 and 2 are the same voxel \[0, 1, 2, 3\]"):
            kernel_map(twice, **case)
        with pytest.raises(ArgumentError, match="same voxel"):
            kernel_map(twice[[0, 2, 1]], **case)
    with pytest.raises(ArgumentError, match="-40000"):
        kernel_map(torch.tensor([[0, -40000, 2, 3]]), 3)
    with pytest.raises(ArgumentError, match="batch"):
        kernel_map(torch.tensor([[-1, 0, 2, 3]]), 3)
    with pytest.raises(ArgumentError, match="integers"):
        kernel_map(torch.rand(3, 4), 3)
    with pytest.raises(ShapeError, match=r"\[n, 4\]"):
        kernel_map(torch.zeros(3, 3, dtype=torch.int64), 3)
    with pytest.raises(ArgumentError, match="odd kernel"):
        kernel_map(twice[:2], 2)
    with pytest.raises(ArgumentError, match="too small"):
        kernel_map(twice[:2], 3, 2, mode="strided", spatial_shape=(2, 8, 8), boundary="spconv")


def test_no_voxels() -> None:
    empty = torch.zeros(0, 4, dtype=torch.int32)
    for case in CASES:
        kmap = kernel_map(empty, **case)
        assert kmap.pairs == kmap.n_out == 0
        assert sparse_conv(torch.zeros(0, 3), torch.rand(len(kmap.offsets), 3, 5), kmap).shape == (0, 5)


def test_extremes_of_the_range_stay_apart() -> None:
    edge = 32511
    coords = torch.tensor(
        [[b, a, b2, c] for b in (0, 32767) for a, b2, c in itertools.product((-edge - 1, edge), repeat=3)]
    )
    assert torch.equal(unpack(pack(coords)), coords.int())
    assert kernel_map(coords, 3).pairs == len(coords)  # each voxel meets only itself


@given(st.lists(st.integers(0, 20), max_size=60), st.booleans())
def test_distinct(values: list[int], ordered: bool) -> None:
    keys = torch.tensor(sorted(values) if ordered else values, dtype=torch.int64)
    found, number = distinct(keys)
    expected, inverse = torch.unique(keys, return_inverse=True)
    assert torch.equal(found, expected) and torch.equal(number, inverse)


def volume(coords: Tensor, feats: Tensor, batch: int, shape: tuple[int, ...]) -> Tensor:
    dense = feats.new_zeros(batch, feats.shape[1], *shape)
    b, *axes = coords.long().unbind(1)
    dense[(b, slice(None), *axes)] = feats
    return dense


def at(dense: Tensor, coords: Tensor) -> Tensor:
    b, *axes = coords.long().unbind(1)
    return dense[(b, slice(None), *axes)]


@MAPS
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_convolution_is_the_dense_one(case: dict[str, int], backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    shape, batch = (9, 9, 9), 3
    coords = random_voxels(300, 9)
    x = torch.randn(300, 4, dtype=torch.float64, requires_grad=True)
    kmap = kernel_map(coords, **case, spatial_shape=shape, boundary="spconv")
    weight = torch.randn(len(kmap.offsets), 4, 6, dtype=torch.float64, requires_grad=True)
    y = sparse_conv(x, weight, kmap)

    k = case["kernel_size"]
    k = (k,) * 3 if isinstance(k, int) else k
    d = case.get("dilation", 1)
    padding = case.get("padding", 0) if case.get("mode") == "strided" else tuple(d * (n // 2) for n in k)
    dense_weight = weight.permute(2, 1, 0).reshape(6, 4, *k)
    dense = F.conv3d(volume(coords, x, batch, shape), dense_weight, None, case.get("stride", 1), padding, d)
    assert kmap.out_shape == tuple(dense.shape[2:])
    torch.testing.assert_close(y, at(dense, kmap.out_coords), rtol=0, atol=1e-12)
    if case.get("mode") == "strided":
        assert dense.detach().count_nonzero() == y.detach().count_nonzero()  # no output is missing

    g = torch.randn_like(y)
    grads = torch.autograd.grad((y * g).sum(), (x, weight))
    expected = torch.autograd.grad((at(dense, kmap.out_coords) * g).sum(), (x, weight))
    for ours, theirs in zip(grads, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_full_grid_is_dense_convolution_everywhere() -> None:
    coords = torch.cartesian_prod(*[torch.arange(n) for n in (1, 16, 16, 16)])
    x, weight = torch.randn(16**3, 3, dtype=torch.float64), torch.randn(27, 3, 2, dtype=torch.float64)
    dense = F.conv3d(volume(coords, x, 1, (16,) * 3), weight.permute(2, 1, 0).reshape(2, 3, 3, 3, 3), padding=1)
    torch.testing.assert_close(sparse_conv(x, weight, kernel_map(coords, 3)), at(dense, coords), rtol=0, atol=1e-12)


def test_gradients() -> None:
    coords = random_voxels(40, 4)
    for case in CASES[1], CASES[6], CASES[7]:
        kmap = kernel_map(coords, **case)
        x = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(len(kmap.offsets), 2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, w, m=kmap: sparse_conv(x, w, m), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_equal_the_reference(dtype: torch.dtype, poisoned_empty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kmap = kernel_map(random_voxels(3000, 16), 3)
    x, weight = torch.randn(6, 3000).T.to(dtype), torch.randn(27, 6, 5).to(dtype)  # in odd strides
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    results: list[Tensor] = []
    for backend in ("auto", "reference"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        leaf, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = sparse_conv(leaf, w, kmap)
        assert y.dtype == dtype
        y.float().square().sum().backward()
        results += [y.detach(), leaf.grad, w.grad]
    for ours, theirs in zip(results[:3], results[3:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4 if dtype == torch.float32 else 0.1, atol=tolerance * 100)


def test_several_threads_and_blocks_give_the_same_bits() -> None:
    kmap = kernel_map(random_voxels(30000, 40, batch=1), 3)
    x, weight = torch.randn(30000, 8), torch.randn(27, 8, 8)
    one = sparse_conv(x, weight, kmap)
    torch.set_num_threads(2)
    try:
        again = kernel_map(kmap.out_coords, 3)
        two = sparse_conv(x, weight, again)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(kmap.in_idx, again.in_idx) and torch.equal(kmap.out_idx, again.out_idx)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_rows_may_be_permuted_and_samples_separated() -> None:
    coords = random_voxels(300, 8)
    x, weight = torch.randn(300, 4, dtype=torch.float64), torch.randn(27, 4, 4, dtype=torch.float64)
    y = sparse_conv(x, weight, kernel_map(coords, 3))
    order = torch.randperm(300)
    torch.testing.assert_close(sparse_conv(x[order], weight, kernel_map(coords[order], 3)), y[order])
    for b in range(3):
        own = coords[:, 0] == b
        torch.testing.assert_close(sparse_conv(x[own], weight, kernel_map(coords[own], 3)), y[own])


def test_inverse_map_is_the_transpose() -> None:
    coords = random_voxels(200, 7)
    down = kernel_map(coords, 2, 2, mode="strided")
    up = down.transposed(coords)
    assert torch.equal(up.out_coords, coords) and up.n_out == 200 and down.pairs == 200
    x, y = torch.randn(200, 3, dtype=torch.float64), torch.randn(down.n_out, 3, dtype=torch.float64)
    weight = torch.randn(8, 3, 3, dtype=torch.float64)
    forward = (sparse_conv(x, weight, down) * y).sum()
    torch.testing.assert_close((x * sparse_conv(y, weight.transpose(1, 2), up)).sum(), forward)


@pytest.mark.parametrize(("extent", "kept"), [(8, 8), (7, 6)])
def test_boundary_rule_of_spconv(extent: int, kept: int) -> None:
    coords = torch.tensor([[0, i, 0, 0] for i in range(extent)])
    ceil = kernel_map(coords, 2, 2, mode="strided", spatial_shape=(extent, 2, 2))
    floor = kernel_map(coords, 2, 2, mode="strided", spatial_shape=(extent, 2, 2), boundary="spconv")
    assert ceil.pairs == extent and floor.pairs == kept
    assert torch.equal(floor.in_idx.sort().values, torch.arange(kept, dtype=torch.int32))


def test_events_one_by_one_give_the_same() -> None:
    coords = random_voxels(60, 5)
    spikes = torch.randint(0, 4, (60, 3)).double()
    weight = torch.randn(27, 3, 2, dtype=torch.float64)
    kmap = kernel_map(coords, 3)
    potential = torch.zeros(60, 2, dtype=torch.float64)
    additions = 0
    for k, (first, last) in enumerate(itertools.pairwise(kmap.ptr.tolist())):
        for i, o in zip(kmap.in_idx[first:last].tolist(), kmap.out_idx[first:last].tolist(), strict=True):
            for c in range(3):
                for _ in range(int(spikes[i, c])):
                    potential[o] += weight[k, c]
                    additions += 2
    torch.testing.assert_close(sparse_conv(spikes, weight, kmap), potential, rtol=0, atol=1e-11)
    assert additions == int((kmap.fan_out() * spikes.sum(1)).sum()) * 2


def test_traced_and_compiled_shapes() -> None:
    kmap = kernel_map(random_voxels(50, 5), 3)
    x, weight = torch.randn(50, 3, requires_grad=True), torch.randn(27, 3, 4, requires_grad=True)
    sparse_conv(x, weight, kmap)  # registers
    checked = torch.library.opcheck(
        torch.ops.ranvier.sparse_conv.default,
        (x, weight, kmap.in_idx, kmap.out_idx, kmap.ptr, kmap.n_out, kmap.identity),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    assert set(checked.values()) == {"SUCCESS"}


def test_shapes_are_checked() -> None:
    kmap = kernel_map(random_voxels(50, 5), 3)
    with pytest.raises(ShapeError, match=r"\[50, C\]"):
        sparse_conv(torch.rand(49, 3), torch.rand(27, 3, 4), kmap)
    with pytest.raises(ShapeError, match=r"\[27, 3, C_out\]"):
        sparse_conv(torch.rand(50, 3), torch.rand(8, 3, 4), kmap)
    with pytest.raises(ArgumentError, match="floating"):
        sparse_conv(torch.ones(50, 3, dtype=torch.int64), torch.rand(27, 3, 4), kmap)
