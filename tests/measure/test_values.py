from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.measure.values import ValueSet


def judge(*batches: list[float] | torch.Tensor, max_count: int = 64):
    values = ValueSet(max_count)
    for batch in batches:
        values.add(torch.as_tensor(batch))
    return values.judge()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], ("binary", 1.0, 1)),
        ([1.0, 1.0], ("binary", 1.0, 1)),
        ([0.0, 1.0, 0.0], ("binary", 1.0, 1)),
        ([0.0, -1.0], ("ternary", 1.0, 1)),
        ([1.0, -1.0, 0.0], ("ternary", 1.0, 1)),
        ([0.0, 1.0, 2.0], ("integer", 1.0, 2)),
        ([0.0, 3.0], ("integer", 1.0, 3)),
        ([-2.0, 1.0], ("integer", 1.0, 2)),
        ([0.0, 0.25, 1.0], ("integer", 0.25, 4)),
        ([0.5, 0.75], ("integer", 0.25, 3)),
        ([0.0, 0.25], ("integer", 0.25, 1)),
        ([0.0, 1000.0, 1.0], ("integer", 1.0, 1000)),
        ([0.0, 0.5, 1000.0], ("real", 1.0, 0)),
        ([0.0, 0.1, 0.3141, 0.27183], ("real", 1.0, 0)),
        ([float("nan"), 1.0], ("real", 1.0, 0)),
        ([float("inf"), 1.0], ("real", 1.0, 0)),
    ],
)
def test_class_of_values(values: list[float], expected: tuple[str, float, int]) -> None:
    found = judge(values)
    assert (found.input_class, found.max_count) == (expected[0], expected[2])
    assert found.scale == pytest.approx(expected[1])


def test_class_is_of_the_whole_run() -> None:
    assert judge([0.0, 1.0], [0.0, 2.0]).input_class == "integer"
    assert judge([0.5], [0.75, 0.0]).scale == pytest.approx(0.25)
    assert judge([0.0, 1.0], [0.1234, 0.777]).input_class == "real"
    assert judge(torch.rand(100_000), [1.0]).input_class == "real"


def test_one_real_value_in_many_spikes_is_found() -> None:
    x = torch.zeros(100_001)
    x[::3] = 1
    x[50_000] = 0.7310585
    x[50_001] = 0.1234567
    assert judge(x).input_class == "real"


@given(st.integers(1, 16), st.sampled_from([1.0, 0.5, 0.2, 1 / 3, 0.125, 0.3, 1 / 7]), st.integers(0, 2**31))
def test_scaled_counts_are_recognised(levels: int, scale: float, seed: int) -> None:
    counts = torch.randint(0, levels + 1, (500,), generator=torch.Generator().manual_seed(seed))
    x = counts.float() * scale
    found = judge(x)
    expected = int(counts.max())
    if scale == 1.0 and expected <= 1:
        assert found.input_class == "binary"
    elif int(counts[counts > 0].min()) == 1:
        assert (found.input_class, found.max_count) == ("integer", expected)


def test_pixels_are_real_and_the_limit_moves_it() -> None:
    pixels = torch.arange(256).float() / 255
    assert judge(pixels).input_class == "real"
    assert judge(pixels, max_count=255).input_class == "integer"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_dtypes(dtype: torch.dtype) -> None:
    assert judge(torch.tensor([0, 1, 1], dtype=dtype)).input_class == "binary"
