"""Meta-SpikeFormer and QSD-Transformer against their equations, on state dicts with the originals' names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.layers.quant import prepare_qat, quantized_layers, weight_size
from ranvier.models import create_model, load_official, model_card

EMBED, DEPTH, HEADS, CLASSES = (4, 6, 8, 12), 4, 2, 5
SMALL = {"embed": EMBED, "depth": DEPTH, "num_heads": HEADS, "num_classes": CLASSES, "img_size": 32}


class Original:
    """The released forward pass on plain tensors; makes the weights it asks for."""

    def __init__(self, plain: SimpleNamespace, quantised: bool) -> None:
        self.p, self.q = plain, quantised
        self.w: dict[str, Tensor] = {}

    def neuron(self, x: Tensor, attention: bool = False) -> Tensor:
        if self.q:
            return torch.floor((4 * x).clamp(0, 4) + 0.5) / (2 if attention else 4)
        return self.p.lif(x, 0.5 if attention else 1.0)

    def weight(self, name: str, shape: tuple[int, ...], bias: bool) -> Tensor:
        if f"{name}.weight" not in self.w:
            new = {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})
            self.w |= self.p.random_weights(new)
            if self.q:
                self.w[f"{name}.alpha"] = torch.rand(shape[0], dtype=torch.float64) * 0.2 + 0.05
                self.w[f"{name}.init_state"] = torch.ones(1)
                for part in ("alpha", "zero_point", "init_state", "signed"):
                    self.w[f"{name}.act.{part}"] = torch.zeros(shape[1])
        w = self.w[f"{name}.weight"]
        if not self.q:
            return w
        step = self.w[f"{name}.alpha"].view(-1, *[1] * (w.dim() - 1))
        return (w / step).clamp(-8, 7).round() * step

    def conv(
        self, name: str, x: Tensor, out: int, k: int, stride: int = 1, pad: int = 0, bias: bool = False,
        groups: int = 1, dims: int = 2,
    ) -> Tensor:  # fmt: skip
        w = self.weight(name, (out, x.shape[2] // groups, *[k] * dims), bias)
        w = w if dims == 2 else w[..., None]
        return torch.stack([F.conv2d(x_t, w, self.w.get(f"{name}.bias"), stride, pad, groups=groups) for x_t in x])

    def bn(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.weight" not in self.w:
            self.w |= self.p.random_weights(self.p.norm_shapes(name, x.shape[2]))
        g, b = self.affine(name)
        return x * g[:, None, None] + b[:, None, None]

    def affine(self, name: str) -> tuple[Tensor, Tensor]:
        g = self.w[f"{name}.weight"] / (self.w[f"{name}.running_var"] + 1e-5).sqrt()
        return g, self.w[f"{name}.bias"] - self.w[f"{name}.running_mean"] * g

    def down(self, name: str, x: Tensor, out: int, k: int, stride: int, first: bool = False) -> Tensor:
        x = x if first else self.neuron(x)
        return self.bn(f"{name}.encode_bn", self.conv(f"{name}.encode_conv", x, out, k, stride, k // 2, bias=True))

    def conv_block(self, at: str, x: Tensor) -> Tensor:
        c = x.shape[2]
        y = self.bn(f"{at}.Conv.bn1", self.conv(f"{at}.Conv.pwconv1", self.neuron(x), 2 * c, 1))
        y = self.conv(f"{at}.Conv.dwconv", self.neuron(y), 2 * c, 7, pad=3, groups=2 * c)
        x = x + self.bn(f"{at}.Conv.bn2", self.conv(f"{at}.Conv.pwconv2", y, c, 1))
        y = self.bn(f"{at}.bn1", self.conv(f"{at}.conv1", self.neuron(x), 4 * c, 3, pad=1))
        return x + self.bn(f"{at}.bn2", self.conv(f"{at}.conv2", self.neuron(y), c, 3, pad=1))

    def rep(self, at: str, x: Tensor) -> Tensor:
        c = x.shape[2]
        y = self.bn(f"{at}.0.body.1.bn", self.conv(f"{at}.0.body.0", x, c, 1))
        border = self.affine(f"{at}.0.body.1.bn")[1]
        padded = border[:, None, None].expand(*y.shape[:3], y.shape[3] + 2, y.shape[4] + 2).clone()
        padded[..., 1:-1, 1:-1] = y
        y = self.conv(f"{at}.0.body.2.1", self.conv(f"{at}.0.body.2.0", padded, c, 3, groups=c), c, 1)
        return self.bn(f"{at}.1", self.bn(f"{at}.0.body.2.2", y))

    def block(self, at: str, x: Tensor) -> Tensor:
        s, width = self.neuron(x), x.shape[2]
        q, k, v = (self.p.tokens(self.neuron(self.rep(f"{at}.attn.{n}_conv", s)), HEADS) for n in "qkv")
        mixed = self.p.grid(q @ (k.mT @ v) * (0.25 if self.q else 0.125), x)
        y = self.rep(f"{at}.attn.proj_conv", self.neuron(mixed, attention=True))
        x = x + y * self.scale(f"{at}.layer_scale1", width)
        y = self.conv(f"{at}.mlp.fc1_conv", self.neuron(x), 4 * width, 1, bias=True, dims=1)
        y = self.neuron(self.bn(f"{at}.mlp.fc1_bn", y))
        y = self.bn(f"{at}.mlp.fc2_bn", self.conv(f"{at}.mlp.fc2_conv", y, width, 1, bias=True, dims=1))
        return x + y * self.scale(f"{at}.layer_scale2", width)

    def scale(self, name: str, width: int) -> Tensor:
        if not self.q:
            return torch.ones(1, 1, 1)
        if name not in self.w:
            self.w[name] = torch.rand(width, dtype=torch.float64)
        return self.w[name][:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        c1, c2, c3, c4 = EMBED
        x = self.conv_block("ConvBlock1_1.0", self.down("downsample1_1", x, c1 // 2, 7, 2, first=True))
        x = self.conv_block("ConvBlock1_2.0", self.down("downsample1_2", x, c1, 3, 2))
        x = self.conv_block("ConvBlock2_1.0", self.down("downsample2", x, c2, 3, 2))
        x = self.down("downsample3", self.conv_block("ConvBlock2_2.0", x), c3, 3, 2)
        for i in range(int(DEPTH * 0.75)):
            x = self.block(f"block3.{i}", x)
        x = self.down("downsample4", x, c4, 3, 1)
        for i in range(int(DEPTH * 0.25)):
            x = self.block(f"block4.{i}", x)
        s = self.neuron(x.mean((3, 4)))
        head = self.weight("head", (CLASSES, c4), True)
        return (s @ head.T + self.w["head.bias"]).mean(0)


@pytest.mark.parametrize("name", ["meta_spikeformer_15m", "qsd_transformer_15m"])
def test_original_weights_give_the_original_logits(name: str, plain: SimpleNamespace) -> None:
    quantised = name.startswith("qsd")
    original = Original(plain, quantised)
    x = 2 * torch.randn(1 if quantised else 4, 8, 3, 32, 32, dtype=torch.float64)
    x = x + 3 * torch.randn(8, 3, 1, 1, dtype=torch.float64)  # images that differ also on average
    expected = original.forward(x)
    model = create_model(name, **SMALL).double().eval()
    report = load_official(model, {"model": original.w})
    assert report.complete and not report.notes
    assert all(".act." in n or n.endswith("init_state") for n in report.ignored)
    with torch.no_grad():
        logits = model(x).mean(0)
    assert expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def test_a_second_head_for_distillation_is_averaged_in(plain: SimpleNamespace) -> None:
    original = Original(plain, False)
    x = 2 * torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    first = original.forward(x)
    head = {k: original.w[f"head.{k}"] for k in ("weight", "bias")}
    other = {k: torch.randn_like(v) for k, v in head.items()}
    original.w |= {f"head.{k}": v for k, v in other.items()}
    second = original.forward(x)
    given = original.w | {f"head.{k}": v for k, v in head.items()} | {f"head_kd.{k}": v for k, v in other.items()}
    model = create_model("meta_spikeformer_15m", **SMALL).double().eval()
    load_official(model, given)
    with torch.no_grad():
        torch.testing.assert_close(model(x).mean(0), (first + second) / 2, rtol=0, atol=1e-9)


def test_a_negative_released_step_is_taken_as_it_is(plain: SimpleNamespace) -> None:
    original = Original(plain, True)
    x = 2 * torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    original.forward(x)
    original.w["ConvBlock1_1.0.conv1.alpha"][0] *= -1
    expected = original.forward(x)
    model = create_model("qsd_transformer_15m", **SMALL).double().eval()
    report = load_official(model, original.w)
    assert "negative" in report.notes[0]
    with torch.no_grad():
        torch.testing.assert_close(model(x).mean(0), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "params", "steps", "equivalent"),
    [
        ("qsd_transformer_8m", 8_336_504, 32_544, 1.03), ("qsd_transformer_15m", 15_116_720, 43_712, 1.88),
        ("qsd_transformer_31m", 31_340_392, 62_968, 3.90), ("qsd_transformer_55m", 55_358_952, 83_624, 6.90),
        ("qsd_transformer_75m", 74_663_016, 120_616, 9.30), ("qsd_transformer_124m", 123_754_216, 124_936, 15.4),
        ("meta_spikeformer_15m", 15_112_208, 0, None), ("meta_spikeformer_31m", 31_333_864, 0, None),
        ("meta_spikeformer_55m", 55_350_248, 0, None), ("meta_spikeformer_124m", 123_741_160, 0, None),
    ],
)  # fmt: skip
def test_published_sizes(name: str, params: int, steps: int, equivalent: float | None) -> None:
    with torch.device("meta"):
        size = weight_size(create_model(name))
    assert size.params == params == model_card(name).params and size.steps == steps
    if equivalent is not None:
        assert size.equivalent / 1e6 == pytest.approx(equivalent, abs=0.02 if equivalent < 10 else 0.1)


def test_closed_forms() -> None:
    with torch.device("meta"):
        model = create_model("qsd_transformer_15m")

    def count(module: torch.nn.Module, steps: bool = False) -> int:
        return sum(p.numel() for n, p in module.named_parameters() if n.endswith(".alpha") == steps)

    for down, (k, i, o) in zip(model.down, [(7, 3, 32), (3, 32, 64), (3, 64, 128), (3, 128, 256), (3, 256, 360)],
                               strict=True):  # fmt: skip
        assert count(down) == k * k * i * o + 3 * o
    block = model.blocks[0][0]
    assert count(block) == 76 * 32**2 + 114 * 32 == 81_472 and count(block, True) == 10 * 32
    transformer = model.blocks[3][0]
    assert count(transformer) == 16 * 256**2 + 77 * 256 == 1_068_288 and count(transformer, True) == 17 * 256
    assert count(transformer.attention) == 8 * 256**2 + 60 * 256
    assert count(transformer.mlp) == 8 * 256**2 + 15 * 256


def test_multiply_accumulates() -> None:
    """At 224x224, unmerged, from the sizes of the layers' outputs."""
    for name, expected, stem in (
        ("qsd_transformer_15m", 6.441, 0.059),
        ("qsd_transformer_31m", 13.951, 0.089),
        ("qsd_transformer_55m", 24.699, 0.118),
    ):
        with torch.device("meta"):
            model = create_model(name, bits=None)
        macs: dict[str, float] = {}

        def note(module: torch.nn.Module, given: tuple[Tensor], out: Tensor, name: str, macs: dict = macs) -> None:
            macs[name] = out[0].numel() * module.weight[0].numel() / 1e9

        for layer, module in model.named_modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(lambda m, i, o, n=layer, note=note: note(m, i, o, n))
        model.eval()(torch.zeros(1, 1, 3, 224, 224, device="meta"))
        n, products = 196, 0.0
        for stage, width in ((3, model.head.in_features), (4, model.head.in_features)):
            blocks = model.blocks[stage]
            width = blocks[0].attention.dim
            products += len(blocks) * 2 * n * width * (width // 8) / 1e9
        total = sum(macs.values())
        assert macs["down.0.block.conv"] == pytest.approx(stem, abs=5e-4)
        assert min(abs(total - expected), abs(total + products - expected)) < 2e-3, (name, total, products)


def test_without_memory_more_steps_change_nothing() -> None:
    model = create_model("qsd_transformer_15m", layer_scale=0.5, **SMALL).double().eval()
    x = torch.rand(2, 3, 32, 32).double()
    with torch.no_grad():
        one, four = model(x), model(x.expand(4, *x.shape))
    assert torch.equal(four, one.expand(4, *one.shape[1:]))


def test_taps_and_their_strides() -> None:
    model = create_model("qsd_transformer_15m", **(SMALL | {"img_size": 64})).eval()
    shapes = [tuple(f.shape[2:]) for f in model.features(torch.rand(1, 1, 3, 64, 64))]
    assert shapes == [(2, 32, 32), (4, 16, 16), (6, 8, 8), (8, 4, 4), (12, 4, 4)]


def test_a_teacher_of_the_same_architecture() -> None:
    teacher = create_model(
        "qsd_transformer_15m", neuron="relu", attention="softmax", attn_threshold=None, bits=None, **SMALL
    )
    student = create_model("qsd_transformer_15m", **SMALL)
    ours = {n: p.shape for n, p in student.named_parameters() if not n.endswith(".alpha")}
    assert {n: p.shape for n, p in teacher.named_parameters()} == ours
    teacher(torch.rand(2, 3, 32, 32)).sum().backward()


def test_bits_are_an_argument() -> None:
    model = create_model("qsd_transformer_15m", bits=2, skip_first_last=True, **SMALL)
    layers = quantized_layers(model)
    assert {q.quantizer.bits for q in layers.values()} == {2}
    assert "head" not in layers and "down.0.block.conv" not in layers
    assert not quantized_layers(create_model("meta_spikeformer_15m", **SMALL))
    prepare_qat(create_model("spiking_mlp"), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed": (3, 8, 8, 8)}, "first of them even"), ({"embed": (4, 8, 8)}, "four widths"),
        ({"depth": 3}, "depth must be at least 4"), ({"num_heads": 7}, "num_heads must divide"),
        ({"bits": 0}, "bits must be an integer"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_model("qsd_transformer_15m", **arguments)
