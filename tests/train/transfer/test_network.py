"""The net of two domains: taps, heads, norms, and what is left when the static branch is gone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models import create_model
from ranvier.neurons import LIF
from ranvier.train import tet
from ranvier.train.transfer import (
    DomainAlignmentLoss,
    KnowledgeTransferLoss,
    SlidingReplacement,
    Tap,
    TwoDomainNet,
    recalibrate,
    tapped,
)

T, B = 4, 6


def small(name: str = "vgg_snn") -> nn.Module:
    arguments = {
        "vgg_snn": {"widths": (4, 6), "pools": (0, 1), "img_size": 8},
        "resnet18_snn": {"widths": (4, 6), "blocks": (1, 1), "img_size": 8},
        "scnn_omniglot": {"img_size": 16, "channels": (3, 4), "hidden": 7},
    }.get(name, {"in_channels": 2, "img_size": 8})
    torch.manual_seed(0)
    return create_model(name, num_classes=5, T=T, **arguments).double()


def pair(net: nn.Module, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shape = (T, B, *net.input_shape)  # pyright: ignore[reportGeneralTypeIssues]
    static = torch.rand(shape[1:], generator=draw, dtype=torch.float64).expand(shape)
    return static, 2 * torch.rand(shape, generator=draw, dtype=torch.float64), torch.arange(B) % 5


def test_constant_input_in_closed_form() -> None:
    neuron = LIF(tau=2.0, threshold=0.5, surrogate={"type": "triangle", "alpha": 2.0}).double()
    steps = torch.arange(1, 9, dtype=torch.float64)
    below = torch.tensor([0.1, 0.3, 0.49], dtype=torch.float64)
    with tapped(neuron_net := nn.Sequential(neuron), Tap("0", "membrane")) as found:
        spikes = neuron_net(below.expand(8, 1, 3))
    assert not spikes.any()
    torch.testing.assert_close(found[0][:, 0], below * (1 - 0.5**steps)[:, None], rtol=0, atol=1e-6)
    above = torch.tensor([0.55, 0.7, 1.3], dtype=torch.float64)
    first = neuron(above.expand(8, 1, 3))[:, 0].argmax(0) + 1
    assert first.tolist() == [math.ceil(math.log(1 - 0.5 / i) / math.log(0.5)) for i in above.tolist()]


def test_surrogates_of_the_paper() -> None:
    m = torch.linspace(-0.2, 1.2, 29, dtype=torch.float64).requires_grad_()
    for arguments, expected in (
        ({"type": "triangle", "alpha": 2.0}, (2 - 4 * (m - 0.5).abs()).clamp_min(0)),
        ({"type": "rectangle", "width": 1.0}, ((m - 0.5).abs() <= 0.5).double()),
    ):
        neuron = LIF(tau=1.0, threshold=0.5, surrogate=arguments).double()
        (grad,) = torch.autograd.grad(neuron(m[None, None]).sum(), m)
        torch.testing.assert_close(grad, expected.detach())


@pytest.mark.parametrize("name", ["vgg_snn", "resnet18_snn", "scnn_omniglot", "spiking_conv_net", "spikformer_8_384"])
def test_any_backbone(name: str) -> None:
    if name == "spikformer_8_384":
        net = create_model(name, in_channels=2, img_size=16, num_classes=5, embed_dim=16, depth=1, num_heads=2).double()
    else:
        net = small(name)
    two = TwoDomainNet(net)
    static, event, y = pair(net)
    out = two(static, event)
    assert out.static_logits.shape == out.event_logits.shape == (T, B, 5)
    assert out.static_features.shape == out.event_features.shape and out.static_features.shape[:2] == (T, B)
    KnowledgeTransferLoss(DomainAlignmentLoss())(*out, y).total.backward()
    assert two.static_head is not None and all(p.grad is not None for p in two.static_head.parameters())
    assert all(p.grad is not None for p in net.parameters())
    assert "scan" not in {key for m in net.modules() for key in m.__dict__}


def test_membrane_is_recorded_beside_unchanged_spikes() -> None:
    net = small().eval()
    _, event, _ = pair(net)
    tap = Tap("blocks.1.neuron", "membrane")
    with tapped(net, tap) as found:
        logits = net(event)
    torch.testing.assert_close(logits, net(event), rtol=0, atol=0)
    with tapped(net, [Tap("blocks.1.neuron", "input"), Tap("blocks.1.neuron")]) as seen:
        net(event)
    v = torch.zeros_like(seen[0][0])
    for t in range(T):
        v = v + (seen[0][t] - v) / 2
        v = v * (1 - seen[1][t])
        torch.testing.assert_close(found[0][t], v)


def test_order_of_the_passes_leaves_the_events_alone() -> None:
    net = small().eval()
    static, event, _ = pair(net)
    two = TwoDomainNet(net)
    torch.testing.assert_close(two(static, event).event_logits, net(event), rtol=0, atol=0)
    torch.testing.assert_close(two(event, event).event_features, two(static, event).event_features, rtol=0, atol=0)


def test_fully_replaced_domains_are_equal() -> None:
    net = small().eval()
    two = TwoDomainNet(net).eval()
    assert two.static_head is not None
    two.static_head.load_state_dict(net.head.state_dict())  # pyright: ignore[reportCallIssue]
    static, event, y = pair(net)
    event = 20 * event  # so that no layer is silent
    out = two(SlidingReplacement(10)(static, event, 10), event)
    assert torch.equal(out.static_features, out.event_features)
    loss = DomainAlignmentLoss()
    assert float(loss.steps(out.static_features, out.event_features).detach().abs().max()) < 1e-5
    terms = KnowledgeTransferLoss(loss)(*out, y)
    assert torch.equal(terms.static, terms.event)


def test_event_head_learns_as_in_plain_training() -> None:
    net = small().eval()
    static, event, y = pair(net)
    plain = copy.deepcopy(net)
    tet(plain(event), y, 1e-3, 0.5).backward()
    two = TwoDomainNet(net)
    KnowledgeTransferLoss(DomainAlignmentLoss(), coefficient=0)(*two(static, event), y).total.backward()
    for ours, theirs in zip(net.head.parameters(), plain.head.parameters(), strict=True):  # pyright: ignore
        assert torch.equal(ours.grad, theirs.grad)


def test_heads() -> None:
    net = small()
    before = copy.deepcopy(net.state_dict())
    two = TwoDomainNet(net)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert two.static_head is not None and not torch.equal(two.static_head.weight, net.head.weight)  # pyright: ignore
    _, event, _ = pair(net)
    shared = TwoDomainNet(net, heads="shared")
    assert shared.static_head is None
    torch.testing.assert_close(shared.eval()(event, event).static_logits, net.eval()(event), rtol=0, atol=0)
    assert not torch.equal(two.eval()(event, event).static_logits, net(event))


def test_separate_norms_keep_the_statistics_of_the_events_clean() -> None:
    for norms in ("shared", "separate"):
        net, alone = small(), small()
        two = TwoDomainNet(net, norms=norms).train()  # pyright: ignore[reportArgumentType]
        static, event, _ = pair(net)
        two(static, event)
        alone.train()(event)
        clean = torch.equal(net.blocks[0].block.bn.running_mean, alone.blocks[0].block.bn.running_mean)  # pyright: ignore
        assert clean == (norms == "separate")
        if two.static_norms is not None:
            mean = two.static_norms["blocks/0/block/bn"].running_mean
            expected = small().train()
            expected(static)
            assert torch.equal(mean, expected.blocks[0].block.bn.running_mean)  # pyright: ignore


def test_export_has_no_trace_and_costs_the_same() -> None:
    net = small()
    plain_keys = set(net.state_dict())
    two = TwoDomainNet(net, norms="separate")
    exported = two.export()
    assert type(exported) is type(net) and set(exported.state_dict()) == plain_keys and not exported.training
    assert sum(p.numel() for p in exported.parameters()) == sum(p.numel() for p in small().parameters())
    assert len(list(exported.modules())) == len(list(small().modules()))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in exported.modules())
    assert set(two.static_state()) == set(two.state_dict()) - {f"net.{key}" for key in plain_keys}
    _, event, _ = pair(net)
    torch.testing.assert_close(exported(event), net.eval()(event), rtol=0, atol=0)


def test_recalibration() -> None:
    net, other = small(), small()
    _, event, _ = pair(net)
    batches = [event, event + 1]
    net.train()(torch.rand_like(event))
    assert recalibrate(net.eval(), [(x, 0) for x in batches]) == 2 and not net.training
    inputs = [other.blocks[0].block.conv(x.flatten(0, 1)) for x in batches]  # pyright: ignore
    expected = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(net.blocks[0].block.bn.running_mean, expected)  # pyright: ignore
    assert net.blocks[0].block.bn.momentum == 0.1  # pyright: ignore
    with pytest.raises(ArgumentError, match="at least one batch"):
        recalibrate(net, [])


def test_bad_input() -> None:
    net = small()
    static, event, _ = pair(net)
    with pytest.raises(ShapeError, match=r"steps T: .* 3, the events 4"):
        TwoDomainNet(net)(static[:3], event)
    for arguments, say in (
        ({"tap": "blocks.1.neuro"}, "did you mean 'blocks.1.neuron'"),
        ({"tap": Tap("head", "membrane")}, "no membrane"),
        ({"tap": Tap("head", "colour")}, "what"), ({"head": "tail"}, "no head"), ({"heads": "x"}, "heads"),
        ({"norms": "x"}, "norms"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=say):
            TwoDomainNet(net, **arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="no batch norms"):
        TwoDomainNet(small("scnn_omniglot"), norms="separate")
    with pytest.raises(ArgumentError, match="was not called"), tapped(net, Tap("head")):
        pass
