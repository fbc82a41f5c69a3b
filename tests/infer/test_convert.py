"""Conversion of whole models: equal to the original, binary everywhere, verified, written and read back."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, CheckpointError
from ranvier.infer import (
    Counts,
    SpikeSynapse,
    convert,
    load_converted,
    requantize,
    save_converted,
    spike_mode,
    verify_equivalence,
)
from ranvier.layers.quant import IntSynapse, prepare_qat
from ranvier.measure import audit, count
from ranvier.neurons import Neuron

Make = Callable[..., tuple[nn.Module, Tensor]]


def entering(net: nn.Module, x: Tensor) -> dict[str, set[float]]:
    """The distinct values that enter every convolution and linear layer."""
    seen: dict[str, set[float]] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(
                lambda _, given, name=name: seen.setdefault(name, set()).update(given[0].unique().tolist())
            )
    with torch.no_grad():
        net(x)
    return seen


def test_every_model_becomes_binary_and_stays_itself(convertible: str, lively_model: Make) -> None:
    model, x = lively_model(convertible)
    before = copy.deepcopy(model.state_dict())
    done = convert(model, x)
    assert done.equivalence is not None and done.equivalence.equal and done.equivalence.samples == 6
    assert done.equivalence.max_difference < 1e-10
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    with torch.no_grad():
        y, z = model(x), done.net(x)
    assert y.std() > 0 and type(z) is Tensor
    torch.testing.assert_close(z, y, rtol=0, atol=1e-10)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in done.net.modules())
    seen = entering(done.net, x)
    analog = [name for name, values in seen.items() if values - {0.0, 1.0}]
    # The first layer takes the image; the shortcuts of Max-ResNet take membranes, as published.
    shortcuts = [n for n in analog if ".shortcut." in n and convertible == "max_resnet18"]
    assert len(analog) == 1 + len(shortcuts) and analog[0] == next(iter(seen))
    assert [name for name, _ in done.equivalence.exempt] == [n.removesuffix(".x") for n in analog]
    found = audit(done.net, x)
    assert bool(found.violations) == bool(shortcuts)


@pytest.mark.parametrize("name", ["spiking_mlp", "spiking_conv_net"])
def test_counts_stay_counts_through_dropout(name: str, lively_model: Make) -> None:
    neuron = {"type": "i_lif", "levels": 4}
    model, x = lively_model(name, neuron=neuron, **({"dropout": 0.3} if name == "spiking_mlp" else {}))
    assert any(max(values) > 1 for values in list(entering(copy.deepcopy(model), x).values())[1:])  # counts, not spikes
    done = convert(model, x)
    assert done.equivalence is not None and done.equivalence.equal
    assert [name for name, _ in done.equivalence.exempt] == [next(iter(entering(done.net, x)))]
    for values in list(entering(done.net, x).values())[1:]:
        assert values <= {0.0, 1.0}


def test_a_wrong_bias_is_found(lively_model: Make) -> None:
    model, x = lively_model("qsd_transformer_15m")
    net = convert(model, x).net
    layer = next(m for n, m in net.named_modules() if isinstance(m, SpikeSynapse) and n.startswith("down.1"))
    layer.bias += 0.5
    found = verify_equivalence(model, net, x)
    assert not found.equal and "NOT equal" in str(found)


def test_unmerged_layers_are_on_the_list(lively_model: Make) -> None:
    model, x = lively_model("qsd_transformer_15m")
    done = convert(model, x, merge=False)
    assert done.equivalence is not None and done.equivalence.equal
    inner = [name for name, _ in done.equivalence.exempt]
    assert all(part in str(inner) for part in ("depthwise", "conv2", "pointwise"))
    assert done.four_bit and not convert(model, x).four_bit


def test_without_folding_the_norms_stay(lively_model: Make) -> None:
    model, x = lively_model("sdt")
    done = convert(model, x, fold=False)
    assert any(isinstance(m, nn.BatchNorm2d) for m in done.net.modules())
    assert done.equivalence is not None and done.equivalence.equal


def test_integer_weights_stay_integers(lively_model: Make) -> None:
    model, x = lively_model("max_former_cifar", neuron={"type": "ie_lif", "levels": 3})
    prepare_qat(model.float(), 4).double().eval()
    done = convert(model, x)
    layers = [m for m in done.net.modules() if isinstance(m, SpikeSynapse)]
    assert done.four_bit and done.virtual_steps == 3 and len(layers) > 20
    for layer in layers:
        w = layer.synapse.weight
        assert layer.bits == 4 and torch.equal(w, w.round()) and w.min() >= -8 and w.max() <= 7


def test_attention_is_additions_of_integers(lively_model: Make) -> None:
    model, x = lively_model("qsd_transformer_15m")
    report = count(convert(model, x).net, x)
    products = [row for row in report.rows if row.other is not None]
    assert products and all(row.input.spikes or row.other.spikes for row in products)


@pytest.mark.parametrize("neuron", ["lif", "plif", {"type": "i_lif", "levels": 2}, {"type": "ie_lif", "levels": 8},
                                    {"type": "ni_lif", "levels": 4}, "klif", "glif"])  # fmt: skip
def test_any_neuron(neuron: str | dict[str, object], lively_model: Make) -> None:
    model, x = lively_model("spikformer", neuron=neuron)
    done = convert(model, x)
    assert done.equivalence is not None and done.equivalence.equal
    assert [name for name, _ in done.equivalence.exempt] == ["stem.stages.0.block.conv.synapse"]


def test_streams_copies_and_pickles(lively_model: Make) -> None:
    model, _ = lively_model("max_former_cifar", neuron={"type": "ie_lif", "decay": 0.25})
    x = torch.rand(4, 2, 3, 16, 16).double()
    net = convert(model, x).net
    with torch.no_grad():
        y = net(x)
        with ranvier.carry(net):
            parts = torch.cat([net(x[:1]), net(x[1:])])
        torch.testing.assert_close(parts, y, rtol=0, atol=1e-12)
        assert torch.equal(copy.deepcopy(net)(x), y)
        assert torch.equal(pickle.loads(pickle.dumps(net))(x), y)
        torch.testing.assert_close(y, model(x), rtol=0, atol=1e-10)


def test_single_precision(lively_model: Make) -> None:
    model, x = lively_model("qsd_transformer_15m")
    done = convert(model.float(), x.float(), verify=False)
    found = verify_equivalence(model, done.net, x, dtype="float32", atol=1e-4)
    assert found.dtype == "float32" and found.same_predictions == found.samples and found.max_difference <= 1e-4


@pytest.mark.parametrize("name", ["qsd_transformer_15m", "qkformer", "max_resnet18"])
def test_spike_mode_needs_no_conversion(name: str, lively_model: Make) -> None:
    model, x = lively_model(name)
    with torch.no_grad():
        y = model(x)
        with spike_mode(model, "binary"):
            torch.testing.assert_close(model(x), y, rtol=0, atol=1e-10)
            found = audit(model, x, encoder=())
        with spike_mode(model, "integer"):
            assert torch.equal(model(x), y)
        assert torch.equal(model(x), y) and not any(m._forward_hooks for m in model.modules() if isinstance(m, Neuron))
    real = [row.name for row in found.rows if row.verdict == "violation"]
    assert all("conv" in n or "depthwise" in n or "pointwise" in n for n in real)


def test_files(tmp_path: Path, lively_model: Make) -> None:
    for name, dtype in (("qsd_transformer_15m", torch.float64), ("spikformer", torch.float32)):
        model, x = lively_model(name)
        model, x = model.to(dtype), x.to(dtype)
        done = convert(model, x)
        folder = save_converted(done, tmp_path / name)
        again = load_converted(folder)
        with torch.no_grad():
            assert torch.equal(again.net(x), done.net(x))
        assert again.levels == done.levels and again.plan == done.plan
        description = json.loads((folder / "converted.json").read_text())
        assert description["equivalence"]["equal"] is True
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_four_bit_weights_take_half_a_byte(tmp_path: Path, lively_model: Make) -> None:
    model, x = lively_model("max_former_cifar")
    prepare_qat(model.float(), 4).eval()
    small = save_converted(convert(model, x.float()), tmp_path / "small") / "converted.safetensors"
    model, x = lively_model("max_former_cifar")
    large = save_converted(convert(model.float(), x.float()), tmp_path / "large") / "converted.safetensors"
    assert small.stat().st_size < large.stat().st_size / 3


def test_damaged_files(tmp_path: Path, lively_model: Make) -> None:
    model, x = lively_model("spiking_mlp")
    folder = save_converted(convert(model, x), tmp_path / "net")
    with pytest.raises(CheckpointError, match="not the folder"):
        load_converted(tmp_path / "elsewhere")
    for file, content in (("converted.json", b"{"), ("converted.safetensors", b"1234"), ("converted.json", b"[]")):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_converted(folder)
        (folder / file).write_bytes(whole)
    document = json.loads((folder / "converted.json").read_text())
    for key, value, message in (
        ("format", 9, "this version reads 1"), ("model", {"name": "spiking_mlp", "args": {}}, "do not fit"),
    ):  # fmt: skip
        (folder / "converted.json").write_text(json.dumps({**document, key: value}))
        with pytest.raises(CheckpointError, match=message):
            load_converted(folder)


def test_requantizing_merged_kernels(lively_model: Make) -> None:
    model, x = lively_model("qsd_transformer_15m")
    done = convert(model, x, requantize=8)
    assert done.equivalence is None
    assert all(m.bits is not None for m in done.net.modules() if isinstance(m, SpikeSynapse))
    found = verify_equivalence(model, done.net, x, atol=10)
    assert found.samples == 6
    weights = nn.Conv2d(4, 6, 3).double().requires_grad_(False)
    errors = [
        float((weights.weight - q.levels * q.scale.view(-1, 1, 1, 1)).square().mean())
        for q in (requantize(weights, bits) for bits in (2, 4, 8))
        if isinstance(q, IntSynapse)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


class Foreign(nn.Module):
    """A net that nobody prepared: functional calls, a shared layer, a norm that follows no layer, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron1, self.neuron2 = (ranvier.neurons.build({"type": "ie_lif", "levels": 3}) for _ in range(2))
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        t, b = x.shape[:2]
        s = self.neuron1(self.bn1(x.flatten(0, 1)).view_as(x))
        h = self.bn2(self.conv(s.flatten(0, 1))) + self.conv(s.flatten(0, 1))
        s = self.neuron2(h.unflatten(0, (t, b)))
        y = torch.einsum("tbcn,co->tbon", s, self.weight) + s
        return torch.cat([y, s @ s.mT], -1).sum(-1)


def test_a_foreign_net() -> None:
    net = Foreign().double().train()
    x = 2 * torch.randn(3, 5, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        net(x)
    done = convert(net.eval(), x)
    # the shared layer feeds its norm only every other time, so nothing may be folded
    assert done.plan.fold == {} and done.plan.unfolded == ("bn1", "bn2")
    assert done.equivalence is not None and done.equivalence.equal and done.equivalence.exempt == ()
    with pytest.raises(ArgumentError, match="create_model"):
        save_converted(done, "nowhere")


def test_random_encoders_draw_the_same_for_both(lively_model: Make) -> None:
    model, x = lively_model("spiking_conv_net", encoder="rate")
    done = convert(model, x)
    assert done.equivalence is not None and done.equivalence.equal and done.equivalence.exempt == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: convert(convert(m, x).net, x), "converted already"),
        (lambda m, x: convert(nn.Linear(3, 3), torch.rand(2, 3)), "has no neurons"),
        (lambda m, x: convert("net", x), "must be a torch.nn.Module"),
        (lambda m, x: verify_equivalence(m, m, []), "no samples"),
        (lambda m, x: verify_equivalence(m, m, x, dtype="float16"), "dtype must be"),
        (lambda m, x: spike_mode(m, "ternary").__enter__(), "mode must be"),
        (lambda m, x: requantize(nn.Linear(2, 2), 1), "2 to 8 bits"),
        (lambda m, x: SpikeSynapse(nn.ReLU()), "only convolutions and linear"),
    ],
)
def test_bad_arguments(call: Callable[[nn.Module, Tensor], object], message: str, lively_model: Make) -> None:
    model, x = lively_model("spiking_mlp")
    with pytest.raises(ArgumentError, match=message):
        call(model, x)
    assert Counts.of(torch.ones(1), 1).value.item() == 1


def test_products_on_a_threshold_are_reported_not_hidden(lively_model: Make) -> None:
    model, x = lively_model("spikformer", neuron={"type": "ni_lif", "levels": 3})
    done = convert(model, x, strict=False)
    assert done.equivalence is not None
    if not done.equivalence.equal:
        with pytest.raises(ArgumentError, match="no power of two"):
            convert(model, x)
    assert done.equivalence.exempt == (("stem.stages.0.block.conv.synapse", "real"),)
