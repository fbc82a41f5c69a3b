from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons import QCFSIF, QFFSIF

pytestmark = pytest.mark.usefixtures("plain_torch")


def levels_of(a: Tensor, theta: float, levels: int) -> Tensor:
    """The level of the quantised activation: `clip(floor(n a/θ + ½), 0, n)`."""
    return (levels * a / theta + 0.5).floor().clamp(0, levels)


@pytest.mark.parametrize("T", [1, 2, 3, 4, 8, 15])
def test_counts_of_a_constant_input_have_their_closed_form(T: int) -> None:
    theta = 0.75
    current = theta * (2 * torch.rand(1, 20_000, dtype=torch.float64) - 0.5)
    spikes = QCFSIF(theta, scale_output=False).double()(current.expand(T, 1, -1))
    assert torch.equal(spikes.sum(0), levels_of(current, theta, T))


def test_the_mean_output_is_the_activation_and_has_no_bias() -> None:
    theta, L = 2.0, 4
    x = theta * torch.rand(1, 100_000, dtype=torch.float64)
    activation = theta * levels_of(x, theta, L) / L
    for T, rms in ((4, None), (2, 0.177), (8, 0.088)):
        error = QCFSIF(theta).double()(x.expand(T, 1, -1)).mean(0) - activation
        if T == L:
            assert error.abs().max() < 1e-12
        assert abs(error.mean().item()) < 3e-3 * theta
        if rms is not None and T == 2:
            assert error.square().mean().sqrt().item() == pytest.approx(rms * theta, rel=0.02)


@pytest.mark.parametrize("neuron", [QCFSIF(0.5), QFFSIF(3, 0.5)], ids=["qcfs", "qffs"])
def test_charge_is_conserved(neuron: QCFSIF | QFFSIF) -> None:
    x = torch.randn(30, 4, 5, dtype=torch.float64)
    emitted, state = neuron.double().scan(x, None, True)
    assert state is not None
    torch.testing.assert_close(state[0], 0.25 + x.sum(0) - emitted.sum(0), atol=1e-12, rtol=0)


def test_thresholds_are_part_of_the_checkpoint_and_may_be_per_channel() -> None:
    per_channel = QCFSIF(torch.tensor([0.5, 2.0]))
    assert set(per_channel.state_dict()) == set(QCFSIF().state_dict()) == set(QFFSIF().state_dict()) == {"threshold"}
    x = torch.full((4, 1, 2), 0.5)
    assert per_channel(x).mean(0).flatten().tolist() == [0.5, 0.5]  # four spikes of 0.5, one of 2
    start = per_channel.initial_state(x[0])[0]
    assert start.flatten().tolist() == [0.25, 1.0]
    folded = QCFSIF(torch.tensor([0.5, 2.0]), scale_output=False)
    assert folded(x).sum(0).flatten().tolist() == [4, 1]


def test_the_signed_neuron_never_leaves_its_range_and_takes_spikes_back() -> None:
    x = torch.randn(60, 50, 20, dtype=torch.float64)
    spikes = QFFSIF(levels=3).double()(x)
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}
    net = spikes.cumsum(0)
    assert net.min() == 0 and net.max() == 3


def test_two_layers_settle_on_the_quantised_network() -> None:
    """Input for the first n steps only; all neurons are exact at 2n steps, where plain IF neurons are not."""
    n, generator = 3, torch.Generator().manual_seed(0)
    first, second = (torch.randn(64, 64, generator=generator, dtype=torch.float64) / 8 for _ in range(2))
    x = torch.rand(200, 64, generator=generator, dtype=torch.float64)
    a1 = levels_of(x @ first, 1.0, n) / n
    want = levels_of(a1 @ second, 1.0, n)
    shown = torch.zeros(2 * n, 200, 64, dtype=torch.float64)
    shown[:n] = x
    exact = []
    for make in (lambda: QFFSIF(n).double(), lambda: QCFSIF().double()):
        hidden = make()(shown @ first)
        net = make()(hidden @ second).sum(0)
        exact.append((net == want).double().mean().item())
    assert exact[0] == 1.0
    assert exact[1] < 0.95


def test_bad_arguments() -> None:
    for make, message in (
        (lambda: QCFSIF(0.0), "threshold"),
        (lambda: QCFSIF(start=2.0), "start"),
        (lambda: QFFSIF(0), "levels"),
        (lambda: QFFSIF(start=-1.0), "start"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make()
