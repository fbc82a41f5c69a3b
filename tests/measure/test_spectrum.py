from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ranvier.errors import ArgumentError, ShapeError
from ranvier.measure.spectrum import (
    cutoff,
    high_frequency_ratio,
    linear_response,
    membrane,
    relative_log_amplitude,
    response,
)  # fmt: skip
from ranvier.neurons import IF, KLIF, LIF, PLIF, CubaLIF, SlidingPSN

FREQUENCIES = torch.linspace(0, 0.5, 65, dtype=torch.float64)


@pytest.mark.parametrize("tau", [4 / 3, 2.0, 10.0])
def test_impulse_response_of_the_leaky_membrane(tau: float) -> None:
    impulse = torch.zeros(64, 1, dtype=torch.float64)
    impulse[0] = 1
    beta = 1 - float(torch.tensor(1 / tau))
    trace = membrane(LIF(tau=tau, threshold=1e9).double())(impulse).flatten()
    want = (1 - beta) * beta ** torch.arange(64, dtype=torch.float64)
    torch.testing.assert_close(trace, want, atol=1e-7 if tau != 2 else 1e-12, rtol=0)
    spectrum = torch.fft.rfft(membrane(LIF(tau=2.0, threshold=1e9).double())(impulse).flatten())
    torch.testing.assert_close(spectrum, linear_response(LIF(), torch.fft.rfftfreq(64).double()))


@pytest.mark.parametrize(
    ("beta", "top", "corner"), [(0.25, 0.600, 0.2699), (0.5, 0.3333, 0.1150), (0.9, 0.0526, 0.0168)]
)
def test_printed_values_of_the_low_pass(beta: float, top: float, corner: float) -> None:
    neuron = LIF(tau=1 / (1 - beta))
    assert linear_response(neuron, 0.0).abs().item() == pytest.approx(1)
    assert linear_response(neuron, 0.5).abs().item() == pytest.approx(top, abs=5e-5)
    assert linear_response(neuron, 0.5).abs().item() == pytest.approx((1 - beta) / (1 + beta), abs=1e-6)
    found = cutoff(beta)
    assert found == pytest.approx(corner, abs=5e-5)
    assert found is not None
    assert linear_response(neuron, found).abs().item() ** 2 == pytest.approx(0.5, abs=1e-6)


def test_the_cutoff_exists_from_3_minus_2_root_2() -> None:
    edge = 3 - 2 * math.sqrt(2)
    assert cutoff(edge - 1e-6) is None
    found = cutoff(edge + 1e-6)
    assert found is not None and found == pytest.approx(0.5, abs=1e-2)
    with pytest.raises(ArgumentError, match="beta"):
        cutoff(1.0)


def test_forms_of_the_charge() -> None:
    f = FREQUENCIES[1:]
    z = torch.exp(-2j * math.pi * f)
    torch.testing.assert_close(linear_response(IF(), f), 1 / (1 - z))
    assert linear_response(IF(), 0.0).abs().isinf()
    torch.testing.assert_close(linear_response(LIF(tau=4.0, decay_input=False), f), 1 / (1 - 0.75 * z))
    torch.testing.assert_close(linear_response(PLIF(), f), linear_response(LIF(), f))
    a, b = math.exp(-1 / 3), math.exp(-1 / 7)
    torch.testing.assert_close(linear_response(CubaLIF(3.0, 7.0), f), 1 / ((1 - a * z) * (1 - b * z)))
    torch.testing.assert_close(linear_response(SlidingPSN(2), f), 1 + 0.5 * z)
    with pytest.raises(ArgumentError, match="KLIF has no linear transfer function"):
        linear_response(KLIF(), f)
    with pytest.raises(ArgumentError, match="per channel"):
        linear_response(LIF(tau=torch.tensor([2.0, 3.0])), f)


@pytest.mark.parametrize("neuron", [LIF(threshold=1e9), CubaLIF(2.0, 3.0, threshold=1e9)], ids=["lif", "cuba"])
def test_white_noise_recovers_the_transfer_function(neuron: LIF | CubaLIF) -> None:
    found = response(membrane(neuron.double(), len(neuron.state_names) - 1))
    inside = slice(2, None)  # next to 0 the removed mean shows
    want = linear_response(neuron, found.frequency[inside])
    error = (found.gain[inside].abs() ** 2 / want.abs() ** 2 - 1).abs().mean().item()
    assert error <= 0.01
    assert found.coherence[inside].min() > 0.98


def test_a_spike_train_is_not_a_linear_filter_and_a_delay_is() -> None:
    delayed = response(lambda x: torch.cat([x[:1], x[:-1]]), steps=2048, sequences=8)
    torch.testing.assert_close(delayed.gain[2:].abs(), torch.ones(127, dtype=torch.float64), atol=0.02, rtol=0)
    slope = -2 * math.pi * delayed.frequency[2:30]
    torch.testing.assert_close(delayed.gain[2:30].angle(), slope, atol=0.02, rtol=0)
    spikes = response(LIF().double(), steps=2048, sequences=16, mean=1.0)
    assert 0.05 < spikes.coherence[2:].mean() < 0.9
    assert response(torch.zeros_like, steps=1024, sequences=2).coherence.abs().max() == 0


def test_a_smaller_tau_keeps_more_of_the_high_frequencies() -> None:
    """The ratio of high to low, from white noise to spikes: the paper's claim for the neuron, in time."""
    kept = []
    for tau in (1.1, 2.0, 4.0):
        found = response(LIF(tau=tau).double(), steps=2048, sequences=32, mean=1.0)
        kept.append((found.gain[-16:].abs().mean() / found.gain[2:18].abs().mean()).item())
    assert kept[0] > kept[1] > kept[2]


def test_bad_noise() -> None:
    with pytest.raises(ArgumentError, match="three segments"):
        response(LIF(), steps=100, segment=64)
    with pytest.raises(ArgumentError, match="std"):
        response(LIF(), std=0.0)
    with pytest.raises(ShapeError, match=r"must map \[T, B\]"):
        response(lambda x: x[:5])


def averaged(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(image[None, None], (1, 1, 1, 1), mode="circular"), 3, 1)[0, 0]


def test_an_impulse_is_white_and_an_average_has_its_closed_form() -> None:
    impulse = torch.zeros(24, 24, dtype=torch.float64)
    impulse[3, 5] = 1
    for along in ("radial", "axis", "diagonal"):
        assert relative_log_amplitude(impulse, along).value.abs().max() < 1e-12
    smooth = averaged(impulse)
    omega = math.pi * relative_log_amplitude(smooth, "axis").frequency
    transfer = (1 + 2 * omega.cos()).abs() / 3  # of a 3×3 average along an axis: zero at ω = 2π/3
    for along, power in (("axis", 1), ("diagonal", 2)):
        value = relative_log_amplitude(smooth, along).value  # pyright: ignore[reportArgumentType]
        zero = transfer < 1e-9
        assert zero.sum() == 1 and value[zero].item() < -20
        torch.testing.assert_close(value[~zero], power * transfer[~zero].log(), atol=1e-9, rtol=0)


def test_a_checkerboard_is_all_at_the_corner() -> None:
    i, j = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = (1 - 2 * ((i + j) % 2)).double()
    found = relative_log_amplitude(board + 1)  # the mean is as large as the board
    assert found.frequency[-1].item() == pytest.approx(math.sqrt(2), rel=0.3)
    assert found.value[-1] > found.value[1:-1].max()
    assert relative_log_amplitude(board + 1, "diagonal").value[-1].item() == pytest.approx(0)
    assert high_frequency_ratio(board) == 1
    torch.testing.assert_close(averaged(board), board / 9)
    assert high_frequency_ratio(averaged(board)) == pytest.approx(1)


def test_averaging_removes_what_max_pooling_keeps() -> None:
    x = torch.randn(16, 4, 16, 16)
    ratios = [high_frequency_ratio(f(x, 3, 1, 1)) for f in (F.avg_pool2d, F.max_pool2d)]
    assert ratios[0] < ratios[1] < high_frequency_ratio(x)
    average, maximum = (relative_log_amplitude(f(x, 3, 1, 1)).value for f in (F.avg_pool2d, F.max_pool2d))
    assert average[0] == maximum[0] == 0
    assert high_frequency_ratio(torch.ones(2, 8, 8)) == 0


def test_scale_does_not_matter_and_rings_cover_all() -> None:
    x = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    one, two = relative_log_amplitude(x), relative_log_amplitude(7 * x)
    torch.testing.assert_close(one.value, two.value)
    assert len(one.frequency) == len(one.value) == 7 and one.frequency.diff().min() > 0
    assert relative_log_amplitude(x, bins=3).value.shape == (4,)


def test_bad_feature_maps() -> None:
    with pytest.raises(ShapeError, match=r"\[..., H, W\]"):
        relative_log_amplitude(torch.ones(5))
    with pytest.raises(ShapeError, match="square"):
        relative_log_amplitude(torch.ones(4, 6), "diagonal")
    with pytest.raises(ArgumentError, match="along"):
        relative_log_amplitude(torch.ones(4, 4), "sideways")  # pyright: ignore
    with pytest.raises(ArgumentError, match="bins"):
        relative_log_amplitude(torch.ones(4, 4), bins=0)
    with pytest.raises(ArgumentError, match="not finite"):
        high_frequency_ratio(torch.full((4, 4), math.nan))
    with pytest.raises(ArgumentError, match="cutoff"):
        high_frequency_ratio(torch.ones(4, 4), 0.0)
