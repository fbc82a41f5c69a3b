"""SpikePoint: published sizes, the lookup layer, residuals, symmetry, and its parts against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.measure import count
from ranvier.models import create_model
from ranvier.models.spikepoint import CodeLookup, LinearNorm, ResF
from ranvier.models.spikepoint.blocks import PLIF, pack_bits, unpack_bits
from ranvier.models.spikepoint.net import rate_bias
from ranvier.neurons import NeuronFactory, build
from ranvier.surrogates import Atan

SMALL = {"num_points": 40, "num_groups": 20, "k": 5, "widths": (8, 8, 12, 16), "votes": 3, "num_classes": 4, "T": 5}


def settled(model: nn.Module, clouds: torch.Tensor) -> nn.Module:
    """In evaluation mode, with the statistics of `clouds`."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.momentum = None
    with torch.no_grad():
        model.train()(clouds)
    return model.eval()


def counted(model: nn.Module) -> int:
    """Parameters without the decays of the neurons."""
    return sum(p.numel() for p in model.parameters() if p.dim() > 0)


@pytest.mark.parametrize(
    ("name", "classes", "without", "with_norm"),
    [
        ("spikepoint_small", 12, 163_688, 164_440), ("spikepoint_small", 10, 158_548, 159_260),
        ("spikepoint_large", 10, 577_092, 578_316), ("spikepoint_large", 11, 582_222, 583_466),
        ("spikepoint_large", 51, 787_422, 789_466), ("spikepoint_large", 101, 1_043_922, 1_046_966),
    ],
)  # fmt: skip
def test_published_sizes(name: str, classes: int, without: int, with_norm: int) -> None:
    with torch.device("meta"):
        assert counted(create_model(name, num_classes=classes)) == without
        assert counted(create_model(name, num_classes=classes, head_norm=None)) == without
        assert counted(create_model(name, num_classes=classes, head_norm="affine")) == with_norm
        model = create_model(name, num_classes=classes)
    parts = (model.local, model.centroid), (model.overall,)
    sizes = [sum(counted(part) for part in group) for group in parts]
    assert sizes == ([1_648, 65_408] if "small" in name else [5_344, 257_792])


def test_lookup_is_the_layer_that_it_replaces() -> None:
    lookup = CodeLookup(6, 5).double().train()
    plain = LinearNorm(6, 5).double().train()
    plain.load_state_dict(lookup.state_dict())
    for _ in range(3):
        spikes = (torch.rand(4, 3, 10, 7, 6) < 0.4).double()
        assert torch.equal(lookup.bits[pack_bits(spikes)].double(), spikes)
        y, z = lookup(pack_bits(spikes)), plain(spikes)
        torch.testing.assert_close(y, z, rtol=0, atol=1e-10)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (z * weight).sum().backward()
    for (name, a), b in zip(lookup.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9, msg=name)
    for (name, a), (_, b) in zip(lookup.named_buffers(), [("bits", lookup.bits), *plain.named_buffers()], strict=True):
        torch.testing.assert_close(a, b, msg=name)
    torch.testing.assert_close(lookup.eval()(pack_bits(spikes)), plain.eval()(spikes))


def test_the_neuron_is_the_one_that_was_run() -> None:
    neuron = build(PLIF).double()
    drive = torch.tensor([0.49, 0.75, 1.0]).double().expand(12, 1, 3)
    spikes = neuron(drive)[:, 0]
    assert spikes[:, 0].sum() == 0  # 2x < 1: never
    assert spikes[:, 1].tolist() == [0, 1] * 6
    assert spikes[:, 2].tolist() == [1] * 12
    assert Atan(2.0).derivative(torch.tensor(0.0)) == 1
    assert Atan(2.0).derivative(torch.tensor(1.0)).item() == pytest.approx(1 / (1 + math.pi**2))


def test_residual_behind_the_neuron_is_the_identity_for_a_silent_branch() -> None:
    make = NeuronFactory(PLIF)
    s = torch.randint(0, 2, (3, 2, 4, 6)).double().requires_grad_()
    for order, expected in (("post", 1.0), ("none", 0.0)):
        block = ResF(6, make, order=order).double().eval()
        nn.init.zeros_(block.last.linear.weight)
        nn.init.zeros_(block.last.linear.bias)
        nn.init.constant_(block.last.norm.bias, -1.0)
        y = block(s)
        assert torch.equal(y, s * expected)
        (grad,) = torch.autograd.grad(y.sum(), s, allow_unused=True)
        assert torch.equal(grad, torch.full_like(s, expected))
    block = ResF(6, make, order="pre").double().eval()
    nn.init.zeros_(block.last.linear.weight)
    nn.init.zeros_(block.last.linear.bias)
    one = torch.rand(1, 2, 4, 6, dtype=torch.float64).requires_grad_()
    (grad,) = torch.autograd.grad(block(one).sum(), one)
    torch.testing.assert_close(grad, Atan(2.0).derivative(one.detach() - 1))


def test_order_of_points_and_groups_does_not_matter() -> None:
    model = create_model("spikepoint_small", **{**SMALL, "num_groups": 40, "encoder": "direct"}).double()
    clouds = torch.rand(3, 40, 3, dtype=torch.float64)
    settled(model, clouds)
    with torch.no_grad():
        y = model(clouds)
        torch.testing.assert_close(model(clouds[:, torch.randperm(40)]), y, rtol=0, atol=1e-9)
    assert y.shape == (5, 3, 4) and y.min() >= 0 and y.max() <= 1 and y.std() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"order": "pre"}, {"order": "none"}, {"fusion": "concat"}, {"extractors": "local"}, {"extractors": "global"},
        {"pool": "max_rate"}, {"pool": "max_membrane"}, {"head_norm": None}, {"pool_bias": None}, {"sign": "affine"},
        {"neuron": {"type": "if", "surrogate": "atan"}}, {"encoder": "deterministic_rate"}, {"anchor": "mean"},
        {"eval_samples": 3}, {"num_groups": 40}, {"sd_scope": "group"},
    ],
    ids=str,
)  # fmt: skip
def test_every_ablation_trains(change: dict[str, object]) -> None:
    model = create_model("spikepoint_small", **{**SMALL, **change})
    y = model(torch.rand(6, 40, 3))
    assert y.shape == (5, 6, 4)
    (y - 0.5).square().sum().backward()
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert model.eval()(torch.rand(2, 40, 3)).shape == (5, 2, 4)


def test_the_pool_does_not_saturate() -> None:
    torch.manual_seed(3)
    assert rate_bias(32) == pytest.approx(-0.82, abs=0.03) and rate_bias(1024) == pytest.approx(-1.46, abs=0.03)
    shares = {}
    for bias in ("auto", None):
        model = create_model(
            "spikepoint_small", num_points=192, num_groups=64, k=8, widths=(16, 32, 64, 128), pool_bias=bias
        )
        found: list[float] = []
        model.overall.register_forward_hook(lambda *a, found=found: found.append(a[-1].mean().item()))
        with torch.no_grad():
            model(torch.rand(8, 192, 3))
        shares[bias] = found[0]
    assert 0.05 < shares["auto"] < 0.7 and shares[None] > 0.95


def test_every_pass_draws_new_noise_and_seeds_repeat_it() -> None:
    model = create_model("spikepoint_small", **SMALL)
    clouds = torch.rand(4, 40, 3)
    settled(model, clouds)
    with torch.no_grad():
        torch.manual_seed(1)
        y = model(clouds)
        assert not torch.equal(model(clouds), y)
        torch.manual_seed(1)
        assert torch.equal(model(clouds), y)


def test_bad_clouds() -> None:
    model = create_model("spikepoint_small", **SMALL)
    with pytest.raises(DataError, match="NaN"):
        model(torch.full((1, 40, 3), float("nan")))
    with pytest.raises(DataError, match="empty"):
        model(torch.zeros(0, 40, 3))
    with pytest.raises(ShapeError, match="at least 20 points"):
        model(torch.rand(1, 10, 3))
    with pytest.raises(ShapeError, match=r"\[B, N, 3\]"):
        model(torch.rand(1, 40, 4))
    with pytest.raises(ArgumentError, match="widths"):
        create_model("spikepoint_small", widths=(8, 8))
    with pytest.raises(ArgumentError, match="pool"):
        create_model("spikepoint_small", pool="mean")


def test_the_meter_sees_the_layers_that_are_looked_up() -> None:
    model = create_model("spikepoint_small", **{**SMALL, "encoder": "deterministic_rate"})
    clouds = torch.rand(4, 40, 3)
    settled(model, clouds)
    rows = {row.module: row for row in count(model, clouds).rows}
    assert rows["local.enter.linear"].input_class == rows["centroid.linear"].input_class == "binary"
    assert rows["local.enter.linear"].macs_dense == 5 * 20 * 5 * 6 * 8  # steps, groups, neighbours, channels
    codes = torch.randint(0, 64, (3, 4))
    assert torch.equal(pack_bits(unpack_bits(codes, 6, torch.float32)), codes)
