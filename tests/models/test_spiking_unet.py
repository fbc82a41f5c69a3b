"""The spiking U-Net: the published size, its parts by hand, conditioning, no state between evaluations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError, ShapeError
from ranvier.models import Denoiser, create_model, list_models, model_card, scale_thresholds, trainable_params
from ranvier.models.spiking_unet import sinusoid

SMALL = {"img_size": 8, "channels": 8}


@pytest.fixture
def net() -> Denoiser:
    model = create_model("spiking_unet_small", **SMALL)
    torch.nn.init.xavier_uniform_(model.head.conv.weight)  # the published start is close to zero
    return model  # pyright: ignore[reportReturnType]


def _inputs(batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 1, 8, 8), torch.tensor([0.0, 499.5, 999.0])[:batch], torch.tensor([1, 7, 10])[:batch]


def test_published_size() -> None:
    """66,696,413 with the table of 1000 × 128 time embeddings, the "63.61 M" (× 2^20) of the papers."""
    params = trainable_params("spiking_unet_cifar10")
    assert params == 66_568_413
    assert params + 1000 * 128 == 66_696_413
    assert round((params + 128_000) / 2**20, 2) == 63.61


@pytest.mark.parametrize("name", list_models(family="denoiser"))
def test_cards(name: str) -> None:
    card = model_card(name)
    with torch.device("meta"):
        model = create_model(name)
    assert trainable_params(name) == card.params
    assert (model.in_channels, *model.img_size) == card.input_shape
    assert (model.num_classes, model.T, card.task) == (card.num_classes, card.T, "denoising")
    assert card.spike_driven == (not card.violations)


def test_sinusoid_of_the_original() -> None:
    found = sinusoid(torch.tensor([7.0]), 8)[0]
    rates = [math.exp(-math.log(10000) * 2 * i / 8) for i in range(4)]
    expected = [f(7 * rate) for rate in rates for f in (math.sin, math.cos)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_readout_is_a_leaky_sum(net: Denoiser) -> None:
    h = torch.zeros(4, 1, 1, 8, 8)
    with torch.no_grad():
        net.eval()
        net.tail.conv.weight.zero_()  # pyright: ignore
        silent = net._readout(h)  # pyright: ignore
        for t in range(4):
            one = h.clone()
            one[t] = 1
            torch.testing.assert_close(net._readout(one) - silent, torch.full((1, 1, 8, 8), 0.8 ** (3 - t)))  # pyright: ignore


@pytest.mark.parametrize("name", ["spiking_unet_small", "relu_unet_small"])
def test_trains(name: str) -> None:
    model = create_model(name, **SMALL)
    x, label, classes = _inputs()
    model(x, label, classes).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_only_spikes_enter_the_inner_convolutions(net: Denoiser) -> None:
    seen: list[Tensor] = []
    for block in net.modules():
        if type(block).__name__ == "PreSpike":
            block.conv.register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    net(*_inputs())
    assert len(seen) == 1 + 2 * 8 + 2
    assert all(bool(((s == 0) | (s == 1)).all()) for s in seen)
    assert any(bool(s.any()) for s in seen)


def test_conditioning_and_evaluations_are_independent(net: Denoiser) -> None:
    net.train()
    for _ in range(3):
        net(torch.randn(16, 1, 8, 8), torch.rand(16) * 999, torch.randint(11, (16,)))
    net.eval()
    x, label, classes = _inputs()
    with torch.no_grad():
        out = net(x, label, classes)
        assert torch.equal(out, net(x, label, classes))
        assert not torch.equal(out, net(x, label, classes.flip(0)))
        assert not torch.equal(out, net(x, label.flip(0), classes))
        torch.testing.assert_close(net(x[1:2], label[1:2], classes[1:2]), out[1:2], rtol=1e-4, atol=1e-5)
        assert torch.equal(net(x), net(x, torch.zeros(3), torch.full((3,), 10)))


def test_temporal_scale_starts_at_one() -> None:
    torch.manual_seed(0)
    plain = create_model("spiking_unet_small", **SMALL)
    torch.manual_seed(0)
    scaled = create_model("spiking_unet_small", temporal_scale=True, **SMALL)
    extra = set(scaled.state_dict()) - set(plain.state_dict())
    assert extra and all(name.endswith(".scale") for name in extra)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    x, label, classes = _inputs()
    torch.testing.assert_close(plain.eval()(x, label, classes), scaled.eval()(x, label, classes), rtol=1e-4, atol=1e-5)


def test_threshold_guidance(net: Denoiser) -> None:
    scale_thresholds(net, 0.998)
    thresholds = [m.threshold for m in net.modules() if isinstance(m, ranvier.neurons.Neuron)]
    assert thresholds and all(t.item() == pytest.approx(0.998) for t in thresholds)
    with pytest.raises(ArgumentError, match="factor"):
        scale_thresholds(net, 0.0)
    with pytest.raises(ArgumentError, match="no neuron"):
        scale_thresholds(torch.nn.Linear(1, 1), 0.9)


def test_noised_is_the_forward_process(net: Denoiser) -> None:
    x0, noise, label = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.tensor([0, 999])
    x, wanted = net.noised(x0, label, noise)
    share = net.alphas_cumprod[label].view(-1, 1, 1, 1)
    torch.testing.assert_close(x, share.sqrt() * x0 + (1 - share).sqrt() * noise)
    assert torch.equal(wanted, noise)
    v = create_model("spiking_unet_small", prediction="v", **SMALL)
    x, wanted = v.noised(x0, label, noise)  # pyright: ignore
    torch.testing.assert_close(share.sqrt() * x - (1 - share).sqrt() * wanted, x0, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{"img_size": 9}, {"channels": 7}, {"multipliers": ()}, {"T": 0}, {"readout_decay": 0.0}, {"beta_first": 0.5},
     {"prediction": "x0"}, {"label_dropout": 1.0}, {"num_classes": -1}],
)  # fmt: skip
def test_refuses(arguments: dict) -> None:
    with pytest.raises(ArgumentError):
        create_model("spiking_unet_small", **{**SMALL, **arguments})


def test_refuses_inputs(net: Denoiser) -> None:
    x, label, classes = _inputs()
    with pytest.raises(ShapeError, match=r"\[B, 1, 8, 8\]"):
        net(x[:, :, :4], label, classes)
    with pytest.raises(ShapeError, match="label"):
        net(x, label[:2], classes)
    with pytest.raises(ShapeError, match="classes"):
        net(x, label, classes[:2])
    with pytest.raises(ArgumentError, match="unconditional"):
        create_model("spiking_unet_small", **SMALL, num_classes=0)(x, label, classes)
