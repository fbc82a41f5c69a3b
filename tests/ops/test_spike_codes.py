from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranvier.ops import spike_codes
from ranvier.ops.spike_codes import encode

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def values(count: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    table = torch.linspace(-1, 2, count) if count > 3 else torch.tensor([0.0, 1.0, -1.0])[:count]
    return table.to(dtype)[torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (3, 2), (5, 4), (14, 4)])
def test_few_values_come_back_from_few_bits(dtype: torch.dtype, count: int, bits: int) -> None:
    for shape in ((1024,), (5, 41, 7), (3, 1, 700)):
        x = values(count, shape, dtype)
        codes = encode(x)
        assert codes is not None and codes.bits == bits
        assert codes.codes.numel() == -(-x.numel() * bits // 8) and codes.nbytes <= x.numel() * bits / 8 + 130
        back = codes.decode()
        assert torch.equal(back, x) and back.dtype == dtype and back.stride() == x.stride()


@given(st.integers(1024, 5000), st.sampled_from([2, 3, 9]), st.integers(0, 99))
def test_any_size(size: int, count: int, seed: int) -> None:
    x = values(count, (size,), torch.float32, seed)
    codes = encode(x)
    assert codes is not None and torch.equal(codes.decode(), x)


def test_values_that_the_sample_misses_are_found() -> None:
    x = torch.zeros(100_000)
    for i, v in enumerate((0.5, -2.0, float("nan"), 3.0)):
        x[1001 + 10_007 * i] = v
    codes = encode(x)
    assert codes is not None and codes.bits == 4
    torch.testing.assert_close(codes.decode(), x, rtol=0, atol=0, equal_nan=True)
    x[1:40_000:2_000] = torch.arange(20) + 5.0
    assert encode(x) is None


def test_layouts() -> None:
    x = values(2, (4, 8, 6, 10), torch.float32)
    for y in (x.to(memory_format=torch.channels_last), x.transpose(1, 3)):
        codes = encode(y)
        assert codes is not None
        assert torch.equal(codes.decode(), y) and codes.decode().stride() == y.stride()
    assert encode(x[:, ::2]) is None


@pytest.mark.parametrize("x", [torch.randn(2000), torch.zeros(2000, dtype=torch.int32), torch.zeros(100)])
def test_what_stays_as_it_is(x: Tensor) -> None:
    assert encode(x) is None


def test_threads_share_the_work() -> None:
    x = values(2, (3_000_001,), torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        codes = encode(x)
        assert codes is not None and torch.equal(codes.decode(), x)
    finally:
        torch.set_num_threads(threads)


def test_the_form_of_other_devices_is_that_of_the_cpu() -> None:
    x = values(2, (1501,), torch.float32)
    codes = encode(x)
    plain = spike_codes._bits(x)
    assert codes is not None and plain is not None and torch.equal(plain, codes.codes)
    assert spike_codes._bits(x * 2) is None
