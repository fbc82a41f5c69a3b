"""Lemaire 2022, the bit-serial twin, and all models beside each other."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import Report, count, energy
from ranvier.measure.bits import one_bits
from ranvier.measure.energy.lemaire import linear_access, piecewise_access
from ranvier.neurons import IF, LIF

from .nets import Attention, Threshold, spikes

T, N = 4, 256

WORKED = energy.Layer(
    inputs=N, outputs=N, output_channels=N, weights=N * N, macs=N * N, spikes_in=102.4, spikes_out=102.4, T=T
)


class Net(nn.Module):
    """A layer with its neurons on `[T, B, ...]`."""

    def __init__(self, layer: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.layer, self.neuron = layer, neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]))


def exactly(rate: float, *shape: int) -> Tensor:
    x = torch.zeros(math.prod(shape))
    x[torch.randperm(len(x))[: round(rate * len(x))]] = 1
    return x.view(shape)


def test_worked_values_of_a_spiking_layer() -> None:
    """Linear 256→256, T=4, rates 0.1, by hand from the equations."""
    found = energy.spiking_layer_pj(WORKED)
    assert found == {
        "operations": pytest.approx(6010.88, rel=1e-12),
        "addressing": pytest.approx(2621.44, rel=1e-12),
        "memory.weights": pytest.approx(26214.4 * (1.09e-5 * 65536 * 32 + 13.2), rel=1e-12),
        "memory.bias": pytest.approx(1024 * (1.09e-5 * 256 * 32 + 13.2), rel=1e-12),
        "memory.potentials": pytest.approx(54476.8 * (1.09e-5 * 256 * 32 + 13.2), rel=1e-12),
        "memory.events": pytest.approx(204.8 * 13.2, rel=1e-12),
    }
    printed = {
        "memory.weights": 945263.9,
        "memory.bias": 13608.2,
        "memory.potentials": 723958.1,
        "memory.events": 2703.4,
    }
    assert {name: round(found[name], 1) for name in printed} == printed


def test_worked_values_of_the_same_formal_layer() -> None:
    found = energy.dense_layer_pj(WORKED)
    assert found["operations"] == pytest.approx(209740.8, rel=1e-12)
    assert found["addressing"] == pytest.approx(512 * 0.1)
    assert round(found["memory.weights"], 1) == 2363159.8
    assert {round(found[f"memory.{kind}"], 2) for kind in ("input", "bias", "output")} == {3402.06}


def test_worked_values_of_convolutions() -> None:
    """3×3 of stride 2, 8 to 16 channels, 8×8 to 4×4, six spikes in and five out, two steps."""
    layer = energy.Layer(
        inputs=512, outputs=256, output_channels=16, weights=1152, macs=18432, kernel=(3, 3), stride=(2, 2),
        fan_channels=16, spikes_in=6, spikes_out=5, T=2, leaky=False,
    )  # fmt: skip
    found = energy.spiking_layer_pj(layer)
    assert found["operations"] == pytest.approx((6 * 2 * 2 * 16 + 2 * 256 + 5) * 0.1)
    assert found["addressing"] == pytest.approx(6 * (2 * 3.2 + 9 * 16 * 0.1))
    assert found["memory.weights"] == pytest.approx(6 * 144 * linear_access(1152))
    assert found["memory.potentials"] == pytest.approx(2 * (6 * 144 + 512) * linear_access(256))
    assert found["memory.bias"] == pytest.approx(512 * linear_access(16))
    dense = energy.dense_layer_pj(layer)
    assert dense["operations"] == pytest.approx(18432 * 3.2 + 256 * 0.1)
    assert dense["memory.input"] == pytest.approx(18432 * linear_access(512))
    assert dense["addressing"] == pytest.approx((512 + 256 + 16 * 9) * 0.1)


@pytest.mark.parametrize(
    ("size", "pj"), [(8 * 1024, 10), (32 * 1024, 20), (1024**2, 100), (4 * 1024, 5), (20 * 1024, 15), (0, 0)]
)
def test_piecewise_memory(size: int, pj: float) -> None:
    assert piecewise_access(size / 4, 32) == pytest.approx(pj)
    assert piecewise_access(2 * 1024**2 / 4) > 100


@pytest.mark.parametrize("bias", [False, True])
def test_a_measured_layer_is_charged_as_worked(bias: bool) -> None:
    report = count(Net(nn.Linear(N, N, bias=bias), LIF()), exactly(0.1, T, 5, N), time_first=True)
    [row] = report.rows
    assert row.spikes_out is not None
    layer = energy.Layer(N, N, N, N * N, N * N, spikes_in=102.4, spikes_out=row.spikes_out, T=T, bias=bias)
    found = energy.lemaire2022(report)
    assert found.breakdown == pytest.approx(energy.spiking_layer_pj(layer))
    assert (found.kind, found.acs, found.macs) == ("lemaire2022", pytest.approx(26214.4), 0)
    small = energy.lemaire2022(report, memory="piecewise")
    assert small.breakdown["memory.weights"] == pytest.approx(26214.4 * piecewise_access(N * N))


def test_measured_convolutions_with_groups_and_without_leak() -> None:
    conv = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
    report = count(Net(conv, IF()), exactly(0.1, 2, 5, 8, 8, 8), time_first=True)
    [row] = report.rows
    assert (row.kernel, row.stride, row.channels, row.fan_channels) == ((3, 3), (2, 2), 16, 8)
    layer = energy.Layer(
        512, 256, 16, 576, 9216, kernel=(3, 3), stride=(2, 2), fan_channels=8, T=2, leaky=False,
        spikes_in=row.input.nonzero, spikes_out=row.spikes_out or 0,
    )  # fmt: skip
    assert energy.lemaire2022(report).breakdown == pytest.approx(energy.spiking_layer_pj(layer))


def test_real_input_is_formal_in_every_step() -> None:
    net = ranvier.create_model("spiking_conv_net", T=4)
    report = count(net, torch.rand(2, 1, 28, 28))
    every, once = energy.lemaire2022(report), energy.lemaire2022(report, stem_once=True)
    stem = every.layers[0]
    assert stem.op_class == "MAC" and stem.ops == report.rows[0].macs_padded
    assert stem.total_pj == pytest.approx(4 * once.layers[0].total_pj)
    assert {layer.op_class for layer in every.layers[1:]} == {"AC"}


def test_bit_serial_of_a_measured_layer() -> None:
    """All activations are 0, 5 or 10 of 15, so half of the bits of a fired neuron are ones."""
    x = torch.zeros(3, 2, N)
    x[0, 0, :102] = x[1, 0, :51] = x[0, 1, 7] = x[1, 1, 7] = x[2, 1, 7] = 1  # means of 1/3, 2/3 and 1
    report = count(Net(nn.Linear(N, N, bias=False), LIF()), x, time_first=True, activation_bits=4)
    ones = (51 * 2 + 51 * 2 + 4) / (2 * N * 4)
    assert report.rows[0].input.one_bits == pytest.approx(ones)
    found = energy.bit_serial(report, 4)
    assert found.total_pj == pytest.approx(N * N * 4 * ones * 0.9)
    assert found.kind == "bit_serial"


def test_worked_values_of_the_bit_serial_twin() -> None:
    report = count(Net(nn.Linear(N, N, bias=False), LIF()), exactly(0.1, T, 5, N), time_first=True)
    assert energy.bit_serial(report, 4, ones=0.4).total_pj == pytest.approx(94371.84, rel=1e-12)
    assert energy.bit_serial(report, 4, ones=0.4, compute="int8").total_pj == pytest.approx(3145.728, rel=1e-12)
    charged = energy.bit_serial(report, 4, ones=0.4, memory="step").breakdown
    assert charged["memory.weights"] == pytest.approx(817889.28, rel=1e-12)
    assert charged["memory.input"] == charged["memory.output"] == pytest.approx(N * 4 * 3.12)
    with pytest.raises(ArgumentError, match="activation_bits"):
        energy.bit_serial(report)
    with pytest.raises(ArgumentError, match="ones"):
        energy.bit_serial(report, ones=1.5)
    with pytest.raises(ArgumentError, match="bits"):
        energy.bit_serial(report, 0, ones=0.5)
    with pytest.raises(ArgumentError, match="activation_bits"):
        count(nn.Linear(2, 2), torch.rand(1, 2), activation_bits=99)


def test_one_bits_of_known_codes() -> None:
    assert one_bits(torch.tensor([0.0, 1.0, 2.0, -3.0]), 2) == (4, 8)
    assert one_bits(torch.zeros(2, 3), 4) == (0, 24)
    assert one_bits(torch.ones(2, 3), 8) == (48, 48)
    assert one_bits(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 1, T=2) == (1, 2)


def compared(net: nn.Module, x: Tensor) -> Report:
    return count(net, x, activation_bits=4)


def test_every_model_has_its_block() -> None:
    report = compared(ranvier.create_model("spikformer", img_size=8, in_channels=1, T=2), torch.rand(2, 1, 8, 8))
    found = energy.all_models(report)
    assert list(found) == ["paper", "event", "tiled", "lemaire2022", "bit_serial"] == list(energy.ENERGY_MODEL_TITLES)
    for name, estimate in found.items():
        document = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
        assert document["total_pj"] > 0, name
        assert sum(document["breakdown"].values()) == pytest.approx(document["total_pj"])
        assert min(document["breakdown"].values()) >= 0 and document["constants"]
    assert found["event"].constants["flow"] == "event" and found["tiled"].constants["bit_pj"] == 3.12
    with pytest.raises(ArgumentError, match="did you mean 'tiled'"):
        energy.all_models(report, ["tilde"])
    assert list(energy.all_models(report, ["paper"])) == ["paper"]


def test_kinds_never_share_a_table() -> None:
    report = compared(Net(nn.Linear(4, 4), LIF()), torch.rand(1, 4).expand(3, -1)[None].transpose(0, 1))
    with pytest.raises(ArgumentError, match="never share a table"):
        energy.table({"a": energy.lemaire2022(report), "b": energy.paper(report)})  # type: ignore[dict-item]
    assert energy.table({"a": energy.lemaire2022(report)}).rows()[0][0] == "a"
    with pytest.raises(ArgumentError, match="linear"):
        energy.lemaire2022(report, memory="cubic")


def test_attention_is_charged_as_events() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.neuron, self.attention = nn.Linear(5, 5, bias=False), Threshold(), Attention()
            nn.init.eye_(self.embed.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(self.neuron(self.embed(x)))

    report = count(Net(), spikes(3, 2, 3, 2, 7, 5, rate=0.4), time_first=True)
    found = energy.lemaire2022(report)
    assert [layer.op_class for layer in found.layers] == ["AC"] * 3
    assert found.layers[1].ops == pytest.approx(report.rows[1].synops)
    assert any("products" in note for note in found.assumptions)
