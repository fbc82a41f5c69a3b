"""Parity of our neurons with those of other libraries, as far as they can be imported here.

`python backends_here.py` checks and prints what was compared, one JSON document; it fails with a traceback.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
from typing import Any

import torch
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import count
from ranvier.neurons import build
from ranvier.neurons.backends import BACKENDS, backends_of

SURROGATES: dict[str, list[dict[str, Any]]] = {
    "spikingjelly": [{"type": "sigmoid", "alpha": 3.0}, {"type": "atan"}, {"type": "triangle", "alpha": 0.7},
                     {"type": "rectangle", "width": 1.5}],
    "snntorch": [{"type": "sigmoid", "alpha": 3.0}, {"type": "atan"}, {"type": "triangle", "alpha": 0.7}],
    "braincog": [{"type": "sigmoid", "alpha": 3.0}, {"type": "atan"}, {"type": "triangle", "alpha": 0.7}],
}  # fmt: skip

SETTINGS: list[dict[str, Any]] = [
    {"type": "if", "threshold": 0.8},
    {"type": "if", "reset": "soft", "detach_reset": False},
    {"type": "lif", "tau": 3.0},
    {"type": "lif", "decay_input": False},
    {"type": "lif", "v_reset": -0.3, "threshold": 0.7, "detach_reset": False},
    {"type": "lif", "reset": "soft"},
    {"type": "plif", "tau": 3.0},
    {"type": "plif", "decay_input": False},
    {"type": "klif", "k": 1.25},
]

RAW: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "spikingjelly": [("LIFNode", {"tau": 3.0}), ("QIFNode", {}), ("PSN", {"T": 6})],
    "snntorch": [("Leaky", {"beta": 0.8}), ("Synaptic", {"alpha": 0.7, "beta": 0.8}), ("Lapicque", {"beta": 0.9})],
    "braincog": [("LIFNode", {"tau": 3.0}), ("IFNode", {"threshold": 1.0})],
}


def here(backend: str) -> bool:
    try:
        importlib.import_module(f"ranvier.neurons.backends.{backend}")
        build({"type": "lif", "backend": backend})
    except ImportError:
        return False
    return True


def drive(steps: int = 9, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(steps)
    return 0.3 + 1.4 * torch.randn(steps, batch, 4, 2, generator=generator, dtype=torch.float64)


def gradients(neuron: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    x = x.clone().requires_grad_()
    spikes = neuron(x)
    (spikes * torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x)).sum().backward()
    assert x.grad is not None
    return spikes.detach(), x.grad, [p.grad for p in neuron.parameters() if p.grad is not None]


def equals_ours(spec: dict[str, Any], backend: str) -> str:
    """Spikes and gradients; what it is not able to do must be refused in words."""
    try:
        theirs = build({**spec, "backend": backend}).double()
    except ArgumentError as error:
        assert "with this backend" in str(error)
        return "refused"
    ours, x = build(spec).double(), drive()
    s, g, p = gradients(ours, x)
    s2, g2, p2 = gradients(theirs, x)
    assert 0 < s.mean() < 1 and torch.equal(s, s2.to(s.dtype)), (spec, backend)
    torch.testing.assert_close(g2, g, atol=1e-6, rtol=1e-5)
    learns_beta = backend == "snntorch" and spec["type"] == "plif"  # another parameter of the same decay
    if not learns_beta:
        for a, b in zip(p, p2, strict=True):
            torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)
    return "equal"


def obeys_the_contract(spec: dict[str, Any]) -> None:
    """Stateless between calls, streamed in chunks, copied, in half precision."""
    neuron, x = build(spec).double(), drive(6)
    whole = neuron(x)
    assert torch.equal(neuron(x), whole) and torch.equal(copy.deepcopy(neuron)(x), whole)
    assert build(spec)(x.bfloat16()).dtype == torch.bfloat16
    if not neuron.streams:
        return
    with ranvier.carry(neuron) as memory:
        streamed = torch.cat([neuron(x[:1]), neuron(x[1:4]), neuron(x[4:])])
        assert memory.nbytes > 0
    assert torch.equal(streamed, whole), spec
    state = neuron.initial_state(x[0])
    stepped: list[Tensor] = []
    for x_t in x:
        s, state = neuron.step(x_t, state)
        stepped.append(s)
    assert torch.equal(torch.stack(stepped), whole) and len(state) == len(neuron.state_names)


def nets_agree(backend: str) -> None:
    """The same weights, the same logits; counted and trained like any net."""
    arguments: dict[str, Any] = {"img_size": 8, "in_channels": 1, "T": 3, "num_classes": 5}
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    spec = {"type": "lif", "tau": 2.0, "surrogate": {"type": "sigmoid", "alpha": 4.0}}
    torch.manual_seed(0)
    ours = ranvier.create_model("spikformer", **arguments, **small, neuron=spec)
    x = torch.rand(4, 1, 8, 8)
    ours.train()(x)
    theirs = ranvier.create_model("spikformer", **arguments, **small, neuron={**spec, "backend": backend})
    missing = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(".peer." in key for key in missing.missing_keys), missing
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(theirs(x), ours(x), atol=1e-5, rtol=1e-5)
    a, b = count(ours, x), count(theirs, x)
    assert math.isclose(a.totals.synops, b.totals.synops) and [r.name for r in a.rows] == [r.name for r in b.rows]
    assert {row.priced_as for row in b.neurons} == {"LIF"}
    theirs.train()(x).sum().backward()


def compare(backend: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in SETTINGS:
        if backend not in backends_of(setting["type"]):
            continue
        for surrogate in SURROGATES[backend]:
            spec = {**setting, "surrogate": surrogate}
            found[json.dumps(spec)] = equals_ours(spec, backend)
        if found[json.dumps(spec)] == "equal":
            obeys_the_contract({**spec, "backend": backend})
    for name, arguments in RAW[backend]:
        obeys_the_contract({"type": backend, "neuron": name, "arguments": arguments})
    nets_agree(backend)
    return found


if __name__ == "__main__":
    print(json.dumps({backend: compare(backend) for backend in BACKENDS[1:] if here(backend)}))
