from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError, ShapeError, UnknownNameError
from ranvier.neurons import IF, LIF, NEURONS, PLIF, IntegerLIF, LeakyNeuron, Neuron, NeuronFactory, build
from ranvier.surrogates import Atan

SPECS: list[dict[str, Any]] = [
    {"type": "if"},
    {"type": "if", "reset": "soft", "detach_reset": False},
    {"type": "lif"},
    {"type": "lif", "tau": 3.0, "v_reset": -0.3, "surrogate": "atan"},
    {"type": "lif", "decay_input": False, "reset": "soft", "tau": 1.5},
    {"type": "lif", "tau": torch.tensor([1.5, 2.0, 4.0]), "threshold": torch.tensor([0.5, 1.0, 0.7])},
    {"type": "plif"},
    {"type": "plif", "channels": 3, "detach_reset": False},
    {"type": "integer_lif"},
    {"type": "integer_lif", "decay": 0.25, "levels": 3, "rounding": "half_even"},
    {"type": "integer_lif", "tau": 2.0, "reset": "hard", "input_scale": 1.0, "output_scale": 1.0},
]


def membranes(neuron: Neuron, x: Tensor) -> Tensor:
    """The membrane after every step of `x` `[T, B, ...]`, by `step`."""
    state = neuron.initial_state(x[0])
    trace = []
    for x_t in x:
        _, state = neuron.step(x_t, state)
        trace.append(state[0])
    return torch.stack(trace)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_scan_is_its_steps_and_a_stream_is_its_scan(spec: dict[str, Any]) -> None:
    neuron = build(spec).double()

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**31))
    def check(chunks: list[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(sum(chunks), 2, 3, 2, generator=generator, dtype=torch.float64) * 2
        spikes = neuron(x)
        state, stepped = neuron.initial_state(x[0]), []
        for x_t in x:
            s, state = neuron.step(x_t, state)
            stepped.append(s)
        assert torch.equal(spikes, torch.stack(stepped))
        with ranvier.carry(neuron) as memory:
            streamed = torch.cat([neuron(chunk) for chunk in x.split(chunks)])
        assert torch.equal(spikes, streamed)
        assert memory.nbytes == 8 * x[0].numel()
        assert torch.equal(next(iter(memory.states.values()))[0], state[0])

    check()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_copies_pickles_and_vmap(spec: dict[str, Any]) -> None:
    neuron = build(spec).double()
    x = torch.randn(5, 2, 3, 2, dtype=torch.float64) * 2
    want = neuron(x)
    assert torch.equal(copy.deepcopy(neuron)(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(neuron))(x), want)
    pair = torch.stack([x, x * 0.5])
    assert torch.equal(torch.vmap(neuron)(pair), torch.stack([neuron(p) for p in pair]))


@pytest.mark.parametrize("c", [0.2, 0.7, 0.99])
def test_lif_membrane_below_threshold_has_its_closed_form(c: float) -> None:
    t = torch.arange(1, 21, dtype=torch.float64)
    neuron = LIF().double()
    x = torch.full((20, 1, 1), c, dtype=torch.float64)
    torch.testing.assert_close(membranes(neuron, x).flatten(), c * (1 - 2**-t), atol=1e-12, rtol=0)
    assert neuron(x).sum() == 0


def test_lif_spike_period() -> None:
    spikes = LIF()(torch.full((10, 1, 1), 1.5)).flatten()  # v = 0.75, 1.125
    assert spikes.tolist() == [0, 1] * 5


def test_plif_with_zero_weight_is_lif_with_tau_2() -> None:
    x = torch.randn(30, 4, 6) * 2
    neuron = PLIF()
    assert neuron.w.item() == 0
    assert torch.equal(neuron(x), LIF()(x))
    assert PLIF(tau=5.0).decay().item() == pytest.approx(0.2)


def test_plif_gradient_of_the_decay_matches_autograd_of_the_steps() -> None:
    neuron = PLIF(tau=3.0, channels=3, detach_reset=False).double()
    x = torch.randn(40, 2, 3, dtype=torch.float64) * 3
    upstream = torch.randn(40, 2, 3, dtype=torch.float64)
    (neuron(x) * upstream).sum().backward()
    fused = neuron.w.grad
    neuron.w.grad = None
    state, total = neuron.initial_state(x[0]), torch.zeros((), dtype=torch.float64)
    for x_t, g in zip(x, upstream, strict=True):
        s, state = neuron.step(x_t, state)
        total = total + (s * g).sum()
    total.backward()
    assert fused is not None and fused.abs().min() > 0
    torch.testing.assert_close(fused, neuron.w.grad, atol=1e-11, rtol=1e-9)


def test_if_sums_its_input_and_soft_reset_keeps_the_rest() -> None:
    x = torch.full((8, 1, 1), 0.75)
    assert IF()(x).flatten().tolist() == [0, 1] * 4
    assert IF(reset="soft")(x).flatten().tolist() == [0, 1, 1, 1] * 2  # 0.75 a step: three spikes in four steps
    assert membranes(IF(reset="soft"), x).flatten().tolist() == [0.75, 0.5, 0.25, 0.0] * 2


def test_if_is_lif_with_charge_v_plus_x() -> None:
    x = torch.randn(20, 3, 4).double()
    slow = LIF(tau=1e30, decay_input=False).double()
    assert torch.equal(slow(x), IF().double()(x))


def test_reset_value_is_where_the_membrane_starts_and_rests() -> None:
    neuron = LIF(v_reset=-0.5).double()
    silent = torch.zeros(10, 1, 1, dtype=torch.float64)
    assert membranes(neuron, silent - 0.0)[-1].item() == pytest.approx(-0.5)
    spiking = torch.full((4, 1, 1), 9.0, dtype=torch.float64)
    assert membranes(neuron, spiking).flatten().tolist() == [-0.5] * 4


def test_detached_and_attached_reset_differ_only_in_the_gradient() -> None:
    x = torch.randn(12, 3, 4, dtype=torch.float64, requires_grad=True)
    grads = []
    for detach in (True, False):
        spikes = LIF(detach_reset=detach).double()(x)
        grads.append((spikes.detach(), torch.autograd.grad(spikes.sum(), x)[0]))
    assert torch.equal(grads[0][0], grads[1][0])
    assert not torch.allclose(grads[0][1], grads[1][1])


def test_the_surrogate_setting_acts_on_the_gradient() -> None:
    x = torch.randn(12, 3, 4, requires_grad=True)
    grads = [
        torch.autograd.grad(LIF(surrogate=s)(x).sum(), x)[0]
        for s in ("sigmoid", {"type": "sigmoid", "alpha": 2.0}, Atan(2.0), "triangle", "rectangle", "straight_through")
    ]
    for i, a in enumerate(grads):
        for b in grads[:i]:
            assert not torch.allclose(a, b)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_memoryless_integer_neuron_is_the_published_staircase(levels: int) -> None:
    x = torch.linspace(-1, 2, 3001, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    y = IntegerLIF(levels=levels).double()(x)
    want = ((levels * x.detach()).clamp(0, levels) + 0.5).floor() / levels
    assert torch.equal(y, want)
    assert y.unique().tolist() == pytest.approx([i / levels for i in range(levels + 1)])
    (grad,) = torch.autograd.grad(y.sum(), x)
    inside = (x.detach() > 0) & (x.detach() < 1)
    torch.testing.assert_close(grad, inside.double(), atol=1e-12, rtol=0)


def test_attention_neuron_has_gain_two() -> None:
    x = torch.tensor([[[0.1, 0.3, 0.6, 0.9, 5.0]]], dtype=torch.float64, requires_grad=True)
    y = IntegerLIF(output_scale=0.5).double()(x)
    assert y.flatten().tolist() == [0, 0.5, 1.0, 2.0, 2.0]
    assert torch.autograd.grad(y.sum(), x)[0].flatten().tolist() == pytest.approx([2, 2, 2, 2, 0])


def test_tie_rules() -> None:
    x = torch.tensor([[[0.5, 1.5, 2.5, 3.5]]])
    plain = {"levels": 4, "input_scale": 1.0, "output_scale": 1.0}
    assert IntegerLIF(**plain)(x).flatten().tolist() == [1, 2, 3, 4]
    assert IntegerLIF(rounding="half_even", **plain)(x).flatten().tolist() == [0, 2, 2, 4]


def test_integer_neuron_with_one_level_is_lif_with_soft_reset_that_fires_at_half() -> None:
    x = torch.randn(50, 3, 4, dtype=torch.float64)
    integer = IntegerLIF(levels=1, tau=2.0).double()
    state, membrane, spikes = integer.initial_state(x[0]), torch.zeros_like(x[0]), []
    for x_t in x:
        membrane = membrane + (x_t - membrane) / 2
        s = (membrane >= 0.5).double()
        membrane = membrane - s
        spikes.append(s)
        _, state = integer.step(x_t, state)
    assert torch.equal(integer(x), torch.stack(spikes))
    torch.testing.assert_close(state[0], membrane)


def test_spikeyolo_recurrence() -> None:
    """h[t] = λ (h[t−1] − s[t−1]) + x[t], s = n in units of the threshold (spec of the sibling neuron, λ = 0.25)."""
    x = torch.randn(20, 2, 3, dtype=torch.float64) * 2
    neuron = IntegerLIF(levels=4, decay=0.25, input_scale=1.0, output_scale=1.0, rounding="half_even").double()
    v, want = torch.zeros_like(x[0]), []
    for x_t in x:
        h = 0.25 * v + x_t
        n = h.clamp(0, 4).round()
        v = h - n
        want.append(n)
    torch.testing.assert_close(neuron(x), torch.stack(want))


@pytest.mark.parametrize(("levels", "entropy", "spikes"), [(1, 0.8915, 0.309), (2, 1.3681, 0.628)])
def test_entropy_of_the_integer_neuron_on_gaussian_input(levels: int, entropy: float, spikes: float) -> None:
    quantiles = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000
    x = math.sqrt(2) * torch.erfinv(2 * quantiles - 1)  # an even sampling of N(0, 1)
    counts = IntegerLIF(levels=levels).double()(x.view(1, 1, -1)).mul(levels).round().long().flatten().bincount()
    p = counts.double() / counts.sum()
    assert -(p * p.log2()).sum().item() == pytest.approx(entropy, abs=2e-4)
    assert (p * torch.arange(levels + 1)).sum().item() == pytest.approx(spikes, abs=1e-3)


def test_a_count_is_its_unrolled_spikes_through_a_linear_layer() -> None:
    counts = IntegerLIF(levels=4, output_scale=1.0)(torch.rand(1, 5, 16))[0]
    weight = torch.randn(7, 16)
    unrolled = torch.stack([(counts > level).float() for level in range(4)])
    torch.testing.assert_close(counts @ weight.T, (unrolled @ weight.T).sum(0), atol=1e-5, rtol=0)


def test_half_precision_state_is_float32() -> None:
    neuron = LIF()
    x = torch.randn(6, 2, 3).bfloat16()
    with ranvier.carry(neuron) as memory:
        assert neuron(x).dtype == torch.bfloat16
    assert next(iter(memory.states.values()))[0].dtype == torch.float32
    assert torch.equal(neuron(x).float(), neuron(x.float()))


def test_autocast_feeds_the_scan_and_keeps_the_spikes() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), LIF())
    with torch.autocast("cpu", torch.bfloat16):
        spikes = net(torch.randn(6, 2, 4) * 3)
        spikes.float().sum().backward()
    assert spikes.dtype == torch.bfloat16 and set(spikes.unique().tolist()) <= {0.0, 1.0}


def test_per_channel_parameters_on_any_axis() -> None:
    x = torch.randn(9, 2, 5, 3)
    last = LIF(tau=torch.tensor([1.5, 2.0, 4.0]), channel_axis=-1)
    second = LIF(tau=torch.tensor([1.5, 2.0, 4.0]))
    assert torch.equal(last(x), second(x.transpose(2, 3)).transpose(2, 3))
    with pytest.raises(ShapeError, match=r"3 channels on axis 2.*\(2, 5, 3\)"):
        second(x)
    with pytest.raises(ShapeError, match="3 channels"):
        LIF(tau=torch.tensor([1.5, 2.0, 4.0]), channel_axis=3)(torch.randn(9, 2, 3))


def test_meta_and_dtype_conversion() -> None:
    with torch.device("meta"):
        neurons = [build(spec) for spec in SPECS if not any(isinstance(v, Tensor) for v in spec.values())]
    assert all(t.is_meta for n in neurons for t in [*n.parameters(), *n.buffers()])
    assert not LIF().state_dict(), "a neuron without learned or per-channel parameters adds no keys to a checkpoint"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(tau=0.5), "tau must be a number >= 1"),
        (lambda: LIF(tau=math.nan), "tau"),
        (lambda: PLIF(tau=1.0), "tau must be a number > 1"),
        (lambda: PLIF(channels=0), "channels"),
        (lambda: IF(threshold=0.0), "threshold must be a positive number"),
        (lambda: IF(threshold=torch.ones(2, 2)), "threshold"),
        (lambda: IF(reset="none"), "'hard' or 'soft', got 'none'"),  # pyright: ignore
        (lambda: IF(v_reset=math.inf), "v_reset"),
        (lambda: IF(channel_axis=0), "channel_axis"),
        (lambda: IntegerLIF(levels=0), "levels"),
        (lambda: IntegerLIF(levels=2.5), "levels"),  # pyright: ignore
        (lambda: IntegerLIF(decay=0.5, tau=2.0), "not both"),
        (lambda: IntegerLIF(decay=1.0), r"decay must be in \[0, 1\)"),
        (lambda: IntegerLIF(rounding="up"), "rounding"),  # pyright: ignore
        (lambda: IntegerLIF(output_scale=0.0), "output_scale"),
        (lambda: LIF()(torch.randn(5)), r"\[T, B, ...\].*\(5,\)"),
        (lambda: LIF()(torch.randn(0, 2, 3)), "at least one time step"),
        (lambda: LIF()(torch.ones(3, 2, dtype=torch.int64)), "floating-point"),
        (lambda: build({"type": "lif", "act_func": "atan"}), "'act_func'"),
        (lambda: build({"tau": 2.0}), "'type'"),
        (lambda: build({"type": "lif", "per_channel": True}), "per_channel"),
        (lambda: NeuronFactory({"type": "plif", "per_channel": True})(), "number of channels"),
        (lambda: NeuronFactory("lif")(treshold=0.5), "did you mean 'threshold'"),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_unknown_neurons_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'plif'"):
        build("plf")
    assert {"if", "lif", "plif", "integer_lif"} <= set(NEURONS)


def test_a_neuron_of_ones_own_needs_only_its_equations() -> None:
    class Resonator(Neuron):
        def initial_state(self, like: Tensor) -> tuple[Tensor, ...]:
            return torch.zeros_like(like), torch.zeros_like(like)

        def step(self, x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            v, u = state
            v, u = 0.9 * v - 0.3 * u + x_t, 0.3 * v + 0.9 * u
            spike = self.surrogate(v - 1)
            return spike, (v - spike, u)

    neuron = Resonator().double()
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    whole = neuron(x)
    with ranvier.carry(neuron):
        assert torch.equal(torch.cat([neuron(c) for c in x.split(2)]), whole)
    whole.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_every_leaky_neuron_goes_through_the_fused_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranvier.neurons import leaky

    calls: list[int] = []
    original = leaky.leaky_scan
    monkeypatch.setattr(leaky, "leaky_scan", lambda *a: (calls.append(1), original(*a))[1])
    for spec in SPECS:
        build(spec)(torch.randn(3, 2, 3, 2))
    assert len(calls) == len(SPECS) and all(issubclass(NEURONS[spec["type"]], LeakyNeuron) for spec in SPECS)
