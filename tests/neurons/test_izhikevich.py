from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons import Izhikevich

pytestmark = pytest.mark.usefixtures("plain_torch")


def spike_times(neuron: Izhikevich, current: float, steps: int = 1000) -> Tensor:
    return neuron.double()(torch.full((steps, 1, 1), current, dtype=torch.float64)).flatten().nonzero().flatten()


def test_regular_spiking_cell() -> None:
    times = spike_times(Izhikevich(), 10.0)
    assert times[:5].tolist() == [3, 30, 78, 140, 194] and len(times) == 20


@pytest.mark.parametrize("preset", ["rs", "ib", "fs"])
def test_cells_rest_without_current(preset: str) -> None:
    neuron = Izhikevich(preset).double()
    spikes, state = neuron.scan(torch.zeros(3000, 1, 1, dtype=torch.float64), None, True)
    assert spikes.sum() == 0 and state is not None
    v, u = (t.item() for t in state)  # 0.04 v² + 5 v + 140 = b v at rest, with b = 0.2: v = −70
    assert v == pytest.approx(-70, abs=1e-6) and u == pytest.approx(-14, abs=1e-6)


def test_the_chattering_cell_starts_on_the_other_fixed_point() -> None:
    """0.04 v² + 4.8 v + 140 = 0 at −70 and −50; the second is unstable, and is its c."""
    x = torch.zeros(100, 1, 2, dtype=torch.float64)
    x[0, 0, 1] = -0.1
    _, state = Izhikevich("ch").double().scan(torch.cat([x, torch.zeros(3000, 1, 2, dtype=x.dtype)]), None, True)
    assert state is not None and state[0].flatten().tolist() == pytest.approx([-50, -70], abs=1e-6)


def test_presets_do_what_they_are_named_for() -> None:
    rs, ib, ch, fs = (spike_times(Izhikevich(p), 10.0) for p in ("rs", "ib", "ch", "fs"))
    assert ib.diff()[0] < 10 < rs.diff()[0]  # a burst at the start
    assert (ch.diff() <= 6).sum() > 20 and (ch.diff() > 15).sum() > 5  # bursts all along
    early, late = (part.double().mean().item() for part in fs.diff()[4:].tensor_split(2))
    assert len(fs) > 2 * len(rs) and late == pytest.approx(early, rel=0.1)  # fast, without adaptation


def test_reset_and_single_constants() -> None:
    neuron = Izhikevich(c=-50.0, d=3.0).double()
    x = torch.full((1, 1), 1e4, dtype=torch.float64)
    start = neuron.initial_state(x)
    assert [t.item() for t in start] == [-50, -10]
    s, (v, u) = neuron.step(x, start)
    assert s.item() == 1 and v.item() == -50
    quiet = Izhikevich(c=-50.0, d=0.0).double().step(x, start)[1][1]
    assert (u - quiet).item() == pytest.approx(3)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="unknown Izhikevich preset 'rss'; did you mean 'rs'"):
        Izhikevich("rss")
    with pytest.raises(ArgumentError, match="dt"):
        Izhikevich(dt=0.0)
    with pytest.raises(ArgumentError, match="a must be"):
        Izhikevich(a=float("inf"))
