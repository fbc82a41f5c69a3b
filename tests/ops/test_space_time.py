from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.space_time import SpaceTimeSynapses, deliveries, operations, scatter_events, space_time_convolve

SHAPE = (3, 2, 4, 5, 3)  # C, P, K, KH, KW


def sparse_kernel(dtype: torch.dtype = torch.float64) -> Tensor:
    kernel = torch.randn(SHAPE, dtype=dtype)
    return kernel * (torch.rand(SHAPE) < 0.3)


def events(steps: int = 9, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(steps, 2, 2, 6, 7) < 0.2).to(dtype)


def explicit(x: Tensor, kernel: Tensor) -> Tensor:
    """Equation 1, number by number."""
    C, _, K, KH, KW = kernel.shape
    T, B, _, H, W = x.shape
    y = x.new_zeros((T, B, C, H, W))
    where = [tuple(index) for index in x.nonzero().tolist()]
    for (t, b, p, r, s), (c, n, i, j) in itertools.product(where, itertools.product(*map(range, (C, K, KH, KW)))):
        at = (t + K - 1 - n, r - i + KH // 2, s - j + KW // 2)
        if at[0] < T and 0 <= at[1] < H and 0 <= at[2] < W:
            y[at[0], b, c, at[1], at[2]] += kernel[c, p, n, i, j] * x[t, b, p, r, s]
    return y


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_convolution_scatter_ring_and_queue_are_one_sum(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, kernel = events(dtype=dtype), sparse_kernel(dtype)
    y = explicit(x, kernel)
    close = {"rtol": 0, "atol": tolerance}
    torch.testing.assert_close(space_time_convolve(x, kernel), y, **close)
    table = SpaceTimeSynapses.from_dense(kernel)
    torch.testing.assert_close(scatter_events(x, table)[0], y, **close)
    pending, steps = None, []
    for frame in x:  # a ring of future frames, step by step
        out, pending = scatter_events(frame[None], table, pending)
        steps.append(out)
    torch.testing.assert_close(torch.cat(steps), y, **close)
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    torch.testing.assert_close(scatter_events(x, table)[0], y, **close)
    for b in range(2):  # the queue: every delivery on its own, in the order of time
        place = x[:, b].nonzero()
        t, address, weight = deliveries(place[:, 0], place[:, 1:], table, (6, 7))
        assert bool((t.diff() >= 0).all())
        queue = torch.zeros(9 + 3, 3, 6, 7, dtype=dtype)
        queue.index_put_((t, *address.unbind(1)), weight, accumulate=True)
        torch.testing.assert_close(queue[:9], y[:, b], **close)


def test_chunks_of_the_convolution_with_their_history() -> None:
    x, kernel = events(), sparse_kernel()
    whole = space_time_convolve(x, kernel)
    before = torch.cat([x.new_zeros(3, *x.shape[1:]), x])
    parts = [space_time_convolve(x[a:b], kernel, before[a : a + 3]) for a, b in ((0, 1), (1, 6), (6, 9))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


def test_causal_and_the_same_everywhere() -> None:
    x, kernel = torch.zeros(12, 1, 2, 13, 11, dtype=torch.float64), sparse_kernel()
    x[:5, :, :, 4:7, 4:6] = (torch.rand(5, 1, 2, 3, 2) < 0.5).double()
    y = space_time_convolve(x, kernel)
    changed = x.clone()
    changed[4] = 1 - changed[4]
    assert torch.equal(space_time_convolve(changed, kernel)[:4], y[:4])
    later = x.roll(3, 0)
    torch.testing.assert_close(space_time_convolve(later, kernel)[3:], y[:-3], rtol=0, atol=1e-14)
    moved = x.roll((2, 1), (3, 4))
    torch.testing.assert_close(space_time_convolve(moved, kernel), y.roll((2, 1), (3, 4)), rtol=0, atol=1e-14)


def test_the_rolled_form_of_the_original_is_causal_after_half_a_kernel() -> None:
    kernel = torch.randn(3, 2, 5, 3, 3, dtype=torch.float64)
    x = events(20)
    movie = x.permute(1, 2, 0, 3, 4)
    rolled = torch.nn.functional.conv3d(movie, kernel, padding=(2, 1, 1)).roll(2, 2).permute(2, 0, 1, 3, 4)
    torch.testing.assert_close(rolled[2:], space_time_convolve(x, kernel)[2:], rtol=0, atol=1e-13)
    assert not torch.allclose(rolled[:2], space_time_convolve(x, kernel)[:2])


def test_a_motif_is_found_by_the_neuron_with_its_delays() -> None:
    times = [0, 1, 4, 9, 11]  # a Golomb ruler: no two differences are equal
    reach = 11
    kernel = torch.zeros(1, 5, reach + 1, 1, 1, dtype=torch.float64)
    x = torch.zeros(40, 1, 5, 1, 1, dtype=torch.float64)
    onset = 7
    for i, t in enumerate(times):
        kernel[0, i, t] = 1  # tap t carries the delay reach − t: all arrive at onset + reach
        x[onset + t, 0, i] = 1
    y = space_time_convolve(x, kernel).flatten()
    assert y[onset + reach] == len(times) and y.argmax() == onset + reach
    y[onset + reach] = 0
    assert y.max() <= 1


def test_table_and_dense_kernel_are_each_other() -> None:
    kernel = torch.randn(SHAPE)
    for largest in (None, 0, 1, 17, kernel.numel()):
        table = SpaceTimeSynapses.from_dense(kernel, largest)
        dense = table.to_dense()
        count = kernel.numel() if largest is None else largest
        assert len(table) == count == int(dense.count_nonzero())
        kept = kernel.abs().flatten().sort(descending=True).values[:count]
        assert torch.equal(dense.abs().flatten().sort(descending=True).values[:count], kept)
        assert torch.equal(dense[dense != 0], kernel[dense != 0])
        assert int(table.fan_out.sum()) == count
    x = events(dtype=torch.float32)
    table = SpaceTimeSynapses.from_dense(kernel, 40)
    torch.testing.assert_close(scatter_events(x, table)[0], space_time_convolve(x, table.to_dense()))


def test_operations_are_what_the_engine_does() -> None:
    x, table = events(), SpaceTimeSynapses.from_dense(sparse_kernel())
    # every delivery on the sensor and in time, one by one
    brute = 0
    for b in range(2):
        place = x[:, b].nonzero()
        t, _, _ = deliveries(place[:, 0], place[:, 1:], table, (6, 7))
        brute += int((t < 9).sum())
    assert operations(x, table) == brute
    inner = torch.zeros(9, 1, 2, 15, 15)
    inner[2, 0, 1, 7, 7] = inner[3, 0, 0, 7, 8] = 1  # far from all edges: events times fan-out
    assert operations(inner, table) == int(table.fan_out.sum())


def test_gradients() -> None:
    x = events(3)[:, :1, :, :4, :3].requires_grad_()
    kernel = torch.randn(2, 2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(space_time_convolve, (x, kernel))


def test_real_valued_times() -> None:
    table = SpaceTimeSynapses.from_dense(torch.tensor([0.5, 2.0]).view(1, 1, 2, 1, 1))
    t, address, weight = deliveries(torch.tensor([0.25, 1.0]), torch.tensor([[0, 1, 1], [0, 0, 0]]), table, (2, 2))
    assert t.tolist() == [0.25, 1.0, 1.25, 2.0] and weight.tolist() == [2.0, 2.0, 0.5, 0.5]
    assert address.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_empty_streams() -> None:
    table = SpaceTimeSynapses.from_dense(sparse_kernel())
    t, address, weight = deliveries(torch.zeros(0), torch.zeros(0, 3, dtype=torch.int64), table, (4, 4))
    assert t.shape == (0,) and address.shape == (0, 3) and weight.shape == (0,)
    y, pending = scatter_events(torch.zeros(5, 1, 2, 4, 4), table)
    assert not y.any() and pending.shape == (3, 1, 3, 4, 4)
    assert scatter_events(torch.zeros(0, 1, 2, 4, 4), table)[0].shape == (0, 1, 3, 4, 4)
    assert operations(torch.zeros(5, 1, 2, 4, 4), table) == 0


def test_bad_input() -> None:
    table = SpaceTimeSynapses.from_dense(sparse_kernel())
    place = torch.zeros(2, 3, dtype=torch.int64)
    for t, said in (
        ([2.0, 1.0], "in the order of time"),
        ([-1.0, 0.0], "not negative"),
        ([0.0, float("inf")], "finite"),
    ):
        with pytest.raises(ArgumentError, match=said):
            deliveries(torch.tensor(t), place, table, (4, 4))
    with pytest.raises(ArgumentError, match=r"polarities must lie in 0 \.\. 1"):
        deliveries(torch.zeros(2), place + 2, table, (4, 4))
    with pytest.raises(ShapeError, match=r"place \[N, 3\]"):
        deliveries(torch.zeros(2), place[:, :2], table, (4, 4))
    with pytest.raises(ShapeError, match=r"\[T, B, 2, H, W\]"):
        scatter_events(torch.zeros(3, 1, 1, 4, 4), table)
    with pytest.raises(ShapeError, match="pending must be"):
        scatter_events(torch.zeros(3, 1, 2, 4, 4), table, torch.zeros(2, 1, 3, 4, 4))
    with pytest.raises(ShapeError, match="odd sides"):
        space_time_convolve(events(), torch.zeros(1, 2, 3, 2, 3, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="from 0 to 360"):
        SpaceTimeSynapses.from_dense(torch.randn(SHAPE), 361)
