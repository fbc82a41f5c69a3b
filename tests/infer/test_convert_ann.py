"""Quantised activations, the neurons that take over, and conversion of nets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, CheckpointError, StateError
from ranvier.infer import (
    AnnConversion,
    EarlyExitRunner,
    NotConvertibleError,
    ann_conversion_notes,
    convert_ann,
    load_ann_conversion,
    save_ann_conversion,
)
from ranvier.infer.early_exit import FixedSteps
from ranvier.layers import QCFS, LSQReLU
from ranvier.neurons import QCFSIF, QFFSIF


def test_the_activation_has_its_levels() -> None:
    x = torch.linspace(-1, 4, 5001, dtype=torch.float64)
    layer = QCFS(4, 2.0).double()
    expected = 2.0 * torch.clamp(torch.floor(x * 4 / 2.0 + 0.5) / 4, 0, 1)
    torch.testing.assert_close(layer(x), expected)
    assert len(layer(x).unique()) == 5
    two_bit = LSQReLU(2, 0.5).double()
    torch.testing.assert_close(two_bit(x), 0.5 * torch.round((x / 0.5).clamp(0, 3)))
    assert float(two_bit.ceiling.detach()) == 1.5


def test_gradients_of_the_activation() -> None:
    x = (torch.rand(400, dtype=torch.float64) * 4 - 1).requires_grad_()
    layer = QCFS(4, 2.0).double()
    out = layer(x)
    (of_x, of_scale) = torch.autograd.grad(out.sum(), (x, layer.scale))
    inside = (x > 0) & (x < 2)
    assert torch.equal(of_x, inside.double())
    torch.testing.assert_close(of_scale, (out / 2 - torch.where(inside, x / 2, 0.0)).sum())
    many = torch.linspace(0, 3, 300_001, dtype=torch.float64)
    plus, minus = (QCFS(4, 2.0 + h).double()(many).mean().detach() for h in (1e-2, -1e-2))
    (analytic,) = torch.autograd.grad(QCFS.forward(layer, many).mean(), layer.scale)
    assert float((plus - minus) / 2e-2) == pytest.approx(float(analytic.detach()), rel=0.02)


def test_gradients_of_lsq() -> None:
    x = (torch.rand(8, 5, dtype=torch.float64) * 4 - 1).requires_grad_()
    layer = LSQReLU(2, 0.5).double()
    (of_x, of_scale) = torch.autograd.grad(layer(x).sum(), (x, layer.scale))
    share = (x / 0.5).detach()
    inside = (share > 0) & (share < 3)
    assert torch.equal(of_x, inside.double())
    expected = (share.clamp(0, 3).round() - torch.where(inside, share, 0.0)).sum() / (8 * 3) ** 0.5
    torch.testing.assert_close(of_scale, expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 15])
def test_counts_have_a_closed_form(steps: int) -> None:
    current = torch.rand(200_000, dtype=torch.float64) * 2 * 0.75 - 0.375
    spikes = QCFSIF(0.75).double()(current.expand(steps, 1, -1))
    counts = (spikes / 0.75).sum(0)[0].round()
    assert torch.equal(counts, torch.clamp(torch.floor(steps * current / 0.75 + 0.5), 0, steps))
    if steps == 4:
        torch.testing.assert_close(spikes.mean(0)[0], QCFS(4, 0.75).double()(current))


@pytest.mark.parametrize(("levels", "steps", "rms"), [(4, 2, 0.177), (4, 8, 0.088)])
def test_the_error_of_one_layer_is_zero_on_average(levels: int, steps: int, rms: float) -> None:
    x = torch.rand(500_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    activation = QCFS(levels, 1.0).double().requires_grad_(False)
    error = QCFSIF(1.0).double()(x.expand(steps, 1, -1)).mean(0)[0] - activation(x)
    assert abs(float(error.mean())) < 1e-3
    assert float(error.square().mean().sqrt()) == pytest.approx(rms, abs=2e-3)


def test_charge_is_conserved() -> None:
    x = torch.randn(20, 3, 50, dtype=torch.float64)
    neuron = QCFSIF(0.75).double()
    with ranvier.carry(neuron) as memory:
        out = neuron(x)
        (v,) = next(iter(memory.states.values()))
    torch.testing.assert_close(v, 0.375 + x.sum(0) - out.sum(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale_output", [True, False])
def test_a_step_of_a_stream_is_the_step_of_a_sequence(scale_output: bool) -> None:
    x = torch.randn(20, 3, 50)
    neuron = QCFSIF(0.75, scale_output=scale_output)
    with torch.no_grad():
        whole = neuron(x)
        with ranvier.carry(neuron) as memory:
            steps = torch.cat([neuron(x[t : t + 1]) for t in range(9)])
            rest = neuron(x[9:])
            (v,) = next(iter(memory.states.values()))
    assert torch.equal(torch.cat((steps, rest)), whole) and v.shape == (3, 50)
    with torch.no_grad(), ranvier.carry(neuron), pytest.raises(StateError, match="carries state"):
        neuron(x[:1])
        neuron(x[:1, :2])


def two_layers(activation: type[nn.Module] = QCFS, **options: object) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), activation(**options), nn.Linear(30, 25), activation(**options)).double()


def test_one_converted_layer_is_exact_at_t_equal_l() -> None:
    net = nn.Sequential(nn.Linear(20, 30), QCFS(4, 0.5)).double()
    x = torch.randn(100, 20, dtype=torch.float64)
    done = convert_ann(net, x, steps=4)
    torch.testing.assert_close(done.net(x).mean(0), net(x), rtol=0, atol=1e-12)
    assert done.thresholds == {"1": 0.5}


def test_qffs_settles_on_the_activations() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(20, 30, bias=False), LSQReLU(2, 0.1), nn.Linear(30, 25, bias=False), LSQReLU(2, 0.1)
    ).double()
    x = torch.randn(500, 20, dtype=torch.float64)
    done = convert_ann(net, x, steps=8, neuron="qffs_if")
    out = done.net(x)
    counts = out.cumsum(0) / 0.3
    assert bool((counts > -1e-5).all()) and bool((counts < 3 + 1e-5).all())
    for steps in (6, 7, 8):
        share = (out[:steps].sum(0) / 3 - net(x)).abs() < 1e-6
        assert float(share.double().mean()) > 0.999
    plain = convert_ann(net, x, steps=8).net
    settled = (plain(x).mean(0) - net(x)).abs() < 1e-6
    assert float(settled.double().mean()) < 0.95


def lively(net: nn.Module) -> nn.Module:
    """Batch norms with statistics and shifts as after training."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.3, 0.5)
    net.train()
    for _ in range(30):
        net(torch.rand(8, 3, 16, 16, dtype=torch.float64))
    return net.eval()


@pytest.mark.parametrize("activation", ["qcfs", "lsq"])
def test_qffs_settles_with_biases_and_norms_too(activation: str) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(20, 30), LSQReLU(2, 0.2), nn.Linear(30, 25), LSQReLU(2, 0.2), nn.Linear(25, 4))
    net, x = net.double(), torch.randn(300, 20, dtype=torch.float64)
    done = convert_ann(net, x, steps=9, neuron="qffs_if")
    assert done.input_steps == 3
    torch.testing.assert_close(done.net(x).sum(0) / 3, net(x), rtol=0, atol=1e-6)

    model = lively(ranvier.create_model(
        "vgg16_qcfs", layers=[8, "A", 8, "A"], hidden=16, img_size=16, start=1.0, levels=3, activation=activation,
    ).double())  # fmt: skip
    images = torch.rand(20, 3, 16, 16, dtype=torch.float64)
    done = convert_ann(model, steps=30, neuron="qffs_if")
    out = done.net(images)
    torch.testing.assert_close(out.sum(0) / 3, model(images)[0], rtol=0, atol=1e-6)
    with ranvier.carry(done.net):
        streamed = torch.cat([done.net(images.expand(n, *images.shape)) for n in (2, 5, 23)])
    torch.testing.assert_close(streamed, out)
    run = EarlyExitRunner(done.net, FixedSteps(7), mode="throughput", slots=6)(images.float().double())
    torch.testing.assert_close(run.logits, out[:7].sum(0).float(), rtol=1e-4, atol=1e-4)


def test_library_nets_convert_and_run_for_any_time() -> None:
    model = ranvier.create_model("resnet20_qcfs", width=0.5, img_size=16, start=0.5).eval()
    x = torch.rand(3, 3, 16, 16)
    assert model(x).shape == (1, 3, 10)
    done = convert_ann(model, steps=12)
    assert isinstance(done, AnnConversion) and len(done.thresholds) == 19
    out = done.net(x)
    assert out.shape == (12, 3, 10)
    assert not torch.equal(out[0], out[1]) and model.T == 1 and model(x).shape == (1, 3, 10)
    with ranvier.carry(done.net):
        streamed = torch.cat([done.net(x.expand(n, *x.shape)) for n in (5, 1, 6)])
    torch.testing.assert_close(streamed, out)
    run = EarlyExitRunner(done.net, FixedSteps(7))(x)
    torch.testing.assert_close(run.logits, out[:7].sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "activations"), [("resnet18_qcfs", 17), ("vgg16_qcfs", 15), ("resnet34_qcfs", 33), ("resnet50_qcfs", 49)]
)
def test_published_nets_have_their_spiking_layers(name: str, activations: int) -> None:
    with torch.device("meta"):
        model = ranvier.create_model(name)
    assert sum(isinstance(m, QCFS) for m in model.modules()) == activations


def test_user_nets_of_standard_layers_convert() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
            self.pool, self.head = nn.MaxPool2d(2), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.norm(self.conv(x)))
            return self.head(self.pool(y + y).flatten(1))

    torch.manual_seed(0)
    net = Net().eval()
    x = torch.rand(16, 1, 8, 8)
    done = convert_ann(net, x, steps=64, quantile=1.0)
    assert done.pools == ["pool"] and set(done.thresholds) == {"act"}
    average = Net().eval()
    average.load_state_dict(net.state_dict())
    average.pool = nn.AvgPool2d(2)  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(done.net(x).mean(0), average(x), rtol=0.1, atol=0.05)
    assert done.net(x.expand(3, *x.shape)).shape == (3, 16, 3)


def test_what_cannot_be_converted_is_listed() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.norm = nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.relu(self.norm(self.act(self.first(x)))))

    with pytest.raises(NotConvertibleError) as raised:
        convert_ann(Bad(), torch.rand(2, 4))
    for part in ("act (GELU)", "norm (LayerNorm)", "a call of sigmoid()"):
        assert part in str(raised.value)
    with pytest.raises(NotConvertibleError, match="no QCFS"):
        convert_ann(nn.Sequential(nn.Linear(2, 2)))
    mixed = nn.Sequential(nn.Linear(2, 2), QCFS(4), nn.Linear(2, 2), QCFS(3))
    with pytest.raises(NotConvertibleError, match="same levels"):
        convert_ann(mixed, torch.rand(1, 2), neuron="qffs_if")
    with pytest.raises(NotConvertibleError, match="pads with 1"):
        convert_ann(nn.Sequential(nn.ConstantPad2d(1, 1.0), QCFS(4)), neuron="qffs_if")
    with pytest.raises(NotConvertibleError, match="without running statistics"):
        convert_ann(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), QCFS(4)), torch.rand(3, 2))
    with pytest.raises(NotConvertibleError, match="qffs_if needs"):
        convert_ann(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.rand(1, 2), neuron="qffs_if")
    with pytest.raises(ArgumentError, match="example"):
        convert_ann(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    with pytest.raises(ArgumentError, match="steps"):
        convert_ann(two_layers(), steps=0)
    with pytest.raises(ArgumentError, match="levels"):
        QCFS(0)
    dead = QCFS()
    dead.scale.data.fill_(-1.0)
    with pytest.raises(ArgumentError, match="must stay positive"):
        dead(torch.rand(2))
    assert isinstance(QFFSIF(), nn.Module)


@pytest.mark.parametrize("neuron", ["qcfs_if", "qffs_if"])
def test_conversions_are_files(neuron: Literal["qcfs_if", "qffs_if"], tmp_path: Path) -> None:
    model = ranvier.create_model("vgg16_qcfs", layers=[8, "A", 8], hidden=16, img_size=16, start=1.0).eval()
    done = convert_ann(model, steps=9, neuron=neuron)
    save_ann_conversion(done, tmp_path / "snn", {"from": "here"})
    again = load_ann_conversion(tmp_path / "snn")
    assert ann_conversion_notes(tmp_path / "snn") == {"from": "here"}
    assert (again.thresholds, again.steps, again.neuron, again.input_steps) == (
        done.thresholds, 9, neuron, 4 if neuron == "qffs_if" else None,
    )  # fmt: skip
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(again.net(x), done.net(x)) and again.net(x).shape == (9, 3, 10)
    (tmp_path / "snn" / "snn.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_ann_conversion(tmp_path / "snn")
    with pytest.raises(CheckpointError, match="holds no snn"):
        load_ann_conversion(tmp_path)
    with pytest.raises(ArgumentError, match="rebuilt"):
        save_ann_conversion(convert_ann(nn.Sequential(nn.Linear(2, 2), QCFS()), torch.rand(1, 2)), tmp_path)
