from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import HealthReport, calibrate_gain, health
from ranvier.neurons import IF, LIF, PLIF, PSN


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", "reference")


class Net(nn.Module):
    """[T, B, 6] -> linear -> lif1 -> linear -> lif2 -> [T, B, 4]."""

    def __init__(self, surrogate: object = "sigmoid") -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 32), LIF(surrogate=surrogate)  # pyright: ignore
        self.fc2, self.lif2 = nn.Linear(32, 32), PLIF(surrogate=surrogate)  # pyright: ignore
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.lif2(self.fc2(self.lif1(self.fc1(x))))))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 16, 6)


@pytest.fixture
def net(x: Tensor) -> Net:
    net = Net()
    assert calibrate_gain(net, x).reached
    return net


def kinds(report: HealthReport) -> dict[str, list[str]]:
    return {layer.name: [p.kind for p in layer.problems] for layer in report.layers if layer.problems}


def test_a_net_that_fires_is_healthy(net: Net, x: Tensor) -> None:
    report = health(net, x)
    assert report.healthy and "healthy" in str(report).splitlines()[-1]
    assert [layer.name for layer in report.layers] == ["lif1", "lif2"]
    assert [layer.neuron for layer in report.layers] == ["LIF", "PLIF"]
    net.eval()
    spikes = net.lif1(net.fc1(x))
    first = health(net, (x, torch.zeros(16, dtype=torch.long))).layers[0]
    assert first.rate == pytest.approx(spikes.mean().item())
    assert first.silent == pytest.approx((spikes.sum((0, 1)) == 0).float().mean().item())
    assert first.input_mean == pytest.approx(net.fc1(x).mean().item(), abs=1e-6)
    assert first.gradient is not None and first.gradient > 0


def test_silence_and_what_it_does_behind(net: Net, x: Tensor) -> None:
    with torch.no_grad():
        net.fc1.weight.mul_(1e-3)
        net.fc1.bias.zero_()
        net.fc2.bias.zero_()
    report = health(net, x)
    first, second = report.layers
    assert first.rate == 0 and first.silent == 1
    assert "too weak" in first.problems[0].cause and "calibrate_gain" in first.problems[0].remedy
    assert second.problems[0].kind == "silent"
    assert "'lif1' before it is silent" in second.problems[0].cause and "'lif1'" in second.problems[0].remedy
    assert "lif1 is silent" in str(report)


def test_an_input_that_is_never_positive(net: Net, x: Tensor) -> None:
    with torch.no_grad():
        net.fc2.bias.fill_(-100.0)
    assert "never positive" in health(net, x).layers[1].problems[0].cause


def test_saturation(net: Net, x: Tensor) -> None:
    with torch.no_grad():
        net.fc2.bias.fill_(50.0)
    report = health(net, x)
    assert kinds(report)["lif2"][0] == "saturated" and report.layers[1].saturated == 1
    assert "thresholds" in report.layers[1].problems[0].cause


def test_partly_silent(x: Tensor) -> None:
    net = Net()
    assert calibrate_gain(net, x, (0.3, 0.5)).layers[0].reached
    with torch.no_grad():
        net.fc1.weight[:24] = 0
        net.fc1.bias[:24] = 0
    report = health(net, x)
    assert kinds(report)["lif1"] == ["partly silent"]
    assert report.layers[0].silent == pytest.approx(0.75, abs=0.1)


def test_gradient_that_dies_in_the_surrogate(x: Tensor) -> None:
    net = Net(surrogate={"type": "rectangle", "width": 1e-4})
    calibrate_gain(net, x)
    report = health(net, x)
    assert kinds(report)["lif2"] == ["gradient-dead"]
    second, first = report.layers[1].problems[0], report.layers[0].problems[0]
    assert "surrogate 'rectangle' is zero" in second.cause and "wider surrogate" in second.remedy
    assert "already zero" in first.cause
    assert {"fc1.weight", "fc2.weight"} <= set(report.dead_parameters)
    assert "head.weight" not in report.dead_parameters and not report.healthy


def test_a_layer_that_nobody_uses(x: Tensor) -> None:
    class Detached(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lif2(self.fc2(self.lif1(self.fc1(x)).detach())))

    net = Detached()
    calibrate_gain(net, x)
    report = health(net, x)
    assert "no path" in report.layers[0].problems[0].cause
    assert set(report.dead_parameters) == {"fc1.weight", "fc1.bias"}


def test_numbers_that_are_not_finite(net: Net, x: Tensor) -> None:
    with torch.no_grad():
        net.fc2.weight[0, 0] = float("nan")
    assert "not finite" in kinds(health(net, x))["lif2"]
    with pytest.raises(ArgumentError, match="not finite"):
        health(net, x * float("inf"))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.lif, self.head = LIF(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.lif(self.norm(self.fc(x).flatten(0, 1)).unflatten(0, x.shape[:2]))))


def facts(net: nn.Module) -> Iterator[object]:
    for name, t in net.state_dict().items():
        yield name, t.clone().tolist()
    for name, p in net.named_parameters():
        yield name, None if p.grad is None else p.grad.clone().tolist()
    for name, module in net.named_modules():
        yield name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks)
    yield torch.get_rng_state().tolist()


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool, x: Tensor) -> None:
    net = Normed().train(training)
    net.fc.eval()
    net(x).sum().backward()
    before = list(facts(net))
    health(net, x)
    assert list(facts(net)) == before
    with pytest.raises(RuntimeError, match="meant"):
        health(net, x, loss=lambda _: (_ for _ in ()).throw(RuntimeError("meant")))
    with pytest.raises(RuntimeError):
        health(net, x[..., :5])
    assert list(facts(net)) == before
    copy.deepcopy(net)


def test_a_carried_stream_is_not_disturbed(x: Tensor) -> None:
    net = Net().eval()
    whole = net(x)
    with torch.no_grad(), ranvier.carry(net):
        first = net(x[:2])
        report = health(net, x)
        assert report.layers[0].gradient is not None
        second = net(x[2:])
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_a_neuron_that_does_not_stream_is_looked_at_too(x: Tensor) -> None:
    net = nn.Sequential(nn.Linear(6, 8), PSN(steps=6), nn.Linear(8, 3))
    assert calibrate_gain(net, x).reached
    assert health(net, x).healthy


def test_one_neuron_called_twice_and_the_report_as_json(x: Tensor) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.neuron = nn.Linear(6, 6), IF()

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.fc(self.neuron(self.fc(x))))

    report = health(Shared(), x, loss=lambda y: y.mean())
    assert len(report.layers) == 1
    assert json.loads(json.dumps(report.to_dict()))["layers"][0]["name"] == "neuron"


def test_bad_arguments(x: Tensor) -> None:
    with pytest.raises(ArgumentError, match="no neurons"):
        health(nn.Linear(6, 2), x)
    with pytest.raises(ArgumentError, match="pair"):
        health(Net(), "x")  # pyright: ignore
    with pytest.raises(ArgumentError, match="at least one sample"):
        health(Net(), x[:, :0])
    with pytest.raises(ArgumentError, match="target"):
        calibrate_gain(Net(), x, (0.5, 0.2))
    with pytest.raises(ArgumentError, match="rounds"):
        calibrate_gain(Net(), x, rounds=0)
    with pytest.raises(ArgumentError, match="no neurons"):
        calibrate_gain(nn.Linear(6, 2), x)


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("target", [(0.05, 0.3), (0.2, 0.25)])
def test_calibration_brings_every_layer_into_the_range(factor: float, target: tuple[float, float], x: Tensor) -> None:
    net = Net()
    with torch.no_grad():
        for fc in (net.fc1, net.fc2):
            fc.weight.mul_(factor)
            fc.bias.mul_(factor)
    report = calibrate_gain(net, x, target)
    assert report.reached
    net.train(False)
    for layer, seen in zip(report.layers, health(net, x).layers, strict=True):
        assert target[0] <= layer.rate_after <= target[1]
        assert seen.rate == pytest.approx(layer.rate_after)
    again = calibrate_gain(net, x, target)
    assert all(layer.gain == 1 and layer.scaled is None for layer in again.layers)


def test_calibration_scales_the_norm_and_nothing_else(x: Tensor) -> None:
    net = Normed()
    before = list(facts(net))
    report = calibrate_gain(net, x, (0.1, 0.15))
    assert report.layers[0].scaled == "norm" and report.reached
    changed = [a[0] for a, b in zip(before, facts(net), strict=True) if a != b]  # pyright: ignore
    assert changed == ["norm.weight"]  # the bias is zero and stays so
    assert net.norm.weight.tolist() == pytest.approx([report.layers[0].gain] * 8)


def test_calibration_with_a_shortcut_and_what_it_cannot_reach(x: Tensor) -> None:
    class Residual(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 6), LIF()
            self.fc2, self.lif2, self.lif3 = nn.Linear(6, 6), LIF(), LIF(threshold=40.0)
            self.scale = scale

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.lif1(self.fc1(x))
            return self.lif3(self.lif2(self.scale * x + self.fc2(spikes)))

    report = calibrate_gain(Residual(0.5), x, rounds=8)
    assert [layer.reached for layer in report.layers] == [True, True, False]
    assert report.layers[1].scaled in (None, "fc2")
    assert "no trainable" in report.layers[2].note and not report.reached


def test_calibration_of_a_registered_model() -> None:
    net = ranvier.create_model("spiking_conv_net", img_size=8, in_channels=1, num_classes=4, channels=(4, 8), hidden=16)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.mul_(0.05)
    images = torch.rand(16, 1, 8, 8)
    assert not health(net, images).healthy
    report = calibrate_gain(net, images)
    assert report.reached and all(layer.rate_before == 0 for layer in report.layers)
    assert health(net, (images, torch.arange(16) % 4)).healthy
