"""Expansion of counts, and arithmetic on counts: equal to the integers, on zeros and ones only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer import Counts, bin_sum, expand
from ranvier.infer.counts import plain


def counts(*shape: int, levels: int = 4) -> Tensor:
    return torch.randint(0, levels + 1, shape).double()


@given(levels=st.integers(1, 6), steps=st.integers(1, 3), seed=st.integers(0, 99))
def test_expansion_is_binary_and_adds_up(levels: int, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    n = counts(steps, 2, 3, levels=levels)
    slots = expand(n, levels)
    assert slots.shape == (steps * levels, 2, 3) and set(slots.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(bin_sum(slots, levels), n)
    burst = slots.unflatten(0, (steps, levels))
    assert (burst[:, :-1] >= burst[:, 1:]).all()  # a burst has no gaps


def test_convolution_distributes_and_its_bias_counts_once() -> None:
    n = counts(2, 3, 4, 6, 6)
    conv = nn.Conv2d(4, 5, 3, padding=1).double()
    slots = expand(n, 4)
    per_slot = F.conv2d(slots.flatten(0, 1), conv.weight, None, padding=1).unflatten(0, (8, 3))
    expected = conv((n / 4).flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(bin_sum(per_slot, 4) / 4 + conv.bias[:, None, None], expected, rtol=0, atol=1e-12)
    with_bias = conv(slots.flatten(0, 1)).unflatten(0, (8, 3))
    torch.testing.assert_close(bin_sum(with_bias, 4) / 4, expected, rtol=0, atol=1e-12)  # a quarter of it in all four


def test_attention_expands_one_operand_at_a_time() -> None:
    q, k, v = (counts(2, 3, 8, 5) for _ in range(3))  # [..., d, N]
    exact = (v @ k.mT) @ q
    kv = sum(v @ (k > d).double().mT for d in range(4))
    assert torch.equal(sum(kv @ (q > d).double() for d in range(4)), exact)
    slotwise = sum(((v > d).double() @ (k > d).double().mT) @ (q > d).double() for d in range(4))
    assert ((slotwise - exact).norm() / exact.norm()) > 0.5  # products do not distribute over slots
    ours = (Counts.of(v, 4) @ Counts.of(k, 4).mT) @ Counts.of(q, 4)
    assert torch.equal(ours, exact)


class Operands(TorchDispatchMode):
    """Notes whether a factor of every product is binary."""

    def __init__(self) -> None:
        super().__init__()
        self.binary: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("convolution", "mm", "bmm", "addmm"):
            tensors = [a for a in args[:3] if isinstance(a, Tensor)]
            self.binary.append(any(set(a.unique().tolist()) <= {0.0, 1.0} for a in tensors))
        return func(*args, **(kwargs or {}))


GRID = (2, 3, 4, 6, 6)
CONV, LINEAR = nn.Conv2d(4, 5, 3, 2, 1).double(), nn.Linear(6, 3).double()
OPS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # the op, and whether the result is counts again
    "view": (lambda x: x.flatten(0, 1).unflatten(0, (2, 3)).view_as(x), True),
    "permute": (lambda x: x.permute(0, 1, 3, 4, 2).transpose(-1, -2).mT.contiguous(), True),
    "index": (lambda x: x[:, 1:, ..., 0], True),
    "max pool": (lambda x: F.max_pool2d(x.flatten(0, 1), 3, 2, 1), True),
    "pool module": (lambda x: nn.MaxPool2d(3, 1, 1)(x.flatten(0, 1)), True),
    "average pool": (lambda x: nn.AvgPool2d(2)(x.flatten(0, 1)), True),
    "ragged average": (lambda x: nn.AvgPool2d(3, 2, 1, count_include_pad=False)(x.flatten(0, 1)), False),
    "padded average": (lambda x: nn.AvgPool2d(3, 2, 1)(x.flatten(0, 1)), False),
    "mean": (lambda x: x.mean((3, 4)), True),
    "sum": (lambda x: x.sum(2, dtype=torch.float64), True),
    "scaled": (lambda x: 3 * x * 0.5 / torch.tensor(2.0, dtype=torch.float64), True),
    "negative": (lambda x: x * -1.0, False),
    "added": (lambda x: x + x, True),
    "added to a membrane": (lambda x: x + 0.3, False),
    "gated": (lambda x: x * x.mean((3, 4), keepdim=True).mul(36.0), True),
    "joined": (lambda x: torch.cat([x, x], 2), True),
    "cast": (lambda x: x.float().double().to(torch.float64), True),
    "conv": (lambda x: CONV(x.flatten(0, 1)), False),
    "linear": (LINEAR, False),
    "linear after a mean": (lambda x: LINEAR(x.mean(3)), False),
    "matmul": (lambda x: x.mT @ x, False),
    "matmul with weights": (lambda x: x @ LINEAR.weight.T, False),
    "weights on the left": (lambda x: LINEAR.weight @ x.mT, False),
    "einsum": (lambda x: torch.einsum("tbchw,cd->tbdhw", x, CONV.weight[:4, :, 0, 0]), False),
    "softmax": (lambda x: x.softmax(-1), False),
    "compare": (lambda x: (x > 0.4).double(), False),
}


@pytest.mark.parametrize("name", OPS)
def test_every_op_gives_what_the_values_give(name: str) -> None:
    op, stays = OPS[name]
    n = counts(*GRID, levels=3)
    expected = op(n * 0.25)
    with Operands() as seen:
        got = op(Counts.of(n, 3, 0.25))
    assert isinstance(got, Counts) == stays
    torch.testing.assert_close(plain(got), expected, rtol=0, atol=1e-12)
    assert all(seen.binary)
    if isinstance(got, Counts):
        assert torch.equal(got.integers, got.integers.round())
        assert got.integers.min() >= 0 and got.integers.max() <= got.levels
        assert torch.equal(torch.stack(got.slots()).sum(0), got.integers)


def test_different_scales_add_when_one_divides_the_other() -> None:
    a, b = Counts.of(counts(2, 3), 4, 0.25), Counts.of(counts(2, 3), 4, 0.5)
    both = a + b
    assert isinstance(both, Counts) and (both.levels, both.scale) == (12, 0.25)
    torch.testing.assert_close(both.value, a.value + b.value)
    assert not isinstance(a + Counts.of(counts(2, 3), 4, 0.3), Counts)


def test_the_complement_of_spikes_are_spikes() -> None:
    s = Counts.of(counts(2, 3, levels=1), 1)
    for made in (1 - s, torch.rsub(s, 1)):
        assert isinstance(made, Counts) and torch.equal(made.value, 1 - s.value)
    assert not isinstance(1 - Counts.of(counts(2, 3), 4), Counts) and not isinstance(s - 1, Counts)


def test_properties_and_silence() -> None:
    s = Counts.of(torch.zeros(2, 4), 4, 0.25)
    assert s.shape == (2, 4) and s.dtype == torch.float32 and s.dim() == 2 and s.device.type == "cpu"
    assert s.slots() == []
    layer = nn.Linear(4, 2)
    torch.testing.assert_close(layer(s), layer.bias.expand(2, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: expand(torch.tensor([0.5]), 2), ArgumentError, "integers from 0 to 2, got 0.5"),
        (lambda: expand(torch.tensor([3.0]), 2), ArgumentError, "got 3"),
        (lambda: expand(torch.tensor([-1.0]), 2), ArgumentError, "got -1"),
        (lambda: expand(torch.tensor(1.0), 2), ShapeError, "time axis"),
        (lambda: expand(torch.ones(2), 0), ArgumentError, "levels must be"),
        (lambda: bin_sum(torch.ones(5, 2), 2), ShapeError, "T·2"),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
