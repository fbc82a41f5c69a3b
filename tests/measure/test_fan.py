"""The fan map must equal the definition: re-run the op with binarised input and all-ones weights, and sum."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ranvier.measure import count
from ranvier.measure.fan import fan_map


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    dims = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.integers(1, 3))
    per_axis = st.integers(1, 3)
    stride, kernel, dilation = (tuple(draw(per_axis) for _ in range(dims)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [draw(st.integers(max(1, r - 2 * p), max(1, r - 2 * p) + 5)) for r, p in zip(reach, padding, strict=True)]
    if transposed:
        size = [max(s, p + 1) for s, p in zip(size, padding, strict=True)]  # keeps the output from vanishing
        padding = tuple(min(p, (r - 1) // 2) for p, r in zip(padding, reach, strict=True))
    classes = {
        False: (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        True: (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    }
    c_in, c_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    conv = classes[transposed][dims - 1](
        c_in, c_out, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=draw(st.booleans())
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = draw(st.sampled_from(["binary", "ternary", "integer", "real"]))
    x = torch.randn(2, c_in, *size, generator=generator)
    x = {"binary": (x > 0.5).float(), "ternary": x.clamp(-1, 1).trunc(), "integer": x.abs().round(), "real": x}[values]
    return conv, x


def rerun(conv: nn.Module, x: Tensor) -> float:
    """Σ of the op on `x` with all-ones weights and no bias."""
    ones = {
        name: torch.ones_like(p) if name == "weight" else torch.zeros_like(p) for name, p in conv.named_parameters()
    }
    with torch.no_grad():
        return float(torch.func.functional_call(conv, ones, (x,)).double().sum())


@given(convolutions())
def test_synaptic_operations_equal_the_definition(case: tuple[nn.Module, Tensor]) -> None:
    conv, x = case
    [row] = count(conv, x, samples=1).rows
    assert row.synops == rerun(conv, (x != 0).float())
    assert row.macs_dense == rerun(conv, torch.ones_like(x))
    assert row.macs_padded >= row.macs_dense
    if row.unrolled is not None:
        assert row.unrolled * row.input.scale == rerun(conv, x.abs())


def test_map_of_a_padded_3x3() -> None:
    fan = fan_map((4, 4), (4, 4), (3, 3), (1, 1), (1, 1), (1, 1))
    assert fan.tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]


def test_central_and_corner_spike() -> None:
    conv = nn.Conv2d(2, 5, 3, padding=1)
    for place, touched in (((2, 2), 9), ((0, 0), 4), ((4, 0), 4), ((0, 2), 6)):
        x = torch.zeros(1, 2, 5, 5)
        x[0, 1][place] = 1
        [row] = count(conv, x).rows
        assert (row.synops, row.input.nonzero, row.input_class) == (touched * 5, 1, "binary")


def test_ones_cost_the_dense_op_and_zeros_nothing() -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    [ones] = count(conv, torch.ones(2, 3, 9, 9)).rows
    [zeros] = count(conv, torch.zeros(2, 3, 9, 9)).rows
    assert ones.synops == ones.macs_dense == zeros.macs_dense
    assert zeros.synops == 0 and zeros.density == 0
    assert ones.macs_padded == 5 * 5 * 4 * 3 * 9


def test_padding_modes_and_same_padding_count_what_is_read() -> None:
    x = torch.ones(1, 1, 4, 4)
    [circular] = count(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), x).rows
    assert circular.synops == 16 * 9
    [same] = count(nn.Conv2d(1, 1, 3, padding="same"), x).rows
    assert same.synops == 4 * 9 + 8 * 6 + 4 * 4
