"""Token mixers, shortcuts, and attention by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.layers import (
    ATTENTIONS,
    SDSA3,
    DWConv,
    IdentityMixer,
    LayerScale,
    MSResidual,
    PoolMixer,
    SEWResidual,
    SoftmaxAttention,
    SSADWConv,
    TimeWise,
    TransformerBlock,
    VanillaResidual,
    build_attention,
    build_mixer,
    over_time,
    product_neuron,
)
from ranvier.measure.spectrum import relative_log_amplitude
from ranvier.neurons import IELIF, LIF, NeuronFactory

MAKE = NeuronFactory("lif")
NAMES = ["id", "avg", "max", "avg+", "max+", "dwc1", "dwc3", "dwc7", "ssa_dwc3", "ssa_dwc5", *ATTENTIONS]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dims", "grid"), [(2, (4, 6)), (1, (9,))])
def test_every_mixer_keeps_the_shape_and_passes_gradients(name: str, dims: int, grid: tuple[int, ...]) -> None:
    mixer = build_mixer(name, 8, 2, MAKE, dims)
    x = torch.randn(3, 2, 8, *grid, requires_grad=True)
    y = mixer(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()


def test_max_is_never_below_average() -> None:
    x = torch.randn(2, 1, 3, 7, 7)
    assert (PoolMixer("max")(x) >= PoolMixer("avg")(x) - 1e-6).all()
    assert torch.equal(PoolMixer("max", residual=True)(x), x + PoolMixer("max")(x))
    assert torch.equal(IdentityMixer()(x), x)


def test_checkerboard_and_transfer_function_of_the_average() -> None:
    i = torch.arange(12)
    board = (1.0 - 2 * ((i[:, None] + i) % 2))[None, None, None].double()
    inner = PoolMixer("avg")(board)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner.abs(), torch.full_like(inner, 1 / 9))
    assert (PoolMixer("max")(board) == 1).all()
    for k in range(5):  # (1 + 2 cos ω)/3 an axis, zero at ω = 2π/3
        omega = 2 * math.pi * k / 12
        wave = torch.cos(omega * i.double()).expand(1, 1, 1, 12, 12)
        y = PoolMixer("avg")(wave)[..., 1:-1, 1:-1]
        torch.testing.assert_close(y, (1 + 2 * math.cos(omega)) / 3 * wave[..., 1:-1, 1:-1], rtol=0, atol=1e-12)


def test_the_average_lowers_the_measured_high_frequencies() -> None:
    x = torch.randn(1, 4, 8, 16, 16, dtype=torch.float64) + 1
    spectra = [relative_log_amplitude(build_mixer(kind, 8, 1, MAKE)(x)).value[-1] for kind in ("avg", "id")]
    assert spectra[0] < spectra[1] - 1


def test_depthwise_of_one_with_unit_weight_is_spikes_plus_membrane() -> None:
    mixer = DWConv(4, 1, MAKE).double().eval()
    nn.init.ones_(mixer.block.conv.weight)
    nn.init.zeros_(mixer.block.conv.bias)
    mixer.block.bn.eps = 0.0
    x = 2 * torch.randn(3, 2, 4, 5, 5, dtype=torch.float64)
    assert torch.equal(mixer(x), x + LIF()(x))


def test_ssa_with_convolution_has_one_outer_shortcut() -> None:
    mixer = SSADWConv(8, 2, MAKE, 3).double().eval()
    x = 2 * torch.randn(3, 2, 8, 4, 4, dtype=torch.float64)
    branch = mixer.block(mixer.neuron(mixer.attention(x)))
    assert torch.equal(mixer(x), x + branch)


def test_shortcuts() -> None:
    x, s = torch.randint(0, 2, (2, 3, 4, 2, 2)).float(), torch.randint(0, 2, (2, 3, 4, 2, 2)).float()
    fn = TimeWise(nn.Identity())
    fn.forward = lambda _: s  # pyright: ignore
    assert torch.equal(SEWResidual(fn, "ADD")(x), x + s)
    assert torch.equal(SEWResidual(fn, "AND")(x), (x.bool() & s.bool()).float())
    assert torch.equal(SEWResidual(fn, "IAND")(x), (x.bool() & ~s.bool()).float())
    assert torch.equal(MSResidual(fn)(x), x + s)
    assert torch.equal(MSResidual(fn, 0.5, 4)(x), x + 0.5 * s)
    assert torch.equal(VanillaResidual(fn, LIF())(x), LIF()(x + s))
    block = TransformerBlock(fn, fn, layer_scale=0.25, dim=4)
    assert torch.equal(block(x), x + 0.5 * s)
    assert sum(p.numel() for p in block.parameters()) == 8
    with pytest.raises(ArgumentError, match="number of channels"):
        TransformerBlock(fn, fn, layer_scale=0.1)
    with pytest.raises(ArgumentError, match="op must be"):
        SEWResidual(fn, "XOR")  # pyright: ignore
    assert LayerScale(3).gamma.unique().item() == pytest.approx(1e-6)


def test_sdsa3_is_its_equation() -> None:
    attention = SDSA3(8, 2, MAKE, scale=0.5).double().eval()
    for name in "qkv":
        nn.init.uniform_(getattr(attention, name).block.bn.bias, 0.5, 2)
    x = 2 * torch.randn(3, 2, 8, 4, 4, dtype=torch.float64)
    s = LIF()(x)
    q, k, v = (LIF()(getattr(attention, n).block(s)).flatten(3).unflatten(2, (2, 4)) for n in "qkv")
    mixed = LIF(threshold=0.5)(torch.einsum("tbhcn,tbhcm,tbhem->tbhen", q, k, v).flatten(2, 3) * 0.5)
    assert 0 < mixed.mean() < 1
    torch.testing.assert_close(attention(x), attention.proj(mixed.unflatten(3, (4, 4))), rtol=0, atol=1e-12)


def test_softmax_teacher_has_the_shapes_of_its_student() -> None:
    teacher, student = SoftmaxAttention(8, 2, MAKE), SDSA3(8, 2, MAKE)
    shapes = {n: p.shape for n, p in student.named_parameters()}
    assert {n: p.shape for n, p in teacher.named_parameters()} == shapes
    x = torch.randn(1, 2, 8, 3, 3)
    q, k, v = (torch.randn(1, 2, 8, 9) for _ in range(3))
    heads = [p.unflatten(2, (2, 4)) for p in (q, k, v)]
    expected = nn.functional.scaled_dot_product_attention(*(h.mT for h in heads)).mT.flatten(2, 3)
    torch.testing.assert_close(teacher.mix(q, k, v), expected)
    assert teacher(x).shape == x.shape


@pytest.mark.parametrize("kind", [k for k in ATTENTIONS if k not in ("softmax",)])
def test_attention_by_name(kind: str) -> None:
    attention = build_attention(kind, 8, 2, MAKE, residual="membrane")
    assert type(attention) is ATTENTIONS[kind] and attention.before is not None


def test_the_neuron_of_a_product_with_a_gain() -> None:
    neuron = product_neuron(NeuronFactory("ie_lif"), 0.5, 4)
    assert isinstance(neuron, IELIF) and neuron.output_scale == 0.5
    x = torch.tensor([[0.125, 0.5, 1.0]])
    assert torch.equal(neuron(x[None])[0], torch.tensor([[0.5, 1.0, 2.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_mixer("dcw3", 8, 2, MAKE), "did you mean 'dwc3'"),
        (lambda: build_mixer("average", 8, 2, MAKE), "unknown mixer"),
        (lambda: build_attention("ssa2", 8, 2, MAKE), "did you mean 'ssa'"),
    ],
)
def test_unknown_names(call: object, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        call()


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="odd and positive"):
        build_mixer("dwc4", 8, 2, MAKE)
    with pytest.raises(ArgumentError, match="'avg' or 'max'"):
        PoolMixer("mean")  # pyright: ignore
    with pytest.raises(ArgumentError, match="no argument 'scael'"):
        build_attention("ssa", 8, 2, MAKE, scael=1)
    x = torch.randn(2, 1, 4, 3, 3)
    assert torch.equal(TimeWise(nn.Identity())(x), over_time(nn.Identity(), x))
