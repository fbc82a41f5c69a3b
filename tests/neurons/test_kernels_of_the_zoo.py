"""Every neuron, in every setting of the zoo: what its kernels compute is what its equations say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.neurons.zoo import SPECS, drive, title
from torch import Tensor

from ranvier.neurons import LeakyNeuron, Neuron, build
from ranvier.ops.step_scan import explain

# Whose scan is neither the leaky kernel nor one generated from `step`: matrix products, and a loop by its nature.
WITHOUT = {"psn", "masked_psn", "hd_lif"}


def outcome(neuron: Neuron, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Spikes and final state; gradients of input, initial state and parameters for a gradient on all of them."""
    x = x.clone().requires_grad_()
    state = tuple(s.clone().requires_grad_() for s in neuron.initial_state(x[0].detach())) if neuron.streams else None
    if neuron.streams and type(neuron).__name__ == "MaskedPSN":
        state = None  # it counts steps in its state
    spikes, last = neuron.scan(x, state, neuron.streams)
    out = [spikes, *(last or ())]
    generator = torch.Generator().manual_seed(3)
    upstream = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in out]
    pairs = [(o, g) for o, g in zip(out, upstream, strict=True) if o.requires_grad]
    leaves = [x, *(state or ()), *neuron.parameters()]
    grads = torch.autograd.grad([o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True)
    zeros = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, grads, strict=True)]
    return [o.detach() for o in out], zeros


@pytest.mark.parametrize("steps", ["zoo", "past a chunk"])
@pytest.mark.parametrize("spec", SPECS, ids=title)
@pytest.mark.usefixtures("poisoned_empty")
def test_forward_and_backward_are_those_of_the_reference(
    spec: dict[str, Any], steps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if steps != "zoo" and "steps" in spec:
        pytest.skip("its sequences have one length")
    x = drive(spec, seed=4, batch=3) if steps == "zoo" else drive(spec, seed=4, steps=37, batch=2)
    results = []
    for backend in ("auto", "reference"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        torch.manual_seed(1)
        results.append(outcome(build(spec).double(), x))
    (out, grads), (want, want_grads) = results
    assert torch.equal(out[0], want[0]), "spike trains must be identical"
    for a, b in zip(out[1:], want[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    for a, b in zip(grads, want_grads, strict=True):
        scale = 1 + b.abs().max().item()
        torch.testing.assert_close(a, b, atol=1e-10 * scale, rtol=1e-9)


@pytest.mark.parametrize("spec", [s for s in SPECS if s["type"] not in WITHOUT], ids=title)
def test_a_kernel_is_at_work(spec: dict[str, Any]) -> None:
    """So that the parity above compares two different things."""
    neuron = build(spec).double()
    if isinstance(neuron, LeakyNeuron):
        y = neuron(drive(spec).requires_grad_())
        names = set()
        nodes = [y.grad_fn]
        while nodes:
            node = nodes.pop()
            if node is not None:
                names.add(node.name())
                nodes += [n for n, _ in node.next_functions]
        assert any("leaky_scan" in name for name in names), names
    elif spec.get("substeps", 1) > 1:
        assert explain(neuron.axon, drive(spec)) == "fused"  # its substeps are what is fused
    else:
        assert explain(neuron, drive(spec)) == "fused"
