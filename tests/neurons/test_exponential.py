from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import EIF, LIF

pytestmark = pytest.mark.usefixtures("plain_torch")


def test_without_a_resting_point_it_fires_by_itself_every_eighth_step() -> None:
    neuron = EIF(delta=1.0, allow_self_firing=True)  # the constants of BrainCog and STEP
    assert neuron(torch.zeros(40, 1, 1)).flatten().nonzero().flatten().tolist() == [7, 15, 23, 31, 39]


def test_by_default_it_rests() -> None:
    spikes, state = EIF().double().scan(torch.zeros(1000, 1, 1, dtype=torch.float64), None, True)
    assert spikes.sum() == 0 and state is not None
    rest = state[0].item()
    assert rest == pytest.approx(0.003732, abs=5e-7)
    assert rest == pytest.approx(0.2 * math.exp((rest - 0.8) / 0.2), abs=1e-14)


@pytest.mark.parametrize(("delta", "rests"), [(0.2, True), (0.79, True), (0.8, False), (1.0, False)])
def test_the_drift_vanishes_somewhere_exactly_when_delta_is_below_the_rheobase(delta: float, rests: bool) -> None:
    v = torch.linspace(-1, 3, 400_001, dtype=torch.float64)
    drift = delta * torch.exp((v - 0.8) / delta) - v
    assert drift.min().item() == pytest.approx(delta - 0.8, abs=1e-9)
    assert v[drift.argmin()].item() == pytest.approx(0.8, abs=1e-4)
    if rests:
        EIF(delta=delta)
    else:
        with pytest.raises(ArgumentError, match=r"no resting point.*allow_self_firing"):
            EIF(delta=delta)


def test_a_sharp_onset_far_away_leaves_a_lif() -> None:
    x = torch.randn(50, 3, 4, dtype=torch.float64) * 2
    sharp = EIF(delta=1e-3, rheobase=9.0, v_reset=0.0).double()
    assert torch.equal(sharp(x), LIF().double()(x))


def test_a_soft_reset_cannot_overflow() -> None:
    spikes, state = EIF(delta=0.01, reset="soft").scan(torch.full((20, 1, 1), 1e4), None, True)
    assert spikes.sum() == 20 and state is not None and state[0].isfinite().all()


@pytest.mark.parametrize("bad", [{"delta": 0.0}, {"rheobase": -1.0}, {"tau": 0.5}, {"v_reset": math.nan}])
def test_bad_arguments(bad: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        EIF(**bad)  # pyright: ignore[reportArgumentType]
