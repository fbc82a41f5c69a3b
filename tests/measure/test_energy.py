from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import Report, count, energy
from ranvier.measure.energy import neuron_ops
from ranvier.neurons import LIF, IntegerLIF

from .nets import Attention, Threshold, spikes

T, N = 4, 256


class Layer(nn.Module):
    """A linear layer and a neuron on `[T, B, 256]`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.neuron = nn.Linear(N, N, bias=False), LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.fc(x))


@pytest.fixture
def report() -> Report:
    """Rate exactly 0.1: 512 of the 5 · 4 · 256 inputs."""
    x = torch.zeros(T * 5 * N)
    x[torch.randperm(len(x))[:512]] = 1
    return count(Layer(), x.view(T, 5, N), time_first=True)


def nj(picojoules: float) -> float:
    return picojoules / 1e3


def test_worked_values_of_a_measured_layer(report: Report) -> None:
    [row] = report.rows
    assert row.synops == pytest.approx(26214.4, rel=1e-12)
    compute = energy.as_built(report, neurons=False)
    assert nj(compute.total_pj) == pytest.approx(23.59296, rel=1e-12)
    assert (compute.acs, compute.macs) == (pytest.approx(26214.4), 0)

    event = energy.as_built(report, memory="step", flow="event", neurons=False).breakdown
    assert nj(event["ac"]) == pytest.approx(23.59296, rel=1e-12)
    assert nj(event["memory.weights"]) == pytest.approx(2617.245696, rel=1e-12)
    assert nj(event["memory.membrane"]) == pytest.approx(204.47232, rel=1e-12)
    assert nj(event["memory.input"]) == pytest.approx(102.4 * 8 * 3.12 / 1e3, rel=1e-12)
    assert event["addressing"] == pytest.approx(26214.4 * 0.1)
    tiled = energy.as_built(report, memory="step", flow="tiled", neurons=False).breakdown
    assert nj(tiled["memory.weights"]) == pytest.approx(6543.11424, rel=1e-12)
    assert nj(tiled["memory.membrane"]) == pytest.approx(204.47232, rel=1e-12)

    narrow = energy.Widths(weight=4)
    weights = {
        flow: nj(energy.as_built(report, memory="step", flow=flow, widths=narrow).breakdown["memory.weights"])
        for flow in ("event", "tiled")
    }
    assert weights == {"event": pytest.approx(327.155712, rel=1e-12), "tiled": pytest.approx(817.88928, rel=1e-12)}
    reloaded = energy.as_built(report, memory="step", weights_resident=False).breakdown
    assert reloaded["memory.weights"] == pytest.approx(T * tiled["memory.weights"])


def test_worked_values_in_closed_form() -> None:
    macs = N * N
    assert nj(energy.dense_pj(macs)) == pytest.approx(301.4656, rel=1e-12)
    assert nj(energy.spiking_pj(macs, T, 0.1)) == pytest.approx(23.59296, rel=1e-12)
    assert nj(energy.bit_serial_pj(macs, 4, 0.4)) == pytest.approx(94.37184, rel=1e-12)
    assert nj(energy.bit_serial_pj(macs, 4, 0.4, energy.op_energy("int8").add)) == pytest.approx(3.145728, rel=1e-12)


def test_the_same_layer_as_ann() -> None:
    report = count(nn.Linear(N, N), torch.randn(3, N))
    assert nj(energy.as_built(report).total_pj) == pytest.approx(301.4656, rel=1e-12)


def test_event_updates_of_the_membrane(report: Report) -> None:
    bits = energy.as_built(report, membrane="event").traffic_bits
    assert bits["event"]["membrane"] == pytest.approx(2 * (26214.4 + T * N) * 32)
    assert bits["tiled"]["membrane"] == 2 * T * N * 32


def test_neurons_are_charged_by_class(report: Report) -> None:
    [neuron] = report.neurons
    charged = energy.as_built(report).breakdown["neuron"]
    assert charged == pytest.approx(T * N * (3.7 + 3 * 0.9) + neuron.spikes * 0.9)
    assert neuron_ops.priced_as(IntegerLIF) == "IntegerLIF"
    assert neuron_ops.priced_as(type("Mine", (LIF,), {})) == "LIF"
    x = torch.rand(1, 2, 4)
    unknown = energy.as_built(count(nn.Sequential(nn.Linear(4, 4), Threshold()), x, T=1, samples=2))
    assert any("Threshold" in note for note in unknown.assumptions)


def test_break_even_on_a_two_layer_mlp() -> None:
    """With memory off and equal widths, the spiking net wins exactly below T·R = B·ρ."""

    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.neuron, self.b = nn.Linear(20, 20, bias=False), Threshold(), nn.Linear(20, 10, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.neuron(self.a(x)))

    net = MLP()
    with torch.no_grad():
        net.a.weight.copy_(torch.eye(20))  # the hidden layer repeats its input: one rate everywhere
    x = torch.zeros(4 * 5, 20)
    for i, row in enumerate(x):
        row[[i % 20, (i + 7) % 20]] = 1
    report = count(net, x.view(4, 5, 20), time_first=True)
    assert [row.density for row in report.rows] == [pytest.approx(0.1)] * 2
    spiking = energy.as_built(report, neurons=False).total_pj
    macs = report.totals.macs_dense / 4
    assert spiking == pytest.approx(energy.bit_serial_pj(macs, 4, 0.1))
    assert spiking < energy.bit_serial_pj(macs, 4, 0.11) and spiking > energy.bit_serial_pj(macs, 4, 0.09)
    assert energy.break_even_rate(4, 4, 0.1) == pytest.approx(0.1)


@given(st.integers(1, 16), st.integers(1, 16), st.floats(0, 1), st.floats(0, 1))
def test_break_even_is_where_t_r_equals_b_rho(steps: int, bits: int, rate: float, ones: float) -> None:
    difference = energy.spiking_pj(1e6, steps, rate) - energy.bit_serial_pj(1e6, bits, ones)
    gap = steps * rate - bits * ones
    assert difference == pytest.approx(1e6 * 0.9 * gap, abs=1e-3)
    assert energy.spiking_pj(1, steps, 0.5) == pytest.approx(0.9 * steps * 0.5)


def test_counts_and_zeros_by_choice() -> None:
    x = torch.tensor([[0.0, 2.0, 3.0, 0.0]])
    report = count(nn.Linear(4, 5), x)
    assert report.rows[0].input_class == "integer"
    assert energy.as_built(report).total_pj == pytest.approx(20 * 4.6)
    assert energy.as_built(report, zero_skip=True).total_pj == pytest.approx(10 * 4.6)
    assert energy.as_built(report, counts="unrolled").total_pj == pytest.approx(25 * 0.9)


def test_stem_once() -> None:
    report = count(ranvier.create_model("spiking_conv_net", T=4), torch.rand(1, 1, 28, 28))
    stem = report.rows[0].macs_dense
    every, once = energy.as_built(report), energy.as_built(report, stem_once=True)
    assert every.total_pj - once.total_pj == pytest.approx(stem * 0.75 * 4.6)


def test_unfolded_norm_is_charged() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Threshold(), nn.BatchNorm1d(4))
    report = count(net, torch.randn(3, 4))
    assert energy.as_built(report).breakdown["norm"] == pytest.approx(4 * 4.6)


@pytest.mark.parametrize(
    ("number_format", "add", "mac", "interpolated"),
    [
        ("fp32", 0.9, 4.6, False), ("fp16", 0.4, 1.5, False), ("int8", 0.03, 0.23, False), ("int32", 0.1, 3.2, False),
        ("int20", 0.065, 0.265 + 2.9 * (400 - 64) / 960, True), ("fp24", 0.65, 1.75 + 2.6 * 320 / 768, True),
    ],
)  # fmt: skip
def test_operation_energies(number_format: str, add: float, mac: float, interpolated: bool) -> None:
    found = energy.op_energy(number_format)
    assert (found.add, found.mac) == (pytest.approx(add), pytest.approx(mac))
    assert found.interpolated is interpolated


@given(st.integers(2, 64))
def test_wider_integers_cost_more(bits: int) -> None:
    found, wider = energy.op_energy(f"int{bits}"), energy.op_energy(f"int{bits + 1}" if bits < 64 else "int64")
    assert 0 < found.add <= wider.add and 0 < found.mul <= wider.mul


def test_memory_presets() -> None:
    assert {name: round(value, 2) for name, value in energy.BIT_PJ.items()} == {
        "sram_8kb": 0.16, "sram_32kb": 0.31, "sram_1mb": 1.56, "dram_low": 20.31, "dram_high": 40.62, "step": 3.12,
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"compute": "fp4"}, {"compute": "int"}, {"memory": "sram"}, {"memory": -1.0}, {"flow": "tile"},
        {"counts": "ac"}, {"membrane": "never"},
    ],
)  # fmt: skip
def test_bad_options_are_named(report: Report, options: dict) -> None:
    with pytest.raises(ArgumentError):
        energy.as_built(report, **options)


def test_spikingformer_identity() -> None:
    macs, acs = 0.347329512e9, 6.51754094e9
    assert macs == 4 * 86_704_128 + 513_000
    assert energy.recipe_pj(macs, acs) / 1e9 == pytest.approx(7.4635, abs=5e-5)
    conv = count(nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.rand(1, 3, 224, 224))
    assert conv.rows[0].macs_padded == 86_704_128


def test_paper_recipe_layer_by_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.n1 = nn.Conv2d(1, 2, 3, padding=1, bias=False), Threshold()
            self.body, self.n2, self.head = nn.Conv2d(2, 2, 3, padding=1), Threshold(), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            t, b = x.shape[:2]
            y = self.n2(self.body(self.n1(self.stem(x.flatten(0, 1)) * 5)))
            return self.head(y.flatten(1)).unflatten(0, (t, b))

    report = count(Net(), torch.rand(1, 2, 1, 4, 4).expand(3, -1, -1, -1, -1))
    found = energy.paper(report)
    rate = report.rows[1].density
    assert 0 < rate < 1
    assert {layer.name: (layer.op_class, layer.ops) for layer in found.layers} == {
        "stem": ("MAC", 3 * 16 * 2 * 9),
        "body": ("AC", pytest.approx(3 * (16 * 2 * 2 * 9 + 32) * rate)),
        "head": ("MAC", 32 * 10 + 10),
    }
    assert found.total_pj == pytest.approx(energy.recipe_pj(found.macs, found.acs))
    renamed = energy.paper(report, first="body", classifier="head")
    assert renamed.layers[0].op_class == "AC" and renamed.layers[1].op_class == "MAC"
    with pytest.raises(ArgumentError, match="did you mean 'stem'"):
        energy.paper(report, first="stam")


def test_paper_recipe_of_attention() -> None:
    """T·heads·N·d²·(min(r_k, r_v) + r_q), the rates those of the neurons."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.neuron, self.attention = nn.Linear(5, 5, bias=False), Threshold(), Attention()
            nn.init.eye_(self.embed.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(self.neuron(self.embed(x)))

    x = spikes(3, 2, 3, 2, 7, 5, rate=0.4)
    x[:, :, 1] *= spikes(3, 2, 2, 7, 5, rate=0.5)
    r_q, r_k, r_v = (x[:, :, i].mean().item() for i in range(3))
    assert r_k < r_v
    products = energy.paper(count(Net(), x, time_first=True)).layers[1:]
    assert [layer.op_class for layer in products] == ["AC", "AC"]
    assert sum(layer.ops for layer in products) == pytest.approx(3 * 2 * 7 * 5 * 5 * (min(r_k, r_v) + r_q))


def test_accountings_never_share_a_table(report: Report) -> None:
    built, printed = energy.as_built(report), energy.paper(report)
    assert isinstance(built, energy.AsBuiltEnergy) and isinstance(printed, energy.PaperEnergy)
    with pytest.raises(ArgumentError, match="never share a table"):
        energy.table({"a": built, "b": printed})  # type: ignore[dict-item]
    with pytest.raises(ArgumentError, match="not summed"):
        _ = built + printed
    with pytest.raises(ArgumentError, match="not summed"):
        sum([built.total_pj, built])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="different constants"):
        energy.table({"a": built, "b": energy.as_built(report, compute="fp16")})
    with pytest.raises(ArgumentError):
        energy.table({})
    rows = energy.table({"a": built, "b": energy.as_built(report, neurons=False)}).rows()
    assert [name for name, *_ in rows] == ["b", "a"]


@pytest.mark.parametrize("memory", [None, "step", 0.5])
@pytest.mark.parametrize("flow", ["event", "tiled"])
def test_parts_sum_to_the_total(memory: str | float | None, flow: str) -> None:
    report = count(ranvier.create_model("spiking_conv_net"), torch.rand(2, 1, 28, 28) * 2)
    found = energy.as_built(report, memory=memory, flow=flow)  # type: ignore[arg-type]
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert sum(document["breakdown"].values()) == pytest.approx(document["total_pj"])
    assert document["kind"] == "as_built" and all(value >= 0 for value in document["breakdown"].values())
    assert energy.paper(report).to_dict()["kind"] == "paper"
