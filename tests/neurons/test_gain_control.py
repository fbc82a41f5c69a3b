"""Gain control in front of neurons: exact steps, limits, modes."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

import ranvier
from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import GainControl
from ranvier.neurons import ALIF, LIF, GainLIF, build


def test_without_adaptation_it_is_the_plain_neuron() -> None:
    x = torch.randn(20, 3, 4) * 2
    for reset in ("soft", "hard"):
        plain, controlled = LIF(reset=reset), GainLIF(reset=reset, tau_gain=math.inf)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        s, t = plain(a), controlled(b)
        assert torch.equal(s, t)
        upstream = torch.randn_like(s)
        torch.testing.assert_close(torch.autograd.grad(s, a, upstream), torch.autograd.grad(t, b, upstream))
    assert torch.equal(ALIF()(x), GainControl("alif", tau_gain=math.inf)(x))


def test_two_steps_by_hand() -> None:
    neuron = GainLIF(tau=2.0, alpha=1.5, gamma=0.2, tau_gain=4.0, tau_rate=3.0, rate_scale=0.5, gain=1.2).double()
    d = torch.tensor([[3.0, 0.4, -2.0]], dtype=torch.float64)
    state = neuron.initial_state(d)
    g, r, v = 1.2 * torch.ones(1, 3).double(), torch.zeros(1, 3).double(), torch.zeros(1, 3).double()
    for _ in range(2):
        s, state = neuron.step(d, state)
        h = v + 0.5 * (g * d - v)
        expected = (h >= 1).double()
        v = h - expected
        r = math.exp(-1 / 3) * r + (1 - math.exp(-1 / 3)) * 0.5 * expected
        f = d.clamp(min=0)
        g = g - (f * f * (g - 1) + 1.5 * f * r + 0.2 * (g - 1)) / 4
        assert torch.equal(s, expected)
        for found, wanted in zip(state, (g, r, v), strict=True):
            torch.testing.assert_close(found, wanted)
    assert float(state[0][0, 2]) < 1.2  # a negative drive pulls to rest, it does not raise the gain


def test_gains_settle_where_the_rule_says() -> None:
    drive = torch.tensor([0.5, 2.0, 8.0]).double().expand(4000, 1, 3)
    neuron = GainLIF(tau_gain=80.0, tau_rate=40.0, alpha=2.0, gamma=0.3, rate_scale=4.0).double()
    with ranvier.carry(neuron) as memory:
        neuron(drive)
        g, r, _ = next(iter(memory.states.values()))
    f = drive[0]
    torch.testing.assert_close(g, 1 - 2.0 * f * r / (f * f + 0.3), rtol=0.02, atol=0.02)
    strong = GainLIF(rule="closed_form", tau_gain=20.0, alpha=2.0, gamma=0.3).double()
    with ranvier.carry(strong) as memory:
        strong(drive)
        c, _ = next(iter(memory.states.values()))
    torch.testing.assert_close(c, f * f, rtol=1e-6, atol=1e-6)


def test_closed_form_evens_out_contrast() -> None:
    neuron = GainLIF(rule="closed_form", tau_gain=5.0, alpha=9.0, gamma=0.05)
    x = torch.rand(200, 8, 16, generator=torch.Generator().manual_seed(0))
    plain = [float(LIF(reset="soft")(x * c)[50:].mean()) for c in (0.5, 4.0)]
    gained = [float(neuron(4 * x * c)[50:].mean()) for c in (0.5, 4.0)]
    assert gained[1] / max(gained[0], 1e-3) < 0.5 * plain[1] / max(plain[0], 1e-3)


def test_limits_hold() -> None:
    neuron = GainLIF(tau_gain=0.5, tau_rate=1.0, alpha=50.0, limits=(0.2, 1.5))  # far too fast: it swings
    state, seen = neuron.initial_state(torch.zeros(1, 3)), []
    for drive in 5 * torch.rand(50, 1, 3, generator=torch.Generator().manual_seed(0)):
        _, state = neuron.step(drive, state)
        seen.append(state[0])
    assert float(torch.stack(seen).min()) == pytest.approx(0.2)
    assert float(torch.stack(seen).max()) == pytest.approx(1.5)


def test_sharing_keeps_one_gain_a_channel_and_sample() -> None:
    x = torch.rand(12, 2, 3, 4, 5).double() * 3
    neuron = GainLIF(tau_gain=3.0, tau_rate=2.0, share="channel").double()
    with ranvier.carry(neuron) as memory:
        whole = neuron(x)
        g = next(iter(memory.states.values()))[0]
    assert torch.equal(g, g[..., :1, :1].expand_as(g)) and len(g[..., 0, 0].unique()) == 6
    with ranvier.carry(neuron):
        assert torch.equal(whole, torch.cat([neuron(part) for part in x.split(5)]))
    whole_layer = GainLIF(tau_gain=3.0, tau_rate=2.0, share="layer").double()
    with ranvier.carry(whole_layer) as memory:
        whole_layer(x)
        g = next(iter(memory.states.values()))[0]
    assert len(g.unique()) == 2
    last = GainLIF(tau_gain=3.0, tau_rate=2.0, share="channel", channel_axis=-1).double()
    torch.testing.assert_close(last(x.movedim(2, -1)), whole.movedim(2, -1))


def test_gains_are_constants_to_the_gradient_unless_asked() -> None:
    x = torch.rand(10, 2, 4).double() * 3
    gradients = []
    for through in (False, True):
        y = x.clone().requires_grad_()
        GainLIF(tau_gain=3.0, tau_rate=2.0, through_gain=through).double()(y).sum().backward()
        gradients.append(y.grad)
    assert not torch.allclose(*gradients)
    neuron = GainLIF(tau_gain=3.0, tau_rate=2.0, learn=True)
    neuron(torch.rand(10, 2, 4) * 3).sum().backward()
    learned = (neuron.alpha, neuron.gamma, neuron.tau_gain)
    assert all(p.grad is not None and float(p.grad.abs()) > 0 for p in learned)
    assert len(list(neuron.parameters())) == 3
    torch.testing.assert_close(neuron(x.float()), GainLIF(tau_gain=3.0, tau_rate=2.0)(x.float()))


def test_batch_mode_learns_in_training_only() -> None:
    x = torch.rand(6, 5, 3, 2) * torch.tensor([1.0, 3.0, 9.0]).view(3, 1)
    neuron = GainControl("lif", mode="batch", tau_gain=5.0, alpha=2.0, channels=3)
    before = neuron(x)
    assert torch.equal(before, LIF()(x))  # the first call uses the gains of the start
    for _ in range(50):
        neuron(x)
    gains = neuron.gains.clone()
    assert float(gains[0]) > float(gains[1]) > float(gains[2]) > 0.05
    neuron.eval()
    out = neuron(x)
    assert torch.equal(neuron.gains, gains)
    assert torch.equal(out, LIF()(x * gains.view(3, 1)))
    assert torch.equal(neuron(x[:, :1]), out[:, :1])  # no sample sees another one
    other = GainControl("lif", mode="frozen", channels=3)
    other.load_state_dict(neuron.state_dict())
    assert torch.equal(other.train()(x), out) and torch.equal(other.gains, gains)
    assert not list(neuron.parameters())
    with pytest.raises(ShapeError, match="3 channels"):
        neuron(x[:, :, :2])


def test_models_take_it_by_name() -> None:
    net = ranvier.create_model("spiking_mlp", neuron={"type": "gain_lif", "tau_gain": 4.0}, T=4)
    assert any(isinstance(m, GainLIF) for m in net.modules())
    with pytest.raises(ArgumentError, match="takes no argument 'tua'"):
        build({"type": "gain_control", "neuron": "lif", "tua": 3.0})


@pytest.mark.parametrize(
    "arguments",
    [{"alpha": -1.0}, {"gamma": -0.1}, {"tau_gain": 0}, {"tau_gain": math.nan}, {"tau_rate": 0}, {"rate_scale": 0.0},
     {"limits": (0.0, 1.0)}, {"limits": (2.0, 1.0)}, {"gain": 9.0}, {"gain": -1.0}, {"rule": "best"}, {"mode": "x"},
     {"share": True},
     {"neuron": "psn", "steps": 4}],
)  # fmt: skip
def test_bad_arguments_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        GainControl(**arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="learn needs"):
        GainControl(learn=True, mode="batch")
    with pytest.raises(ArgumentError, match="tau: options"):
        GainControl(LIF(), tau=3.0)
    with pytest.raises(ArgumentError, match="gain_lif has LIF"):
        GainLIF(neuron="if")


@pytest.mark.parametrize("rule", ["local", "closed_form"])
def test_recurrent_spikes_arrive_a_step_later_and_are_not_scaled(rule: Literal["local", "closed_form"]) -> None:
    weights = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    neuron = GainLIF(tau=2.0, rule=rule, gain=0.5, tau_gain=math.inf, recurrent=weights)
    x = torch.zeros(4, 1, 2, dtype=torch.float64)
    x[0, 0, 0] = 4.0  # g d = 2 drives neuron 0 to the threshold; its spike gives neuron 1 an input of 3
    expected = torch.zeros(4, 1, 2, dtype=torch.float64)
    expected[0, 0, 0] = expected[1, 0, 1] = 1.0
    assert torch.equal(neuron(x), expected)
    with ranvier.carry(neuron):
        assert torch.equal(torch.cat([neuron(x[:1]), neuron(x[1:])]), expected)


def test_zero_recurrent_weights_change_nothing() -> None:
    x = torch.randn(12, 2, 5) * 2
    plain, linked = GainLIF(tau_gain=20.0), GainLIF(tau_gain=20.0, recurrent=torch.zeros(5, 5))
    assert torch.equal(plain(x), linked(x))
    assert "recurrent" in linked.state_dict()


def test_recurrent_mistakes_are_named() -> None:
    with pytest.raises(ArgumentError, match="square"):
        GainLIF(recurrent=torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="recurrent needs mode='stream'"):
        GainLIF(recurrent=torch.zeros(2, 2), mode="frozen")
    with pytest.raises(ShapeError, match="2 neurons"):
        GainLIF(recurrent=torch.zeros(2, 2))(torch.zeros(3, 1, 4))
