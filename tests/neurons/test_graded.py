from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import IELIF, ILIF, NILIF, SpikeCount

pytestmark = pytest.mark.usefixtures("plain_torch")


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_ni_lif_emits_all_its_levels_and_averages_i_lif(levels: int) -> None:
    x = torch.randn(50, 8, 16, dtype=torch.float64) * 2 * levels
    counts, shares = ILIF(levels=levels).double()(x), NILIF(levels=levels).double()(x)
    assert counts.unique().tolist() == list(range(levels + 1))
    assert shares.unique().tolist() == pytest.approx([n / levels for n in range(levels + 1)])
    torch.testing.assert_close(shares * levels, counts)
    assert (shares * levels).mean().item() == pytest.approx(counts.mean().item())


def test_ni_lif_takes_the_whole_count_off_the_membrane() -> None:
    neuron = NILIF(levels=2).double()
    x = torch.full((1, 1), 4.4, dtype=torch.float64)
    s, (v,) = neuron.step(x, neuron.initial_state(x))
    assert s.item() == 1 and v.item() == pytest.approx(2.2 - 2)


def test_i_lif_with_one_level_fires_at_half_the_threshold() -> None:
    x = torch.randn(60, 3, 4, dtype=torch.float64)
    v, want = torch.zeros_like(x[0]), []
    for x_t in x:
        v = v + (x_t - v) / 2
        s = (v > 0.5).double()
        v = v - s
        want.append(s)
    assert torch.equal(ILIF(levels=1).double()(x), torch.stack(want))


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_ie_lif_is_the_published_staircase(gain: float) -> None:
    x = torch.linspace(-1, 2, 3001, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    y = IELIF(levels=4, gain=gain).double()(x)
    torch.testing.assert_close(y, ((4 * x.detach()).clamp(0, 4) + 0.5).floor() * gain / 4, atol=1e-15, rtol=0)
    (grad,) = torch.autograd.grad(y.sum(), x)
    inside = (x.detach() > 0) & (x.detach() < 1)
    torch.testing.assert_close(grad, gain * inside.double(), atol=1e-12, rtol=0)


def test_ie_lif_with_decay_on_one_step_is_the_memoryless_form() -> None:
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    assert torch.equal(IELIF(decay=0.25).double()(x), IELIF().double()(x))


def test_ie_lif_remembers_what_it_did_not_emit() -> None:
    """h[t] = λ (h[t−1] − s[t−1]) + x[t], n = floor(clamp(D h, 0, D) + ½)."""
    x = torch.randn(20, 2, 3, dtype=torch.float64)
    v, want = torch.zeros_like(x[0]), []
    for x_t in x:
        h = 0.25 * v + x_t
        y = ((4 * h).clamp(0, 4) + 0.5).floor() / 4
        v = h - y
        want.append(y)
    torch.testing.assert_close(IELIF(decay=0.25).double()(x), torch.stack(want))


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="gain"):
        IELIF(gain=0.0)
    with pytest.raises(ArgumentError, match="levels"):
        NILIF(levels=0)
    with pytest.raises(ArgumentError, match="levels"):
        IELIF(levels=0)


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
def test_spike_count_is_a_table(levels: int) -> None:
    x = torch.tensor([
        -3, -0.51, -0.5, -0.01, 0, 0.01, 0.49, 0.5, 0.51, 1, 1.49, 1.5, 2.5, 3.49, 3.5, 3.99, 4, 4.5, 8, 99
    ], dtype=torch.float64)  # fmt: skip
    by_hand = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 4, 4, 4, 5, 8, 99]).clamp(0, levels)
    leaf = x.clone().view(1, -1).requires_grad_()
    y = SpikeCount(levels)(leaf)
    assert torch.equal(y[0], by_hand.double())
    y.sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad[0], ((x > 0) & (x < levels)).double())


def test_spike_count_is_the_sum_of_binary_steps() -> None:
    x = torch.randn(100_000, dtype=torch.float64) * 3
    for levels in (1, 2, 4, 8):
        v, total = x.clone(), torch.zeros_like(x)
        for _ in range(levels):
            spike = (v >= 0.5).double()
            v = v - spike
            total += spike
        assert torch.equal(total, SpikeCount(levels)(x.unsqueeze(0))[0])
