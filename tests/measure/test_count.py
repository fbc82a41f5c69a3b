from __future__ import annotations

import json
import math

import pytest
import torch
from tests.warm import with_torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import Report, count
from ranvier.neurons import LIF, IntegerLIF

from .nets import Attention, Threshold, spikes


class Sequence(nn.Module):
    """`[T, B, N]` through linear layers and neurons."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def fields(report: Report) -> list[tuple[str, str, float]]:
    return [(row.name, row.input_class, row.synops) for row in report.rows]


def test_linear_layers_of_a_sequence() -> None:
    x = spikes(4, 3, 10)
    net = Sequence(nn.Linear(10, 7), LIF(), nn.Linear(7, 5, bias=False))
    with torch.no_grad():
        net.layers[0].weight.fill_(1.0)
        hidden = net.layers[1](net.layers[0](x))
    report = count(net, x, time_first=True)
    first, second = report.rows
    assert (report.T, report.samples) == (4, 3)
    assert first.synops == pytest.approx(x.sum().item() * 7 / 3)
    assert second.synops == pytest.approx(hidden.sum().item() * 5 / 3)
    assert first.spikes_out == pytest.approx(hidden.sum().item() / 3)
    assert (first.macs_dense, first.weights, first.outputs, first.bias) == (4 * 70, 70, 28, True)
    assert (second.macs_dense, second.weights, second.bias, second.spikes_out) == (4 * 35, 35, False, None)
    assert first.density == pytest.approx(x.mean().item())
    [neuron] = report.neurons
    assert neuron.density == pytest.approx(tuple(hidden.mean((1, 2)).tolist()))
    assert (neuron.name, neuron.neuron, neuron.neurons, neuron.steps) == ("layers.1", "LIF", 7, 4)
    assert neuron.mean_count == pytest.approx(hidden.mean().item())
    assert neuron.silent == pytest.approx(float((hidden.sum((0, 1)) == 0).double().mean()))


@pytest.mark.parametrize(
    "form", ["linear", "strided", "matmul", "einsum", "functional", "transposed", "conv1x1", "baddbmm"]
)
def test_a_layer_counts_the_same_however_it_is_written(form: str) -> None:
    weight = nn.Parameter(torch.randn(6, 8))
    bias = nn.Parameter(torch.randn(6))

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = weight, bias

        def forward(self, x: Tensor) -> Tensor:
            match form:
                case "matmul":
                    return torch.matmul(x, self.weight.t()) + self.bias
                case "einsum":
                    return torch.einsum("tbni,oi->tbno", x, self.weight) + self.bias
                case "transposed":
                    return (self.weight @ x.transpose(-1, -2)).transpose(-1, -2)
                case "conv1x1":
                    return F.conv1d(x.flatten(0, 1).transpose(1, 2), self.weight.unsqueeze(-1))
                case "baddbmm":
                    flat = x.flatten(0, 1)
                    return torch.baddbmm(self.bias, flat, self.weight.t().expand(len(flat), 8, 6))
                case "strided":
                    return F.linear(x.transpose(0, 1), self.weight, self.bias)
                case _:
                    return F.linear(x, self.weight, self.bias)

    x = spikes(3, 2, 5, 8)
    report = count(nn.Linear(8, 6) if form == "linear" else Layer(), x, time_first=True)
    [row] = report.rows
    assert row.other is None
    assert row.synops == pytest.approx(x.sum().item() * 6 / 2)
    assert (row.macs_dense, row.weights, row.input.elements) == (3 * 5 * 48, 48, 3 * 5 * 8)


def test_attention_products_are_exact() -> None:
    T, B, h, N, d = 3, 2, 2, 7, 5
    x = spikes(T, B, 3, h, N, d, rate=0.4)
    q, k, v = x.double().unbind(2)
    kv, qkv = count(Attention(), x, time_first=True).rows
    assert (kv.op, kv.input_class, kv.entering) == ("matmul", "binary", "binary × binary")
    assert kv.synops == kv.unrolled == pytest.approx((k.mT @ v).sum().item() / B, abs=1e-9)
    mask = ((k.mT @ v) != 0).double()
    assert qkv.synops == pytest.approx((q @ mask).sum().item() / B, abs=1e-9)
    assert qkv.unrolled == pytest.approx((q @ (k.mT @ v)).sum().item() / B, abs=1e-9)
    assert kv.macs_dense == qkv.macs_dense == T * h * N * d * d
    assert kv.input.from_synapses is False
    assert qkv.other is not None and qkv.other.from_synapses and qkv.other.input_class == "integer"
    assert qkv.additions_only and qkv.weights == 0


def test_fused_attention_is_opened() -> None:
    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    x = spikes(2, 3, 7, 4)
    scores, mixed = count(Fused(), x).rows
    assert scores.synops == pytest.approx((x @ x.mT).sum().item() / 2)
    assert mixed.entering == "binary × real" and mixed.synops == pytest.approx(7 * x.sum().item() / 2)
    assert scores.macs_dense == mixed.macs_dense == 3 * 7 * 7 * 4


def test_counts_with_a_scale() -> None:
    net = Sequence(IntegerLIF(levels=4), nn.Linear(16, 5))
    x = torch.rand(2, 3, 16) * 1.2
    values = net.layers[0](x)
    assert {0.25, 0.5, 0.75} <= set(values.unique().tolist())
    report = count(net, x, time_first=True)
    [row] = report.rows
    assert (row.input_class, row.input.scale, row.input.max_count) == ("integer", 0.25, round(4 * values.max().item()))
    assert row.unrolled == pytest.approx(4 * values.sum().item() * 5 / 3)
    assert row.synops == pytest.approx((values != 0).sum().item() * 5 / 3)
    assert report.neurons[0].mean_count == pytest.approx(4 * values.mean().item())
    assert report.neurons[0].input_class == "integer"


def test_time_and_batches_add_up() -> None:
    net = Sequence(nn.Linear(10, 7), LIF(), nn.Linear(7, 5))
    chunks = [spikes(2, 3, 10), spikes(2, 3, 10)]
    linear = nn.Linear(10, 7)
    parts = [count(linear, x, time_first=True).totals.synops for x in chunks]
    whole = count(linear, torch.cat(chunks), time_first=True).totals.synops
    assert whole == pytest.approx(sum(parts))
    streamed = count(net, [(x, None) for x in chunks], time_first=True)
    joined = count(net, torch.cat(chunks, 1), time_first=True)
    assert fields(streamed) == [(n, c, pytest.approx(s)) for n, c, s in fields(joined)]
    assert streamed.samples == joined.samples == 6
    assert streamed.neurons[0].density == pytest.approx(joined.neurons[0].density)
    assert count(net, iter(chunks), time_first=True, max_batches=1).samples == 3


def test_stepwise_nets_count_like_whole_sequences() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.neuron, self.out = nn.Linear(10, 7), Threshold(), nn.Linear(7, 5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.out(self.neuron(self.fc(x_t))) for x_t in x])

    net = Steps()
    x = spikes(4, 4, 10) * 3
    whole = Sequence(net.fc, net.neuron, net.out)
    stepwise, at_once = count(net, x, time_first=True), count(whole, x, time_first=True)
    assert [(r.synops, r.macs_dense, r.spikes_out) for r in stepwise.rows] == [
        (r.synops, r.macs_dense, r.spikes_out) for r in at_once.rows
    ]
    assert [r.calls for r in stepwise.rows] == [4, 4]
    assert stepwise.neurons[0].density == at_once.neurons[0].density
    assert stepwise.neurons[0].silent == at_once.neurons[0].silent


def test_direct_encoded_stem_is_found() -> None:
    net = ranvier.create_model("spiking_conv_net", T=4)
    report = count(net, torch.rand(2, 1, 28, 28))
    stem, second, *_ = report.rows
    assert report.T == 4 and report.samples == 2
    assert stem.static and stem.input_class == "real"
    assert stem.macs_dense_once == stem.macs_dense / 4
    assert not second.static and second.macs_dense_once == second.macs_dense
    assert all(norm.folded for norm in report.norms)
    rate = count(ranvier.create_model("spiking_conv_net", T=4, encoder="rate"), torch.rand(2, 1, 28, 28))
    assert not rate.rows[0].static and rate.rows[0].input_class == "binary"


def test_recurrent_net_from_a_zero_state() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(4, 6, nonlinearity="relu")
            self.w = nn.Linear(6, 6, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(x.shape[1], 6)
            for x_t in x:
                h = torch.relu(self.cell(x_t, h) + self.w(h))
            return h

    report = count(Recurrent(), torch.rand(3, 2, 4), time_first=True)
    assert sorted((row.module, row.macs_dense) for row in report.rows) == [("cell", 72), ("cell", 108), ("w", 108)]
    assert all(row.other is None and row.calls == 3 for row in report.rows)


def test_weights_made_from_weights_are_not_layers() -> None:
    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4, 8))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.a @ self.b)

    [row] = count(Merged(), spikes(5, 8)).rows
    assert (row.op, row.macs_dense, row.other) == ("linear", 48, None)


def test_norms_that_cannot_fold_are_listed() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Threshold(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    report = count(net, torch.randn(3, 4))
    assert [(norm.name, norm.elements, norm.folded) for norm in report.norms] == [("1", 4, True), ("3", 4, False)]


def test_folding_a_norm_keeps_the_counts_and_removes_it() -> None:
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    norm.train()(torch.randn(8, 3, 4, 4) * 2 + 1)
    net = nn.Sequential(conv, norm, nn.Flatten(), nn.Linear(48, 4)).eval()
    fused = nn.Sequential(fuse_conv_bn_eval(conv, norm.eval()), nn.Flatten(), net[3])
    x = spikes(2, 2, 6, 6)
    assert torch.allclose(net(x), fused(x), atol=1e-4)
    plain, folded = count(net, x), count(fused, x)
    assert [row.synops for row in plain.rows] == [row.synops for row in folded.rows]
    assert (plain.norms[0].folded, folded.norms) == (True, ())


def test_a_plain_ann_and_its_elementwise_work() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 10), nn.Softmax(-1))
    report = count(net, torch.rand(2, 3, 8, 8))
    assert [(row.name, row.op, row.input_class) for row in report.rows] == [
        ("0", "conv2d", "real"), ("4", "linear", "real"),
    ]  # fmt: skip
    assert report.neurons == ()
    assert report.elementwise == {"relu": 144.0, "avg_pool2d": 36.0, "_softmax": 10.0}
    assert report.unseen == ()


def test_hidden_multiplications_are_named() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.form = nn.Bilinear(4, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.form(x, x)

    report = count(Gate(), torch.rand(3, 4))
    assert report.rows == () and report.unseen == ("form: _trilinear",)


def test_report_is_json_ready_and_has_a_table() -> None:
    report = count(ranvier.create_model("spiking_mlp"), torch.rand(2, 1, 8, 8) * 4)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["totals"]["synops"] == report.totals.synops
    assert document["rows"][0]["entering"] == "real"
    assert report.table().row_count == len(report.rows)
    assert math.isclose(sum(row["synops"] for row in document["rows"]), report.totals.synops)


def test_counting_leaves_no_trace() -> None:
    net = ranvier.create_model("spiking_conv_net", encoder="rate").train()
    net.convs[0].eval()
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.rand(2, 1, 28, 28)
    generator = torch.random.get_rng_state()
    count(net, x)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._forward_hooks_always_called for m in net.modules())


def test_outputs_are_the_same_while_counting() -> None:
    net = ranvier.create_model("spiking_mlp").eval()
    seen: list[Tensor] = []
    net.register_forward_hook(lambda *args: seen.append(args[-1]))
    x = torch.rand(2, 1, 8, 8) * 3
    with torch.no_grad():
        expected = net(x)
    count(net, x)
    assert torch.equal(seen[0], expected) and torch.equal(seen[1], expected)


def test_hooks_go_when_the_net_fails() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    net = nn.Sequential(nn.Linear(2, 2), Broken()).train()
    with pytest.raises(ValueError, match="no"):
        count(net, torch.rand(1, 2))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert net.training
    assert count(net[0], torch.rand(1, 2)).rows


def test_a_carried_stream_is_not_touched() -> None:
    net = Sequence(nn.Linear(4, 4), LIF(tau=4.0))
    x = torch.rand(3, 2, 4)
    fresh = count(net, x, time_first=True)
    with torch.no_grad(), ranvier.carry(net) as memory:
        net(x)
        before = memory.clone()
        inside = count(net, x, time_first=True)
        assert all(
            torch.equal(*pair)
            for key, old in before.states.items()
            for pair in zip(old, memory.states[key], strict=True)
        )
    assert inside == fresh


def test_inference_mode_changes_nothing() -> None:
    net = Sequence(nn.Linear(10, 7), LIF(), nn.Linear(7, 5))
    x = spikes(4, 3, 10) * 4
    plain = count(net, x, time_first=True)
    with torch.inference_mode():
        assert count(net, x.clone(), time_first=True) == plain
        attention = count(Attention(), spikes(2, 1, 3, 1, 4, 4).clone(), time_first=True)
    assert [row.op for row in attention.rows] == ["matmul", "matmul"]


def test_a_compiled_net_counts_like_itself() -> None:
    net = nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 5))
    x = spikes(4, 10)
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        compiled(x)
    assert [row.synops for row in count(compiled, x).rows] == [row.synops for row in count(net, x).rows]


def test_counting_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from ranvier.measure import count; before = 'torch._dynamo' in sys.modules;"
        "count(torch.nn.Linear(2, 2), torch.rand(1, 2)); sys.exit(('torch._dynamo' in sys.modules) != before)"
    )
    assert with_torch().run(code).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"x": []}, "at least one batch"),
        ({"x": torch.rand(0, 4)}, "at least one sample"),
        ({"x": torch.tensor([[float("nan")] * 4])}, "finite"),
        ({"x": [1, 2]}, "int"),
        ({"x": torch.rand(1, 4), "T": 0}, "T must be"),
        ({"x": torch.rand(1, 4), "samples": 0}, "samples must be"),
        ({"x": torch.rand(1, 4), "max_batches": 0}, "max_batches"),
    ],
)
def test_bad_input_is_named(arguments: dict, word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        count(nn.Linear(4, 4), **arguments)


def test_changing_steps_are_refused() -> None:
    with pytest.raises(ArgumentError, match="time steps"):
        count(Sequence(LIF()), [torch.rand(2, 1, 4), torch.rand(3, 1, 4)], time_first=True)
    with pytest.raises(ArgumentError, match="Module"):
        count(lambda x: x, torch.rand(1))  # type: ignore[arg-type]
