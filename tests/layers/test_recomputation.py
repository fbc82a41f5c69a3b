"""Recomputation changes what is kept, and nothing else."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import ranvier
from ranvier.errors import ArgumentError
from ranvier.layers import ChannelMLP, ConvBNNeuron, TransformerBlock, over_time
from ranvier.neurons import ALIF, IF, LIF, NeuronFactory, build


class OverTime(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.module, x)


def conv_net(width: int = 16, depth: int = 3, neuron: str = "lif") -> nn.Module:
    widths = [3, *[width] * depth]
    make = NeuronFactory(neuron)
    return nn.Sequential(*(ConvBNNeuron(i, o, make) for i, o in itertools.pairwise(widths)))


def flat_net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 32), OverTime(nn.BatchNorm1d(32)), LIF(), nn.Dropout(0.3), nn.Linear(32, 32), ALIF(),
        nn.Linear(32, 32), IF(), nn.Linear(32, 5),
    )  # fmt: skip


def spikformer() -> nn.Module:
    return ranvier.create_model(
        "spikformer_cifar_4_256", img_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=5
    )


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (conv_net, (4, 2, 3, 12, 12)),
    "integer neurons": (lambda: conv_net(neuron="ni_lif"), (4, 2, 3, 12, 12)),
    "a plain sequence": (flat_net, (40, 8, 6)),
    "spikformer": (spikformer, (2, 3, 16, 16)),
    "convnet": (lambda: ranvier.create_model("spiking_conv_net"), (2, 1, 28, 28)),
}


def outcome(net: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients, and the buffers after it."""
    x = x.detach().requires_grad_()
    torch.manual_seed(5)
    y = net(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    grads = torch.autograd.grad(y, [x, *net.parameters()], upstream, allow_unused=True)
    return [y.detach(), *(torch.zeros(()) if g is None else g for g in grads)], [b.clone() for b in net.buffers()]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_results_gradients_and_statistics_are_the_same(name: str, training: bool) -> None:
    make, shape = CASES[name]
    plain = make().train(training)
    x = torch.rand(shape) * 2
    with torch.no_grad():
        plain(x)  # so that running statistics are not those of the start
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0, 1)
    economical = ranvier.recompute(copy.deepcopy(plain))
    assert [n for n, _ in economical.named_parameters()] == [n for n, _ in plain.named_parameters()]
    (got, buffers), (want, want_buffers) = outcome(economical, x), outcome(plain, x)
    assert want[1].abs().sum() > 0
    for a, b in zip([*got, *buffers], [*want, *want_buffers], strict=True):
        assert torch.equal(a, b)
    back = ranvier.recompute(economical, enable=False)
    assert not any("forward" in m.__dict__ for m in back.modules())


@pytest.mark.parametrize("neuron", ["lif", "alif", "ni_lif"])
def test_bytes_an_element_and_step(neuron: str) -> None:
    """At most 1.2 bytes an element and step of a neuron, against more than 12 without."""
    from ranvier.layers import recomputation

    kept: list[int] = []
    original = recomputation._keep

    def note(t: Tensor) -> Any:
        stored = original(t)
        if stored is not t:
            kept.append(stored.nbytes)
        elif not (t.is_leaf and t.requires_grad):
            kept.append(t.numel() * t.element_size())
        return stored

    depth, width, size = 4, 16, 12
    net = ranvier.recompute(conv_net(width, depth, neuron))
    x = torch.rand(8, 4, 3, size, size)
    elements = 8 * 4 * width * size * size * depth
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recomputation, "_keep", note)
        y = net(x)
        recomputed = sum(kept) - x.numel() * 4
        y.sum().backward()
    assert recomputed / elements <= (0.6 if neuron == "ni_lif" else 0.15)
    assert sum(kept) / elements <= 1.2

    plain: dict[int, int] = {}

    def count(t: Tensor) -> Tensor:
        plain[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        alive = conv_net(width, depth, neuron)(x)
    assert alive is not None and sum(plain.values()) / elements > 11


def test_compact_spikes_alone() -> None:
    net, x = conv_net(), torch.rand(4, 2, 3, 12, 12)
    want = outcome(net, x)[0]
    with ranvier.compact_spikes():
        leaf = x.requires_grad_()
        y = net(leaf)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(torch.autograd.grad(y, [leaf, *net.parameters()], upstream), want[1:], strict=True):
        assert torch.equal(a, b)


def test_carried_state_is_left_alone() -> None:
    """Backward after the stream has moved on recomputes from the state that the block had then."""
    plain = nn.Sequential(nn.Linear(4, 8), LIF(tau=4.0), nn.Linear(8, 8), ALIF())
    economical = ranvier.recompute(copy.deepcopy(plain))
    chunks = [torch.randn(3, 2, 4) * 3 for _ in range(3)]
    grads, ends = [], []
    for net in (plain, economical):
        with ranvier.carry(net) as memory:
            total = sum((net(chunk) * (i + 1)).sum() for i, chunk in enumerate(chunks))
            before = {k: [t.clone() for t in s] for k, s in memory.states.items()}
            grads.append(torch.autograd.grad(total, list(net.parameters())))
            ends.append(before)
            for key, state in memory.states.items():
                assert all(torch.equal(a, b) for a, b in zip(state, before[key], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    for key, state in ends[0].items():
        assert all(torch.equal(a, b) for a, b in zip(state, ends[1][key], strict=True))


def test_packed_batches() -> None:
    plain = conv_net()
    batch = ranvier.pack([torch.rand(n, 3, 8, 8) for n in (2, 7, 4)])
    grads = []
    for net in (plain, ranvier.recompute(copy.deepcopy(plain))):
        grads.append(torch.autograd.grad(batch.through(net).mean().square().sum(), list(net.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_twice_and_under_autocast_and_without_gradients() -> None:
    plain, x = conv_net(), torch.rand(4, 2, 3, 12, 12)
    net = ranvier.recompute(ranvier.recompute(copy.deepcopy(plain)))
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))
    for a, b in zip(net.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)
    grads = []
    for model in (plain, net):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().square().mean()
        grads.append(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    for others in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], others, strict=True))


def test_copies_and_pickles() -> None:
    net, x = ranvier.recompute(flat_net()).eval(), torch.rand(5, 2, 6)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), net(x))
        twin[8].bias.data += 1
        torch.testing.assert_close(twin(x), net(x) + 1)  # its forward is its own


def test_blocks_can_be_chosen() -> None:
    def changed(net: nn.Module) -> set[str]:
        return {n for n, m in net.named_modules() if "forward" in m.__dict__}

    assert changed(ranvier.recompute(spikformer(), TransformerBlock)) == {"", "blocks.0", "blocks.1"}
    assert changed(ranvier.recompute(conv_net(), ["1"])) == {"", "1"}
    assert changed(ranvier.recompute(spikformer(), lambda m: isinstance(m, ChannelMLP))) == {
        "", "blocks.0.mlp", "blocks.1.mlp",
    }  # fmt: skip
    with pytest.raises(ArgumentError, match="'9'"):
        ranvier.recompute(conv_net(), ["9"])
    with pytest.raises(ArgumentError, match="no block"):
        ranvier.recompute(nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="needs a torch"):
        ranvier.recompute(3)  # pyright: ignore


@pytest.mark.parametrize("name", ["lif", "plif", "alif", "glif", "sliding_psn", "masked_psn", "hd_lif"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_torch_s_own_checkpointing(name: str, reentrant: bool) -> None:
    """Every kind of scan: hand-written, generated, parallel, the loop."""
    neuron = build({"type": name, **({"channels": 3} if name == "hd_lif" else {})})
    block = nn.Sequential(nn.Linear(5, 5), neuron)
    grads = []
    for wrapped in (False, True):
        x = torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = checkpoint(block, x, use_reentrant=reentrant) if wrapped else block(x)
        block.zero_grad()
        y.square().sum().backward()
        grads.append([x.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
