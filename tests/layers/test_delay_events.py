"""Synapse tables and the event queue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers import DelayLinear, EventQueue, SynapseTable
from ranvier.ops.delay import scatter


def table(**changes: object) -> SynapseTable:
    columns = {
        "pre": torch.tensor([0, 0, 1]), "post": torch.tensor([1, 0, 0]), "delay": torch.tensor([2, 0, 5]),
        "weight": torch.tensor([1.0, 2.0, -3.0]),
    }  # fmt: skip
    return SynapseTable(**{**columns, **changes})  # pyright: ignore[reportArgumentType]


@given(outputs=st.integers(1, 4), inputs=st.integers(1, 4), taps=st.integers(1, 6), zeros=st.floats(0, 1))
def test_dense_and_back(outputs: int, inputs: int, taps: int, zeros: float) -> None:
    kernel = torch.randn(outputs, inputs, taps) * (torch.rand(outputs, inputs, taps) >= zeros)
    synapses = SynapseTable.from_dense(kernel)
    assert torch.equal(synapses.to_dense(), kernel) and len(synapses) == int(kernel.count_nonzero())
    x = (torch.rand(9, 2, inputs) < 0.5).float()
    y, _ = scatter(x, None, synapses.sorted_by_input())
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (taps - 1, 0))
    wanted = torch.nn.functional.conv1d(padded, kernel).permute(2, 0, 1)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


def test_pruning_keeps_the_largest() -> None:
    kernel = torch.arange(-12.0, 12.0).view(2, 3, 4)
    assert len(SynapseTable.from_dense(kernel, threshold=9.5)) == 5
    few = SynapseTable.from_dense(kernel, topk=3)
    assert sorted(few.weight.tolist()) == [-12, -11, 11] or sorted(few.weight.abs().tolist()) == [11, 11, 12]


def test_from_a_layer_is_its_kernel() -> None:
    layer = DelayLinear(6, 4, 9, kernel_count=2, groups=2).eval()
    dense = SynapseTable.from_module(layer).to_dense()
    kernel = layer.kernel().detach()
    assert torch.allclose(dense[:2, :3], kernel[:2]) and torch.allclose(dense[2:, 3:], kernel[2:])
    assert dense[:2, 3:].abs().sum() == 0 and dense.shape == (4, 6, 10)


def test_deliveries_in_real_time() -> None:
    queue = EventQueue(table(delay=torch.tensor([2.25, 0.0, 5.5])))
    queue.push([0.5, 1.0, 1.0], [0, 1, 0], [1.0, 2.0, 1.0])
    assert len(queue) == 5 and queue.operations == 5
    times, to, values = queue.pop(3.0)
    assert times.tolist() == [0.5, 1.0, 2.75] and to.tolist() == [0, 0, 1] and values.tolist() == [2, 2, 1]
    queue.push([3.0], [1])
    times, to, values = queue.pop(float("inf"))
    assert times.tolist() == [3.25, 6.5, 8.5] and values.tolist() == [1, -6, -3] and len(queue) == 0


@given(cuts=st.sets(st.integers(1, 29)))
def test_any_portions_deliver_the_same(cuts: set[int]) -> None:
    layer = DelayLinear(6, 4, 9).double().eval()
    synapses = SynapseTable.from_module(layer)
    x = (torch.rand(30, 6) < 0.2).double()
    whole = EventQueue(synapses).run(x)
    queue = EventQueue(synapses)
    parts = torch.cat([queue.run(c) for c in x.tensor_split(sorted(cuts))])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-13)


def test_nothing_goes_in() -> None:
    queue = EventQueue(table())
    queue.push([], [])
    times, to, values = queue.pop(5.0)
    assert len(times) == len(to) == len(values) == 0
    assert torch.equal(EventQueue(table()).run(torch.zeros(4, 2)), torch.zeros(4, 2))
    empty = SynapseTable(*(torch.zeros(0, dtype=torch.long) for _ in range(3)), torch.zeros(0), 2, 3)
    assert torch.equal(EventQueue(empty).run(torch.ones(4, 2)), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("times", "neurons", "message"),
    [
        ([-1.0], [0], ">= 0"),
        ([2.0, 1.0], [0, 0], "must not decrease: spike 1 is at 1, the one before at 2"),
        ([float("nan")], [0], "finite"),
        ([float("inf")], [0], "finite"),
        ([1.0], [2], r"0 \.\. 1, got 2"),
        ([1.0], [-1], r"0 \.\. 1, got -1"),
        ([1.0], [0.5], "integers"),
    ],
)
def test_broken_streams(times: list[float], neurons: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        EventQueue(table()).push(times, np.array(neurons))


def test_late_and_misshapen_spikes() -> None:
    queue = EventQueue(table())
    queue.pop(10.0)
    with pytest.raises(DataError, match="comes too late"):
        queue.push([9.0], [0])
    with pytest.raises(ShapeError, match="one length"):
        queue.push([11.0, 12.0], [0])
    with pytest.raises(ShapeError, match="like times"):
        queue.push([11.0, 12.0], [0, 1], [1.0])
    with pytest.raises(ShapeError, match=r"\[T, 2\]"):
        queue.run(torch.ones(3, 5))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"delay": torch.tensor([0, -1, 2])}, ArgumentError, "delays must be finite"),
        ({"delay": torch.tensor([0.0, float("nan"), 2.0])}, ArgumentError, "delays must be finite"),
        ({"max_delay": 4}, ArgumentError, r"lie in 0 \.\. 4, got 0 \.\. 5"),
        ({"outputs": 1}, ArgumentError, r"post must lie in 0 \.\. 0, got 1"),
        ({"pre": torch.tensor([0, -2, 0])}, ArgumentError, "pre must lie in"),
        ({"pre": torch.tensor([0.0, 1.0, 0.0])}, ArgumentError, "whole neuron numbers"),
        ({"weight": torch.ones(2)}, ShapeError, "one length"),
    ],
)
def test_broken_tables(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        table(**changes)


def test_real_delays_have_no_buffer() -> None:
    real = table(delay=torch.tensor([0.5, 1.0, 2.0]))
    with pytest.raises(ArgumentError, match="only an event queue"):
        real.to_dense()
    with pytest.raises(ArgumentError, match="only an event queue"):
        real.sorted_by_input()
