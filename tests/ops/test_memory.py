from __future__ import annotations

import gc

import pytest
import torch

from ranvier.neurons import LIF
from ranvier.ops import memory
from ranvier.ops.memory import LARGE, BufferPool, empty_like


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> BufferPool:
    fresh = BufferPool(most_idle=5 * LARGE)
    monkeypatch.setattr(memory, "POOL", fresh)
    return fresh


def large(multiple: int = 1) -> torch.Tensor:
    return torch.zeros(multiple, LARGE // 4)


def test_memory_returns_when_the_last_view_dies(pool: BufferPool) -> None:
    x = large(2)
    first = empty_like(x)
    address, view = first.data_ptr(), first[1]
    del first
    gc.collect()
    assert pool.idle_bytes == 0, "a view keeps the buffer in use"
    second = empty_like(x)
    assert second.data_ptr() != address
    del view
    gc.collect()
    assert pool.idle_bytes == 2 * LARGE
    assert empty_like(x).data_ptr() == address, "the next request of this size gets it"


def test_idle_memory_is_bounded_and_can_be_let_go(pool: BufferPool) -> None:
    held = [empty_like(large(multiple)) for multiple in (1, 2, 3, 2)]
    held.clear()
    gc.collect()
    assert 0 < pool.idle_bytes <= 5 * LARGE
    pool.clear()
    assert pool.idle_bytes == 0


def test_shape_dtype_and_layout_are_those_of_torch(pool: BufferPool) -> None:
    image = torch.zeros(8, 16, 64, 64).to(memory_format=torch.channels_last)
    for x in (image, image.unflatten(0, (2, 4)), large(), torch.zeros(3, 4), large().t(), large(3)[:, ::2]):
        for dtype in (None, torch.float64, torch.bfloat16):
            ours, theirs = empty_like(x, dtype), torch.empty_like(x, dtype=dtype)
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
    assert empty_like(torch.zeros(4)).numel() == 4 and pool.idle_bytes >= 0


def test_results_in_use_are_never_written_again(pool: BufferPool) -> None:
    neuron = LIF()
    x = torch.randn(64, 16, 512, requires_grad=True)
    kept = [neuron(x) for _ in range(3)]
    copies = [spikes.detach().clone() for spikes in kept]
    for _ in range(4):
        neuron(x * 2).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))
    assert x.grad is not None
    grad = x.grad.clone()
    neuron(x.detach() * 3)
    assert torch.equal(x.grad, grad)


def test_a_training_step_reuses_what_the_last_one_freed(pool: BufferPool) -> None:
    neuron, x = LIF(), torch.randn(64, 16, 512, requires_grad=True)
    for _ in range(3):
        neuron(x).sum().backward()
        x.grad = None
    gc.collect()
    idle = pool.idle_bytes
    assert idle > 0
    for _ in range(3):
        neuron(x).sum().backward()
        x.grad = None
    gc.collect()
    assert pool.idle_bytes == idle
