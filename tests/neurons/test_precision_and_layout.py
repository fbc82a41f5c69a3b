"""Mixed precision keeps membranes in float32; channels-last activations are worked on where they lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.neurons.zoo import SPECS, STEPS, drive, title
from torch import nn

import ranvier
from ranvier.layers import ConvBNNeuron, over_time
from ranvier.neurons import NEURONS, Neuron, NeuronFactory, build

every = pytest.mark.parametrize("spec", SPECS, ids=title)


def first(spec: dict[str, Any]) -> bool:
    """Whether it is the first setting of its neuron."""
    return spec is next(s for s in SPECS if s["type"] == spec["type"])


def made(spec: dict[str, Any]) -> Neuron:
    torch.manual_seed(1)
    return build(spec)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_state_is_float32_under_autocast(
    spec: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a linear layer gives under autocast goes in and comes out in half precision; the state between does not.

    Each neuron's first setting runs in its kernel, the others in the reference: precision is no matter of settings.
    """
    if not first(spec):
        monkeypatch.setenv("RANVIER_BACKEND", "reference")
    neuron = made(spec)
    x = drive(spec).float()
    identity = nn.Linear(2, 2, bias=False)
    nn.init.eye_(identity.weight)
    with torch.autocast("cpu", dtype):
        current = identity(x)
        assert current.dtype == dtype
        if not neuron.streams:
            spikes = neuron(current)
        else:
            with ranvier.carry(neuron) as memory:
                spikes = torch.cat([neuron(chunk) for chunk in current.split(STEPS // 2)])
            [state] = memory.states.values()
            assert all(s.dtype == torch.float32 for s in state)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), neuron(current.float()).to(dtype).float())
    spikes.float().sum().backward()
    assert identity.weight.grad is not None and identity.weight.grad.dtype == torch.float32
    assert identity.weight.grad.isfinite().all()


# Of every neuron the first setting, and of three the one with numbers for every channel: a built-in kernel, a generated
# one, and one with gradients of these numbers.
CHANNELWISE = ("spike_count[levels=2-threshold]", "alif[beta-tau_adaptation]", "klif[reset=soft-k=1.3-channels=3]")
FUSED = [
    s for s in SPECS
    if NEURONS[s["type"]].streams and s["type"] not in ("masked_psn", "hodgkin_huxley")
    and (first(s) or title(s) in CHANNELWISE)
]  # fmt: skip


@pytest.mark.parametrize("spec", FUSED, ids=title)
def test_channels_last_stays_channels_last(spec: dict[str, Any]) -> None:
    """Output and input gradient lie as the input does, and the numbers are those of the other layout."""
    neuron = made(spec)
    x = drive(spec, batch=2).float().unsqueeze(-1).expand(-1, -1, -1, -1, 4).contiguous()  # [T, B, C, 2, 4]
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    assert not last.is_contiguous()
    plain, last = x.clone().requires_grad_(), last.detach().requires_grad_()
    spikes, want = neuron(last), neuron(plain)
    assert torch.equal(spikes, want)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(want)
    [g] = torch.autograd.grad(spikes, last, upstream)
    [w] = torch.autograd.grad(want, plain, upstream)
    torch.testing.assert_close(g, w, atol=1e-5, rtol=1e-5)
    assert g.stride() == last.stride()


@pytest.mark.parametrize("name", ["lif", "alif"])
def test_a_channels_last_block_copies_nothing(name: str) -> None:
    """Between a convolution and the next, activations of a channels-last net are not laid out anew."""
    block = nn.Sequential(
        ConvBNNeuron(4, 8, NeuronFactory(name)), ConvBNNeuron(8, 8, NeuronFactory(name))
    ).to(memory_format=torch.channels_last)  # fmt: skip
    x = torch.rand(4, 2, 4, 8, 8)
    x = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    block(x)
    with torch.profiler.profile() as profile, torch.no_grad():
        y = block(x)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    counted = {e.key: e.count for e in profile.key_averages()}
    assert not counted.get("aten::clone", 0) and not counted.get("aten::contiguous", 0), counted


@pytest.mark.parametrize("name", ["plif", "alif"])
def test_what_is_kept_may_come_back_in_another_layout(name: str) -> None:
    """`save_on_cpu` forgets strides; the membranes saved beside the input are in the order that it had."""
    neuron = build(name)
    x = over_time(lambda t: t.to(memory_format=torch.channels_last), torch.randn(70, 2, 3, 4, 4)).requires_grad_()
    upstream = torch.randn_like(x)
    want = torch.autograd.grad(neuron(x), [x, *neuron.parameters()], upstream)
    with torch.autograd.graph.save_on_cpu():
        y = neuron(x)
    for a, b in zip(torch.autograd.grad(y, [x, *neuron.parameters()], upstream), want, strict=True):
        torch.testing.assert_close(a, b)


def test_reading_a_dense_input_makes_no_copy() -> None:
    """The kernels see the memory of the input itself."""
    from ranvier.ops.layout import Layout

    x = torch.randn(3, 2, 4, 6, 5)
    last = over_time(lambda t: t.to(memory_format=torch.channels_last), x)
    for t in (x, last):
        assert Layout(t).sequence(t, t.dtype).data_ptr() == t.data_ptr()
