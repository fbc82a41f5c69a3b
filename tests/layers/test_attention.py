"""Exact facts about the spiking attentions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranvier import carry
from ranvier.errors import ArgumentError
from ranvier.layers import (
    QKChannelAttention,
    QKTokenAttention,
    SpikeDrivenAttention,
    SpikingAttention,
    SpikingSelfAttention,
    product_neuron,
    spike_product,
)
from ranvier.neurons import LIF, NEURONS, Neuron, NeuronFactory
from ranvier.state import State

LIF_FACTORY = NeuronFactory("lif")
KINDS = [SpikingSelfAttention, SpikeDrivenAttention, QKTokenAttention, QKChannelAttention]


def spikes(*shape: int, rate: float = 0.5, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(shape) < rate).to(dtype)


def lively(attention: SpikingAttention) -> SpikingAttention:
    """Evaluation mode with normalisers that let neurons fire."""
    for module in attention.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.bias, 0, 1)
            torch.nn.init.constant_(module.running_var, 0.1)
    return attention.double().eval()


@given(
    heads=st.sampled_from([1, 4]), d=st.sampled_from([1, 7, 32]), n=st.sampled_from([1, 5, 64]), seed=st.integers(0, 99)
)
def test_product_order_is_free_on_spikes(heads: int, d: int, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    q, k, v = (spikes(2, 3, heads, d, n) for _ in range(3))
    first, second = spike_product(q, k, v, "qk_v"), spike_product(q, k, v, "q_kv")
    assert torch.equal(first, second)
    assert torch.equal(spike_product(q, k, v), first)
    q, k, v = (x.mT for x in (q, k, v))  # tokens before channels, as the paper writes it
    assert torch.equal(first, (q @ k.mT @ v).mT)


def test_the_published_size_is_exact_in_float32() -> None:
    q, k, v = (spikes(1, 1, 1, 32, 64, rate=0.9) for _ in range(3))
    exact = spike_product(q.double(), k.double(), v.double())
    assert torch.equal(spike_product(q, k, v, "qk_v").double(), exact)
    assert torch.equal(spike_product(q, k, v, "q_kv").double(), exact)


def test_half_precision_loses_counts_and_the_product_does_not() -> None:
    q, k, v = (spikes(1, 1, 1, 64, 196, rate=0.95, dtype=torch.float16) for _ in range(3))
    exact = spike_product(q.double(), k.double(), v.double())
    assert exact.max() > 2048  # beyond it float16 holds even numbers only
    in_half = (q.mT @ k @ v.mT).mT
    assert not torch.equal(in_half.double(), exact)
    for order in ("qk_v", "q_kv"):
        product = spike_product(q, k, v, order)
        assert product.dtype == torch.float32
        assert torch.equal(product.double(), exact)
        product = spike_product(q.bfloat16(), k.bfloat16(), v.bfloat16(), order)
        assert torch.equal(product.double(), exact)


def test_autocast_leaves_the_product_in_float32() -> None:
    q, k, v = (spikes(1, 1, 1, 64, 196, rate=0.95) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (q.mT @ k).dtype == torch.bfloat16
        product = spike_product(q, k, v)
    assert product.dtype == torch.float32
    assert torch.equal(product, spike_product(q, k, v))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", ["post", "membrane"])
def test_low_precision_forward_runs(kind: type[SpikingAttention], residual: str) -> None:
    attention = kind(16, 4, LIF_FACTORY, residual=residual)
    x = spikes(2, 3, 16, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = attention(x)
    assert y.shape == x.shape and y.isfinite().all()
    assert attention.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", ["post", "membrane"])
def test_permuted_tokens_permute_the_output(kind: type[SpikingAttention], residual: str) -> None:
    attention = lively(kind(16, 4, LIF_FACTORY, residual=residual))
    x = torch.rand(4, 2, 16, 3, 4, dtype=torch.float64) * 2
    order = torch.randperm(12)

    def permuted(t: Tensor) -> Tensor:
        return t.flatten(3)[..., order].unflatten(3, (3, 4))

    y = attention(x)
    assert 0 < y.count_nonzero() < y.numel() or residual == "membrane"
    torch.testing.assert_close(attention(permuted(x)), permuted(y), rtol=0, atol=1e-12)


def test_erosion_breaks_the_permutation_symmetry_and_only_adds_spikes() -> None:
    plain, eroded = (SpikeDrivenAttention(8, 2, LIF_FACTORY, erode=e) for e in (False, True))
    q, k, v = (spikes(3, 2, 8, 16, rate=0.2) for _ in range(3))
    before, after = plain.mix_grid((4, 4), q, k, v), eroded.mix_grid((4, 4), q, k, v)
    assert (after >= before).all() and after.sum() > before.sum()


def test_sdsa_mask_needs_coincident_keys_and_values() -> None:
    attention = SpikeDrivenAttention(8, 2, LIF_FACTORY)
    q, k = torch.ones(3, 2, 8, 9), spikes(3, 2, 8, 9)
    assert attention.mix(q, k, 1 - k).count_nonzero() == 0


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_sdsa_mask_fires_at_the_first_step_on_ones(tokens: int) -> None:
    ones = torch.ones(1, 1, 8, tokens)
    # One token brings the membrane to 1/2, exactly the threshold.
    assert torch.equal(SpikeDrivenAttention(8, 2, LIF_FACTORY).mix(ones, ones, ones), ones)
    high = SpikeDrivenAttention(8, 2, LIF_FACTORY, attn_threshold=tokens / 2 + 0.01)
    assert high.mix(ones, ones, ones).count_nonzero() == 0


def test_sdsa_output_is_queries_under_a_mask_per_channel() -> None:
    q, k, v = (spikes(3, 2, 8, 9, rate=0.3) for _ in range(3))
    y = SpikeDrivenAttention(8, 2, LIF_FACTORY).mix(q, k, v)
    mask = LIF(threshold=0.5)((k * v).sum(-1))
    assert torch.equal(y, q * mask[..., None])
    assert torch.equal(SpikeDrivenAttention(8, 4, LIF_FACTORY).mix(q, k, v), y)  # heads do not matter


def test_silent_query_token_gives_nothing() -> None:
    q, k = spikes(3, 2, 8, 9), torch.ones(3, 2, 8, 9)
    q[..., 4] = 0
    y = QKTokenAttention(8, 2, LIF_FACTORY).mix(q, k)
    assert y[..., 4].count_nonzero() == 0 and y.count_nonzero() > 0


@pytest.mark.parametrize("kind", [QKTokenAttention, QKChannelAttention])
def test_queries_of_ones_let_every_key_pass(kind: type[SpikingAttention]) -> None:
    k = spikes(3, 2, 8, 9)
    assert torch.equal(kind(8, 2, LIF_FACTORY).mix(torch.ones_like(k), k), k)


def test_qk_gates_are_per_token_and_head_or_per_channel() -> None:
    q, ones = spikes(3, 2, 8, 9, rate=0.05), torch.ones(3, 2, 8, 9)
    token = QKTokenAttention(8, 2, LIF_FACTORY).mix(q, ones).unflatten(2, (2, 4))
    assert torch.equal(token, token[:, :, :, :1].expand_as(token)) and 0 < token.sum() < token.numel()
    channel = QKChannelAttention(8, 2, LIF_FACTORY).mix(q, ones)
    assert torch.equal(channel, channel[..., :1].expand_as(channel)) and 0 < channel.sum() < channel.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_per_channel_neurons_fit_everywhere(kind: type[SpikingAttention]) -> None:
    factory = NeuronFactory({"type": "plif", "per_channel": True})
    x = torch.rand(2, 3, 16, 2, 3)
    assert kind(16, 4, factory)(x).shape == x.shape


def test_product_neuron_overrides_the_threshold_or_keeps_it() -> None:
    factory = NeuronFactory({"type": "lif", "threshold": 3.0, "tau": 4.0})
    assert product_neuron(factory, 0.5, 8).threshold.item() == 0.5
    assert product_neuron(factory, None, 8).threshold.item() == 3.0
    assert "tau=4" in repr(product_neuron(factory, 0.5, 8))


class WithoutThreshold(Neuron):
    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros_like(like),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return (x_t > 0).to(x_t.dtype), state


def test_a_neuron_without_threshold_is_refused_clearly_and_works_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEURONS._entries, "without_threshold", WithoutThreshold)
    factory = NeuronFactory("without_threshold")
    with pytest.raises(ArgumentError, match="attn_threshold=None"):
        SpikingSelfAttention(8, 2, factory)
    x = torch.rand(2, 1, 8, 2, 2)
    assert SpikingSelfAttention(8, 2, factory, attn_threshold=None)(x).shape == x.shape


def test_bad_arguments_name_themselves() -> None:
    with pytest.raises(ArgumentError, match="num_heads must divide the width 8, got 3"):
        SpikingSelfAttention(8, 3, LIF_FACTORY)
    with pytest.raises(ArgumentError, match="residual"):
        SpikingSelfAttention(8, 2, LIF_FACTORY, residual="pre")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="order"):
        SpikingSelfAttention(8, 2, LIF_FACTORY, order="kv")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="scale"):
        SpikingSelfAttention(8, 2, LIF_FACTORY, scale=0.0)


def test_batch_leak_couples_samples_and_nothing_else_changes() -> None:
    torch.manual_seed(3)
    leaky = lively(SpikingSelfAttention(16, 4, LIF_FACTORY, batch_leak=True))
    sound = lively(SpikingSelfAttention(16, 4, LIF_FACTORY))
    sound.load_state_dict(leaky.state_dict())
    x = torch.rand(4, 3, 16, 2, 2, dtype=torch.float64) * 2
    assert torch.equal(leaky(x[:, :1]), sound(x[:, :1]))
    assert not torch.equal(leaky(x), sound(x))
    y = torch.rand(4, 3, 16, 4, dtype=torch.float64) * 3
    serial = leaky.after(y.flatten(0, 1).unsqueeze(1)).squeeze(1).unflatten(0, (4, 3))
    assert torch.equal(leaky.activate(y), serial)
    whole = leaky(x)
    with carry(leaky):
        assert torch.equal(torch.cat([leaky(x[:1]), leaky(x[1:])]), whole)
