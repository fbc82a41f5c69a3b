"""Temporal interaction and attention over blocks of time, against their equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, StateError
from ranvier.layers import (
    SpikingSelfAttention,
    STAtten,
    TemporalAttention,
    TemporalInteraction,
    spike_product,
)
from ranvier.neurons import NeuronFactory

LIF = NeuronFactory("lif")


def spikes(*shape: int, rate: float = 0.5) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64) < rate).double()


def lively(module: nn.Module, low: float = 0.5, high: float = 1.5) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, low, high)
    return module.double().eval()


def interaction(channels: int = 6, **options: float) -> TemporalInteraction:
    made = TemporalInteraction(channels, LIF, **options).double()
    nn.init.normal_(made.conv.weight, std=1.0)
    return made


def test_interaction_is_its_recurrence() -> None:
    tim = interaction(alpha=0.7)
    q = spikes(6, 2, 3, 6, 5)
    v_in = v_out = torch.zeros_like(q[0])
    last, expected = q[0], [q[0]]
    for now in q[1:]:
        past = torch.stack([F.conv1d(last[:, h], tim.conv.weight, tim.conv.bias, padding=2) for h in range(3)], 1)
        v_in = v_in + (past - v_in) / 2
        s = (v_in >= 0.3).double()
        v_in = v_in * (1 - s)
        v_out = v_out + (0.7 * s + 0.3 * now - v_out) / 2
        last = (v_out >= 0.5).double()
        v_out = v_out * (1 - last)
        expected.append(last)
    torch.testing.assert_close(tim(q), torch.stack(expected), rtol=0, atol=1e-12)


def test_without_the_past_it_is_a_neuron_behind_the_queries() -> None:
    q = spikes(6, 2, 3, 6, 5)
    out = interaction(alpha=0.0)(q)
    assert torch.equal(out[0], q[0]) and torch.equal(out[1:], LIF(threshold=0.5)(q[1:])) and out[1:].any()


def test_interaction_is_causal_and_streams() -> None:
    tim, q = interaction(), spikes(7, 2, 3, 6, 5)
    full = tim(q)
    assert 0 < full[1:].mean() < 1
    later = torch.cat([q[:3], spikes(4, 2, 3, 6, 5)])
    assert torch.equal(tim(later)[:3], full[:3]) and not torch.equal(tim(later)[3:], full[3:])
    with ranvier.carry(tim):
        torch.testing.assert_close(torch.cat([tim(part) for part in q.split([1, 2, 4])]), full, rtol=0, atol=1e-12)


def test_released_heads_are_read_without_transposing() -> None:
    branch = lively(TemporalAttention(16, 4, LIF, released=True, scale=1.0), 1.0, 3.0)
    nn.init.normal_(branch.interaction.conv.weight, std=1.0)
    x = spikes(5, 2, 16, 2, 2)
    tokens = x.flatten(3)
    # The release: [C, N] is read as (N, h, d), the interaction convolves over d with N as channels.
    q, k, v = (
        getattr(branch, name)(tokens).reshape(5, 2, 4, 4, 4).permute(0, 1, 3, 2, 4).contiguous() for name in "qkv"
    )
    steps, v_in, v_out = [q[0]], torch.zeros_like(q[0]), torch.zeros_like(q[0])
    for now in q[1:]:
        past = F.conv1d(
            steps[-1].flatten(0, 1), branch.interaction.conv.weight, branch.interaction.conv.bias, padding=2
        )
        v_in = v_in + (past.view_as(now) - v_in) / 2
        s = (v_in >= 1).double()
        v_in = v_in * (1 - s)
        v_out = v_out + (0.5 * s + 0.5 * now - v_out) / 2
        s = (v_out >= 1).double()
        v_out = v_out * (1 - s)
        steps.append(s)
    queries = torch.stack(steps)
    assert queries[0].any() and not queries[1:].any(), "what enters LIF_out is below 1, and so are its thresholds"
    mixed = (queries @ k.mT) @ v
    mixed = LIF()(mixed.transpose(3, 4).reshape(5, 2, 16, 4))
    assert 0 < mixed.mean() < 1
    torch.testing.assert_close(branch(x).flatten(3), branch.after(branch.proj(mixed)), rtol=0, atol=1e-12)
    with pytest.raises(ArgumentError, match="as many tokens"):
        branch(spikes(5, 2, 16, 3, 3))
    branch.follow_release(False)
    assert float(branch.interaction.neuron_in.threshold) == pytest.approx(0.3)
    assert float(branch.product_neuron.threshold) == 0.5


def test_chunks_of_one_step_are_plain_attention() -> None:
    branch = STAtten(16, 2, LIF, chunk=1, scale=0.125)
    plain = SpikingSelfAttention(16, 2, LIF, residual="membrane")
    lively(branch)
    plain.load_state_dict(branch.state_dict())
    x = torch.randn(4, 2, 16, 4, 4, dtype=torch.float64) * 2
    torch.testing.assert_close(branch(x), plain.double().eval()(x), rtol=0, atol=1e-12)


def products(branch: STAtten, *parts: Tensor) -> Tensor:
    """What enters the neuron behind the product."""
    seen: list[Tensor] = []
    handle = branch.product_neuron.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    branch.mix_grid((4, 4), *parts)
    handle.remove()
    return seen[0]


def test_a_chunk_of_equal_steps_counts_each_of_them() -> None:
    branch = STAtten(16, 2, LIF, chunk=4)
    q, k, v = (spikes(1, 2, 16, 16).expand(4, -1, -1, -1) for _ in range(3))
    one = spike_product(*(branch.heads(p) for p in (q, k, v))).flatten(2, 3)
    assert torch.equal(products(branch, q, k, v), one * 4 / 4)  # 4 steps, scale 1/H with H = 4


def test_the_product_does_not_care_about_the_order_of_keys_in_a_chunk() -> None:
    branch = STAtten(16, 2, LIF, chunk=4)
    q, k, v = (spikes(8, 2, 16, 16) for _ in range(3))
    order = torch.tensor([2, 0, 3, 1, 5, 4, 7, 6])
    full = products(branch, q, k, v)
    assert torch.equal(products(branch, q, k[order], v[order]), full)
    assert torch.equal(products(branch, q[order], k[order], v[order]), full[order])
    tokens = torch.randperm(16)
    assert torch.equal(products(branch, *(p[..., tokens] for p in (q, k, v))), full[..., tokens])
    assert not torch.equal(products(branch, q, k.roll(1, 0), v.roll(1, 0)), full)


def test_events_pool_and_gate() -> None:
    branch = lively(STAtten(8, 2, LIF, chunk=2, events=True), 0.0, 2.0)
    x = torch.randn(4, 2, 8, 4, 4, dtype=torch.float64)
    s = LIF()(x)

    def pooled(y: Tensor) -> Tensor:
        return F.max_pool2d(y.flatten(0, 1), 3, 1, 1).unflatten(0, (4, 2))

    q, k, v = (pooled(getattr(branch, n)(s.flatten(3)).view_as(x)).flatten(3) for n in "qkv")
    q, k, v = (p.unflatten(2, (2, 4)).mT for p in (q, k, v))  # [T, B, h, N, d]
    out = []
    for t in (0, 0, 2, 2):
        keys, values = k[t : t + 2], v[t : t + 2]
        out.append(q[len(out)] @ (keys.mT @ values).sum(0) / (16 * 2))
    y = NeuronFactory("lif")(threshold=0.5)(torch.stack(out).mT.flatten(2, 3)).view_as(x)
    y = y * pooled(s) + pooled(s)
    assert set(y.unique().tolist()) <= {0.0, 1.0, 2.0} and y.max() > 0
    torch.testing.assert_close(branch(x), branch.proj(y.flatten(3)).view_as(x), rtol=0, atol=1e-12)


def test_a_stream_comes_in_whole_chunks() -> None:
    branch = lively(STAtten(16, 2, LIF, chunk=2))
    x = torch.randn(7, 2, 16, 4, 4, dtype=torch.float64) * 2
    full = branch(x)
    with ranvier.carry(branch):
        torch.testing.assert_close(torch.cat([branch(part) for part in x.split([2, 4, 1])]), full, rtol=0, atol=1e-12)
        with pytest.raises(StateError, match="multiples of 2"):
            branch(x)


def test_wrong_arguments() -> None:
    for made, options in ((STAtten, {"chunk": 0}), (STAtten, {"scale": -1.0}), (TemporalAttention, {"alpha": 2.0}),
                          (TemporalAttention, {"kernel": 4})):  # fmt: skip
        with pytest.raises(ArgumentError):
            made(16, 2, LIF, **options)
    with pytest.raises(ArgumentError, match="images"):
        STAtten(16, 2, LIF, events=True)(torch.rand(2, 2, 16, 9))
