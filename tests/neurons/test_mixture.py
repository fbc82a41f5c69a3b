from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons import HDLIF, IF, LIF, NeuronFactory

pytestmark = pytest.mark.usefixtures("plain_torch")


def chosen(neuron: HDLIF, expert: int) -> HDLIF:
    """`neuron` with a gate that is one for `expert`."""
    with torch.no_grad():
        neuron.weight.zero_()
        neuron.bias.fill_(-1e4)
        neuron.bias[expert] = 0
    return neuron


def test_a_gate_that_chooses_one_expert_shows_its_membrane() -> None:
    x = torch.randn(6, 2, 3, 4, dtype=torch.float64)
    for index, expert in ((0, IF(threshold=0.5)), (1, LIF(threshold=0.5))):
        neuron = chosen(HDLIF(3, 6).double(), index)
        state, want = expert.initial_state(x[0]), []
        for x_t in x:
            s, state = expert.step(x_t, state)
            want.append((torch.where(s > 0, 0.5, state[0]) >= 0.2).double())
        assert torch.equal(neuron(x), torch.stack(want))


def test_silence_stays_silent() -> None:
    """Marking a spike by an exactly zero membrane, as released code does, would fire at every step here."""
    assert HDLIF(3, 6)(torch.zeros(6, 2, 3, 4)).sum() == 0


def test_gates_are_shares_and_only_the_largest_stay_in_eval_mode() -> None:
    neuron = HDLIF(3, 6).double()
    x = torch.randn(6, 2, 3, 4, dtype=torch.float64) * 3
    gates = neuron.gates(x)
    assert gates.shape == (4, 2, 1, 4)
    torch.testing.assert_close(gates.sum(0), torch.ones(2, 1, 4, dtype=torch.float64))
    together = x.permute(1, 0, 2, 3).flatten(1, 2)  # [B, T·C, N]
    want = torch.nn.functional.conv1d(together, neuron.weight.flatten(1)[..., None], neuron.bias).softmax(1)
    torch.testing.assert_close(gates.squeeze(2).movedim(0, 1), want)
    top = neuron.eval().gates(x)
    assert ((top > 0).sum(0) == 2).all()
    kept = torch.where(top > 0, gates, 0.0)
    torch.testing.assert_close(top, kept / kept.sum(0))


def test_a_recipe_makes_it_with_the_hint_of_the_channels() -> None:
    neuron = NeuronFactory({"type": "hd_lif", "per_channel": True, "steps": 5})(channels=7)
    assert neuron(torch.randn(5, 2, 7, 3, 3)).shape == (5, 2, 7, 3, 3)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="needs channels"):
        HDLIF()
    with pytest.raises(ArgumentError, match=r"top_k must be an integer in 1..4"):
        HDLIF(3, top_k=5)
    with pytest.raises(ShapeError, match="4 steps and 3 channels"):
        HDLIF(3)(torch.randn(4, 2, 5))
