from __future__ import annotations

import pytest
import torch

import ranvier
from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.neurons import PSN, MaskedPSN, SlidingPSN

pytestmark = pytest.mark.usefixtures("plain_torch")

T = 16


def lif_without_reset(x: torch.Tensor, tau: float, threshold: float) -> torch.Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        v = v + (x_t - v) / tau
        spikes.append((v >= threshold).double())
    return torch.stack(spikes)


@pytest.mark.parametrize("tau", [1.0, 2.0, 5.0])
def test_all_three_contain_the_lif_without_reset(tau: float) -> None:
    x = torch.randn(T, 4, 8, dtype=torch.float64) * 2
    want = lif_without_reset(x, tau, 0.5)
    assert 0 < want.mean() < 1
    torch.set_default_dtype(torch.float64)
    try:
        neurons = PSN(T, 0.5, tau=tau), MaskedPSN(T, T, 0.5, tau=tau), SlidingPSN(T, 0.5, tau=tau)
    finally:
        torch.set_default_dtype(torch.float32)
    for neuron in neurons:
        assert torch.equal(neuron(x), want)


def test_psn_is_a_matrix_over_time() -> None:
    neuron = PSN(5).double()
    x = torch.randn(5, 2, 3, 4, dtype=torch.float64)
    h = torch.einsum("ts,sbcn->tbcn", neuron.weight, x) + neuron.bias.view(5, 1, 1, 1)
    assert torch.equal(neuron(x), (h >= 0).double())
    assert neuron.bias.tolist() == [-1] * 5
    assert neuron.weight.abs().max() <= 5**-0.5  # Kaiming-uniform with a = √5


def test_a_masked_matrix_is_psn_with_zeros() -> None:
    masked = MaskedPSN(8, 3).double()
    whole = PSN(8).double()
    lag = torch.arange(8)[:, None] - torch.arange(8)
    with torch.no_grad():
        whole.weight.copy_(masked.weight * ((lag >= 0) & (lag < 3)))
    x = torch.randn(8, 3, 4, dtype=torch.float64) * 3
    assert torch.equal(masked(x), whole(x))
    masked.masking = 0.0
    with torch.no_grad():
        whole.weight.copy_(masked.weight)
    assert torch.equal(masked(x), whole(x))
    masked.masking = 0.25
    with pytest.raises(StateError, match=r"masking=0.25"), ranvier.carry(masked):
        masked(x)


@pytest.mark.parametrize("neuron", [MaskedPSN(8, 3), SlidingPSN(3)], ids=["masked", "sliding"])
def test_no_output_sees_a_later_input_nor_one_beyond_its_order(neuron: MaskedPSN | SlidingPSN) -> None:
    x = torch.randn(8, 1, 1, dtype=torch.float64, requires_grad=True)
    spikes = neuron.double()(x)
    for t in range(8):
        (grad,) = torch.autograd.grad(spikes[t].sum(), x, retain_graph=True)
        assert grad.flatten().nonzero().flatten().tolist() == list(range(max(0, t - 2), t + 1))


def test_a_masked_neuron_ends_after_its_steps() -> None:
    neuron = MaskedPSN(6, 2)
    assert neuron(torch.randn(4, 1, 2)).shape[0] == 4
    with pytest.raises(ShapeError, match="weights for 6 steps, this sequence reaches 7"):
        neuron(torch.randn(7, 1, 2))
    with pytest.raises(ShapeError, match="reaches 8"), ranvier.carry(neuron):
        neuron(torch.randn(4, 1, 2))
        neuron(torch.randn(4, 1, 2))


def test_rows_of_a_batch_may_be_at_different_steps() -> None:
    neuron = MaskedPSN(6, 3).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64) * 3
    whole = neuron(x)
    _, ahead = neuron.scan(x[:3, :1], None, True)
    _, behind = neuron.scan(x[:1, 1:], None, True)
    assert ahead is not None and behind is not None
    mixed = tuple(torch.cat(pair) for pair in zip(ahead, behind, strict=True))
    spikes, _ = neuron.step(torch.stack([x[3, 0], x[1, 1]]), mixed)
    assert torch.equal(spikes, torch.stack([whole[3, 0], whole[1, 1]]))


def test_sliding_kernel_starts_as_published() -> None:
    neuron = SlidingPSN(4)
    assert neuron.weight.tolist() == [1, 0.5, 0.25, 0.125] and neuron.bias.item() == -1


def test_the_generated_kernel_is_the_shifted_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, x = SlidingPSN(3).double(), torch.randn(9, 2, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for backend in ("reference", "auto"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        spikes = neuron(x)
        found.append([spikes, *torch.autograd.grad(spikes.square().sum(), [x, *neuron.parameters()])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_bad_arguments() -> None:
    with pytest.raises(ShapeError, match=r"needs sequences of 4 steps, got 5.*steps=5"):
        PSN()(torch.randn(5, 1, 2))
    for make, message in (
        (lambda: PSN(0), "steps"),
        (lambda: PSN(threshold=0.0), "threshold"),
        (lambda: PSN(tau=0.5), "tau"),
        (lambda: MaskedPSN(4, 5), r"order must be an integer in 1..steps=4"),
        (lambda: MaskedPSN(masking=2.0), "masking"),
        (lambda: SlidingPSN(0), "order"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make()
