"""Quantised weights: the closed forms of LSQ, layers, folding of batch norms, integer export."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.quant import (
    LSQ,
    IntSynapse,
    QuantConv1d,
    QuantConv2d,
    QuantLinear,
    export_int,
    fold_bn,
    level_range,
    pack_levels,
    prepare_qat,
    quantized_layers,
    restart_steps,
    set_bits,
    unpack_levels,
    weight_size,
)


def reference(w: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """The quantiser out of differentiable operations, as the release writes it."""
    g = 1 / math.sqrt(w.numel() * high)
    step = (alpha * g + (alpha - alpha * g).detach()).view(-1, *[1] * (w.dim() - 1))
    r = (w / step).clamp(low, high)
    return (r + (r.round() - r).detach()) * step


@given(
    bits=st.integers(2, 8), shape=st.sampled_from([(3, 4), (2, 3, 3), (4, 1, 3, 3), (1, 1)]), seed=st.integers(0, 99)
)
def test_value_and_gradients_are_the_closed_form(bits: int, shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    lsq = LSQ(bits, w).double()
    assert lsq.alpha is not None
    lsq.alpha.data *= torch.rand(shape[0], dtype=torch.float64) + 0.5
    grad = torch.randn(shape, dtype=torch.float64)
    alpha = lsq.alpha.detach().clone().requires_grad_()
    theirs = reference(w, alpha, lsq.low, lsq.high)
    expected = torch.autograd.grad(theirs, (w, alpha), grad)
    ours = lsq(w)
    got = torch.autograd.grad(ours, (w, lsq.alpha), grad)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    r = (w / alpha.view(-1, *[1] * (w.dim() - 1))).detach()
    each = torch.where(r < lsq.low, lsq.low, torch.where(r > lsq.high, lsq.high, r.round() - r))
    closed = (grad * each).flatten(1).sum(1) / math.sqrt(w.numel() * lsq.high)
    torch.testing.assert_close(got[1], closed, rtol=0, atol=1e-12)
    torch.testing.assert_close(got[0], grad * ((r >= lsq.low) & (r <= lsq.high)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_levels_and_start(bits: int) -> None:
    w = torch.randn(5, 7, 3, 3, dtype=torch.float64)
    lsq = LSQ(bits, w)
    low, high = level_range(bits)
    assert (low, high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert lsq.alpha is not None and lsq.alpha.shape == (5,)
    torch.testing.assert_close(lsq.alpha, (2 * w.abs().mean() / math.sqrt(high)).expand(5))
    q = lsq(w)
    for channel, step in zip(q, lsq.alpha, strict=True):
        levels = channel / step
        torch.testing.assert_close(levels, levels.round())
        assert levels.min() >= low and levels.max() <= high and len(channel.unique()) <= 2**bits
    ints, steps = lsq.integers(w)
    assert ints.dtype == torch.int8
    torch.testing.assert_close(ints * steps.view(-1, 1, 1, 1), q, rtol=0, atol=1e-12)


def test_ties_round_to_even_and_the_clamp_includes_its_ends() -> None:
    lsq = LSQ(4, torch.ones(1, 1)).double()
    assert lsq.alpha is not None
    lsq.alpha.data.fill_(1.0)
    w = torch.tensor([[0.5, 1.5, 2.5, -8.0, 7.0, 7.1]], dtype=torch.float64, requires_grad=True)
    q = lsq(w)
    assert q.tolist() == [[0.0, 2.0, 2.0, -8.0, 7.0, 7.0]]
    q.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]]


def test_one_bit_is_the_sign_times_the_mean() -> None:
    w = torch.tensor([[1.0, -3.0], [0.0, -1.0]], requires_grad=True)
    lsq = LSQ(1, w)
    q = lsq(w)
    assert q.tolist() == [[2.0, -2.0], [0.5, -0.5]] and not list(lsq.parameters())
    (q * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    ints, steps = lsq.integers(w)
    assert ints.tolist() == [[1, -1], [1, -1]] and steps.tolist() == [2.0, 0.5]


def test_a_step_that_crosses_zero_does_no_harm() -> None:
    w = torch.randn(2, 8)
    safe, plain = LSQ(4, w), LSQ(4, w, safe=False)
    for lsq in (safe, plain):
        assert lsq.alpha is not None
        lsq.alpha.data[0] *= -1
    torch.testing.assert_close(safe(w)[1], plain(w)[1])
    assert (safe(w)[0] * w[0] >= 0).all()
    assert safe.alpha is not None
    safe.alpha.data.zero_()
    w = w.requires_grad_()
    q = safe(w)
    q.sum().backward()
    assert q.isfinite().all() and safe.alpha.grad is not None and safe.alpha.grad.isfinite().all()


def test_the_steps_of_a_first_call_and_one_for_all() -> None:
    w = torch.randn(6, 3)
    late = LSQ(3)
    assert late.alpha is None
    torch.testing.assert_close(late(w), LSQ(3, w)(w))
    whole = LSQ(3, w, per_channel=False)
    assert whole.alpha is not None and whole.alpha.shape == (1,)
    assert len(whole(w).unique()) <= 8
    assert LSQ(4, w, init="max").alpha.max() == w.abs().max() / 7  # pyright: ignore
    unsigned = LSQ(2, w, signed=False)
    assert (unsigned.low, unsigned.high) == (0, 3) and unsigned(w).min() >= 0
    with pytest.raises(ShapeError, match="6 steps but the weight"):
        LSQ(3, w)(torch.randn(5, 3))


def test_half_precision_is_quantised_in_full() -> None:
    layer = QuantConv2d(3, 4, 3, bits=4)
    x = torch.randn(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        exact = layer.effective_weight()
    assert y.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert LSQ(4, torch.randn(3, 3)).half()(torch.randn(3, 3).half()).dtype == torch.float16


@pytest.mark.parametrize(
    ("plain", "quantised", "shape"),
    [
        (nn.Conv2d(4, 6, 3, 2, 1, groups=2), QuantConv2d, (2, 4, 7, 7)),
        (nn.Conv1d(4, 6, 1), QuantConv1d, (2, 4, 5)),
        (nn.Linear(4, 6), QuantLinear, (3, 2, 4)),
    ],
)
def test_layers(plain: nn.Module, quantised: type[nn.Module], shape: tuple[int, ...]) -> None:
    net = nn.Sequential(copy.deepcopy(plain))
    weight = net[0].weight
    layer = prepare_qat(net, bits=4)[0]
    assert type(layer) is quantised and layer.weight is weight and isinstance(layer, type(plain))
    assert list(dict(net.named_parameters())) == ["0.weight", "0.bias", "0.quantizer.alpha"]
    x = torch.randn(shape)
    reference_layer = copy.deepcopy(plain)
    reference_layer.weight.data = layer.quantizer(layer.weight).detach()
    torch.testing.assert_close(net(x), reference_layer(x))
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    again = copy.deepcopy(net)
    torch.testing.assert_close(pickle.loads(pickle.dumps(again))(x), net(x))


def test_the_kept_weight_follows_every_change() -> None:
    layer = QuantLinear(4, 3, bits=3).eval()
    x = torch.randn(2, 4)
    with torch.no_grad():
        first = layer(x)
        assert layer.effective_weight() is layer.effective_weight()
        layer.weight.mul_(2.0)
        changed = layer(x)
        assert not torch.equal(first, changed)
        layer.quantizer.alpha.mul_(2.0)
        torch.testing.assert_close(layer(x) - layer.bias, 2 * (first - layer.bias))
        layer.double()
        assert layer(x.double()).dtype == torch.float64
    state = layer.state_dict()
    fresh = QuantLinear(4, 3, bits=3).double().eval()
    with torch.no_grad():
        fresh(x.double())
        fresh.load_state_dict(state)
        torch.testing.assert_close(fresh(x.double()), layer(x.double()))


def test_preparing_a_net() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(8, 3))

    assert list(quantized_layers(prepare_qat(net(), 4))) == ["0", "2", "4"]
    assert list(quantized_layers(prepare_qat(net(), 4, skip_first_last=True))) == ["2"]
    assert list(quantized_layers(prepare_qat(net(), 2, skip=("[04]",)))) == ["2"]
    model = prepare_qat(net(), 4)
    size = weight_size(model)
    assert size.steps == 2 + 2 + 3 and size.params == 20 + 4 + 6 + 27
    assert size.equivalent == (18 + 4 + 24) / 8
    assert size.bytes == 9 + 2 + 12 + 4 * (size.params + size.steps - 46)
    assert {q.quantizer.bits for q in quantized_layers(set_bits(model, 2)).values()} == {2}
    model[0].weight.data.fill_(0.5)
    restart_steps(model)
    torch.testing.assert_close(model[0].quantizer.alpha, torch.full((2,), 1.0))
    with pytest.raises(ArgumentError, match="quantised layers already"):
        prepare_qat(model)
    with pytest.raises(ArgumentError, match="no convolution or linear layer"):
        prepare_qat(nn.Sequential(nn.ReLU()))
    with pytest.raises(ArgumentError, match="no layer 'stem' to leave alone"):
        prepare_qat(net(), skip=("stem",))


def test_a_layer_with_two_names_stays_one() -> None:
    layer = nn.Linear(3, 3)
    net = prepare_qat(nn.Sequential(layer, layer), 4)
    assert net[0] is net[1] and sum(p.numel() for p in net.parameters()) == 15


@pytest.mark.parametrize("bits", [None, 1, 2, 4, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["conv2d", "conv1d", "linear"])
def test_folding_a_batch_norm(kind: str, bias: bool, bits: int | None) -> None:
    made = {"conv2d": nn.Conv2d(3, 4, 3, 2, 1, bias=bias), "conv1d": nn.Conv1d(3, 4, 1, bias=bias),
            "linear": nn.Linear(3, 4, bias=bias)}[kind]  # fmt: skip
    bn = (nn.BatchNorm2d if kind == "conv2d" else nn.BatchNorm1d)(4)
    for v in (bn.weight, bn.bias, bn.running_mean):
        nn.init.normal_(v)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    net = nn.Sequential(made, bn)
    if bits is not None:
        prepare_qat(net, bits)
    net.double().eval()
    x = torch.randn({"conv2d": (2, 3, 7, 5), "conv1d": (2, 3, 5), "linear": (5, 3)}[kind], dtype=torch.float64)
    folded = fold_bn(net[0], net[1])
    assert isinstance(folded, IntSynapse) == (bits is not None)
    torch.testing.assert_close(folded(x), net(x), rtol=0, atol=1e-12)
    twice = fold_bn(folded, net[1])
    torch.testing.assert_close(twice(x), net[1](net(x)), rtol=0, atol=1e-12)
    torch.testing.assert_close(fold_bn(net[0], None)(x), net[0](x), rtol=0, atol=1e-12)
    if isinstance(folded, IntSynapse):
        counts = torch.randint(0, 5, x.shape).double()
        assert torch.equal(folded.accumulate(counts), folded.accumulate(counts).round())
        copied = pickle.loads(pickle.dumps(folded))
        assert torch.equal(copied(x), folded(x)) and set(folded.state_dict()) == {"levels", "scale", "bias"}


@given(bits=st.sampled_from([1, 2, 4, 8]), shape=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_packing_is_lossless(bits: int, shape: list[int]) -> None:
    low, high = level_range(bits)
    levels = torch.randint(low, high + 1, shape, dtype=torch.int8)
    levels = levels.sign() | 1 if bits == 1 else levels
    packed = pack_levels(levels, bits)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-levels.numel() * bits // 8)
    assert torch.equal(unpack_levels(packed, bits, tuple(shape)), levels)


def test_export() -> None:
    net = prepare_qat(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1, bias=False)), 4)
    found = export_int(net)
    assert list(found) == ["0", "1"]
    first = found["0"]
    assert first.levels.dtype == torch.int8 and first.bits == 4 and first.packed_bytes == 36 + 4 * 8
    torch.testing.assert_close(first.levels * first.scale.view(-1, 1, 1, 1), net[0].quantizer(net[0].weight))
    folded = nn.Sequential(fold_bn(net[0], None))
    assert torch.equal(export_int(folded)["0"].levels, first.levels)


@pytest.mark.parametrize("bits", [0, 9, 2.0, True, "4"])
def test_bad_bits(bits: object) -> None:
    with pytest.raises(ArgumentError, match="bits must be an integer from 1 to 8"):
        LSQ(bits)  # pyright: ignore


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LSQ(4, init="first"), "init must be"), (lambda: LSQ(4, grad_scale="sqrt"), "grad_scale must be"),
        (lambda: LSQ(1, signed=False), "signed must be true"), (lambda: fold_bn(nn.ReLU(), None), "only convolutions"),
        (lambda: fold_bn(nn.Linear(2, 2), nn.LayerNorm(2)), "batch norm with running statistics"),
        (lambda: pack_levels(torch.zeros(3), 3), "1, 2, 4 or 8"),
        (lambda: fold_bn(QuantConv2d(2, 2, 3, padding=1, padding_mode="reflect"), None), "padding with zeros"),
    ],
)  # fmt: skip
def test_bad_arguments(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


def test_it_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        net = prepare_qat(nn.Sequential(nn.Linear(4, 3)), 4)
    assert weight_size(net).steps == 3
