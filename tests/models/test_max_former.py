"""Max-Former, MS-QKFormer and Max-ResNet against their equations, on state dicts with the originals' names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.models import create_model, load_official
from ranvier.models.max_former import SpikingHierarchy
from ranvier.neurons import LIF, NeuronFactory

D, HEADS, CLASSES = 32, 2, 5
Weights = dict[str, Tensor]


class Original:
    """Builds the shapes of an original state dict while it computes: the first pass records, the second uses them."""

    def __init__(self, plain: SimpleNamespace) -> None:
        self.p = plain
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.w: Weights = {}

    def conv(
        self, conv: str, bn: str, x: Tensor, out: int, k: int = 3, stride: int = 1, bias: bool = False,
        groups: int = 1, dims: int = 2,
    ) -> Tensor:  # fmt: skip
        shape = (out, x.shape[2] // groups, *[k] * dims)
        if conv + ".weight" not in self.w:
            new: dict[str, tuple[int, ...]] = {f"{conv}.weight": shape, **self.p.norm_shapes(bn, out)}
            if bias:
                new[f"{conv}.bias"] = (out,)
            self.shapes |= new
            self.w |= self.p.random_weights(new)
        weight = self.w[f"{conv}.weight"].reshape(*shape[:2], k, k)
        steps = [F.conv2d(x_t, weight, self.w.get(f"{conv}.bias"), stride, k // 2, groups=groups) for x_t in x]
        g = self.w[f"{bn}.weight"] / (self.w[f"{bn}.running_var"] + 1e-5).sqrt()
        b = self.w[f"{bn}.bias"] - self.w[f"{bn}.running_mean"] * g
        return torch.stack(steps) * g[:, None, None] + b[:, None, None]

    def mlp(self, at: str, x: Tensor, ratio: float) -> Tensor:
        width = x.shape[2]
        hidden = int(width * ratio)
        h = self.conv(f"{at}.mlp.fc1_conv", f"{at}.mlp.fc1_bn", self.p.lif(x), hidden, 1, bias=True)
        if hidden == width:
            x = h = x + h
        return x + self.conv(f"{at}.mlp.fc2_conv", f"{at}.mlp.fc2_bn", self.p.lif(h), width, 1, bias=True)

    def attention(self, at: str, kind: str, x: Tensor) -> Tensor:
        s, width = self.p.lif(x), x.shape[2]
        names = "qk" if kind == "qk_token" else "qkv"
        parts = [self.p.lif(self.conv(f"{at}.attn.{n}_conv", f"{at}.attn.{n}_bn", s, width, 1, dims=1)) for n in names]
        tokens = [self.p.tokens(part, HEADS) for part in parts]  # [T, B, h, N, d]
        if kind == "qk_token":
            q, k = tokens
            mixed = self.p.lif(q.sum(-1, keepdim=True), 0.5) * k
        else:
            q, k, v = tokens
            mixed = self.p.lif(q @ (k.mT @ v) * 0.125, 0.5)
        y = self.p.grid(mixed, x)
        y = self.conv(f"{at}.attn.proj_conv", f"{at}.attn.proj_bn", y, width, 1, bias=True, dims=1)
        if kind.startswith("ssa_dwc"):
            y = self.conv(
                f"{at}.attn.dwc", f"{at}.attn.dwc_bn", self.p.lif(y), width, int(kind[7:]), bias=True, groups=width
            )
        return x + y

    def mixer(self, at: str, kind: str, x: Tensor) -> Tensor:
        if kind == "id":
            return x
        if kind == "avg":
            return torch.stack([F.avg_pool2d(x_t, 3, 1, 1, count_include_pad=False) for x_t in x])
        if kind == "max":
            return torch.stack([F.max_pool2d(x_t, 3, 1, 1) for x_t in x])
        if kind.startswith("dwc"):
            name = "conv5" if kind == "dwc7" else "conv"
            width = x.shape[2]
            return x + self.conv(
                f"{at}.mixer.{name}", f"{at}.mixer.{name}_bn", self.p.lif(x), width, int(kind[3:]), bias=True,
                groups=width,
            )  # fmt: skip
        return self.attention(at, kind, x)

    def embed(self, at: str, kind: str, x: Tensor, dim: int, first: bool) -> Tensor:
        lif, pool = self.p.lif, self.p.pool

        def part(name: str, x: Tensor, out: int, k: int = 3, stride: int = 1) -> Tensor:
            return self.conv(f"{at}.{name}.embed_conv", f"{at}.{name}.embed_bn", x, out, k, stride)

        def proj(name: str, x: Tensor, out: int, k: int = 3, stride: int = 1, number: object = "") -> Tensor:
            return self.conv(f"{at}.{name}_conv{number}", f"{at}.{name}_bn{number}", x, out, k, stride)

        if kind == "orig" and first:
            z = proj("proj", x, dim // 2)
            return part("embed1", lif(z), dim) + part("embed2", lif(z), dim, 1)
        if kind == "orig":
            s = lif(x)
            return part("orig_embed1", lif(part("embed1", s, dim)), dim, 3, 2) + part("embed2", s, dim, 1, 2)
        if kind == "orig_imagenet":
            s = lif(part("embed1", x, dim // 2, 3, 2))
            return part("embed3", lif(part("embed2", s, dim, 3, 2)), dim) + part("embed4", s, dim, 1, 2)
        if kind == "max":
            s = lif(x)
            main = part("embed1", lif(pool(part("max_embed1", s, dim))), dim)
            return main + pool(part("max_embed2", s, dim, 1))
        if kind == "1max":
            s = lif(x)
            return pool(part("max_embed1", lif(part("embed1", s, dim)), dim)) + part("embed2", s, dim, 1, 2)
        if kind == "1max_early":
            s = lif(x)
            return proj("proj4", lif(pool(proj("proj3", s, dim))), dim) + proj("proj_res", s, dim, 1, 2)
        if kind == "qk":
            s = lif(pool(proj("proj", x, dim // 2)))
            main = proj("proj", lif(pool(proj("proj", s, dim, number=1))), dim, number=2)
            return main + proj("rpe", s, dim, 1, 2)
        assert kind == "max+"
        z = proj("proj", x, dim // 8)
        s = lif(pool(part("max_embed1", lif(z), dim // 4)))
        main = pool(part("max_embed3", lif(pool(part("max_embed2", s, dim // 2))), dim))
        return main + part("embed1", s, dim, 1, 4)

    def max_former(self, x: Tensor, stages: list[tuple[str, str, int]], ratio: float) -> Tensor:
        for n, (embed, mixer, depth) in enumerate(stages):
            x = self.embed(f"patch_embed{n + 1}", embed, x, D >> (len(stages) - 1 - n), n == 0)
            for block in range(depth):
                at = f"stage{n + 1}.{block}"
                x = self.mlp(at, self.mixer(at, mixer, x), ratio)
        return self.head(self.p.lif(x.mean((3, 4))), "head")

    def head(self, spikes: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in self.w:
            new = {f"{name}.weight": (CLASSES, spikes.shape[-1]), f"{name}.bias": (CLASSES,)}
            self.w |= self.p.random_weights(new)
        return (spikes @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]).mean(0)


def check(model: nn.Module, original: Original, x: Tensor, expected: Tensor) -> None:
    report = load_official(model, original.w)
    assert report.complete and not report.ignored and not report.notes
    with torch.no_grad():
        logits = model(x).mean(0)
    assert expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


VARIANTS: dict[str, tuple[str, dict[str, Any], list[tuple[str, str, int]], tuple[int, int, int]]] = {
    "cifar": ("max_former_cifar", {}, [("orig", "id", 1), ("max", "dwc3", 1), ("max", "ssa", 2)], (3, 16, 16)),
    "imagenet": (
        "max_former_10_384", {"depths": (1, 2, 1)},
        [("orig_imagenet", "dwc7", 1), ("max", "dwc5", 2), ("max", "ssa", 1)], (3, 32, 32),
    ),
    "event": ("max_former_event", {}, [("max+", "dwc3", 1), ("max", "ssa", 1)], (2, 32, 32)),
    "qk cifar": (
        "ms_qkformer_cifar", {}, [("orig", "qk_token", 1), ("1max", "qk_token", 1), ("1max", "ssa", 2)], (3, 16, 16),
    ),
    "qk imagenet": (
        "ms_qkformer_10_384", {"depths": (1, 2, 1)},
        [("qk", "qk_token", 1), ("1max_early", "qk_token", 2), ("1max_early", "ssa", 1)], (3, 32, 32),
    ),
    "qk event": ("ms_qkformer_event", {}, [("max+", "qk_token", 1), ("1max", "ssa", 1)], (2, 32, 32)),
    "pools": (
        "max_former_cifar", {"stages": [("orig", "avg", 1), ("orig", "max", 1), ("1max", "ssa_dwc5", 1)]},
        [("orig", "avg", 1), ("orig", "max", 1), ("1max", "ssa_dwc5", 1)], (3, 16, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, arguments, stages, shape = VARIANTS[variant]
    original = Original(plain)
    x = 2 * torch.randn(3, 6, *shape, dtype=torch.float64)
    x = x + torch.randn(6, shape[0], 1, 1, dtype=torch.float64)  # images that differ also on average
    ratio = 1 if "event" in variant else 4
    expected = original.max_former(x, stages, ratio)
    model = create_model(
        name, embed_dim=D, num_heads=HEADS, img_size=shape[-1], num_classes=CLASSES, **arguments
    ).double().eval()  # fmt: skip
    check(model, original, x, expected)


def test_resnet_original_weights_give_the_original_logits(plain: SimpleNamespace) -> None:
    for max_pool, blocks, widths in ((True, (2, 1, 2), (8, 16, 16)), (False, (1, 2), (8, 12))):
        original = Original(plain)
        x0 = 2 * torch.randn(3, 2, 3, 9, 9, dtype=torch.float64)
        x, before = original.conv("conv1", "bn1", x0, 4), 4
        for n, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                at, stride = f"layer{n + 1}.{i}.", 2 if n and not i else 1
                pooled = max_pool and stride == 2
                y = original.conv(at + "conv1", at + "bn1", plain.lif(x), width, 3, 1 if pooled else stride)
                y = plain.pool(y) if pooled else y
                y = original.conv(at + "conv2", at + "bn2", plain.lif(y), width)
                if not i and (stride == 2 or before != width):
                    x = original.conv(at + "downsample.1", at + "downsample.2", x, width, 1, stride)
                x, before = y + x, width
        expected = original.head(plain.lif(x).mean((3, 4)), "fc1")
        model = create_model(
            "max_resnet18", blocks=blocks, widths=widths, max_pool=max_pool, img_size=9, num_classes=CLASSES
        ).double().eval()  # fmt: skip
        check(model, original, x0, expected)


def test_max_resnet_has_exactly_two_pools_and_its_twin_none() -> None:
    for name, pools in (("max_resnet18", 2), ("ms_resnet18", 0)):
        with torch.device("meta"):
            model = create_model(name)
        assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == pools
    with torch.device("meta"):
        four = create_model("max_resnet18", blocks=(2, 2, 2, 2), num_classes=100)
    assert sum(p.numel() for p in four.parameters()) == 11_220_132
    assert sum(isinstance(m, nn.MaxPool2d) for m in four.modules()) == 3


def inputs_that_are_not_spikes(model: nn.Module, x: Tensor) -> list[str]:
    seen: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model(x)
    return [name for name, given in seen.items() if set(given.unique().tolist()) - {0.0, 1.0}]


def test_every_synaptic_layer_but_the_stem_gets_spikes() -> None:
    model = create_model("max_former_cifar", embed_dim=D, num_heads=HEADS, img_size=16).double()
    assert inputs_that_are_not_spikes(model, torch.rand(2, 3, 16, 16).double()) == [
        "backbone.embeds.0.first.block.conv"
    ]
    args = {"widths": (8, 8, 16), "img_size": 12, "max_pool": True}
    x = torch.rand(2, 3, 12, 12).double()
    released = inputs_that_are_not_spikes(create_model("max_resnet18", **args).double(), x)
    assert released == ["stem.conv", *(f"layers.{n}.0.shortcut.block.conv" for n in range(3)), "head"]
    strict = inputs_that_are_not_spikes(create_model("max_resnet18", spike_shortcut=True, **args).double(), x)
    assert strict == ["stem.conv", "head"]


PARTS = {
    "max_former_10_384": [130_992, 80_160, 517_248, 606_336, 2_066_688, 12_450_816, 385_000],
    "max_former_10_512": [232_000, 139_648, 919_040, 1_070_592, 3_673_088, 22_106_112, 513_000],
    "max_former_10_768": [520_032, 307_776, 2_066_688, 2_392_320, 8_262_144, 49_674_240, 769_000],
    "max_former_cifar": [47_856, 75_168, 517_248, 300_096, 2_066_688, 3_557_376, 3_850],
    "max_former_event": [101_888, 35_072, 919_040, 397_056, 2_570],
}


@pytest.mark.parametrize("name", PARTS)
def test_parameters_of_every_part(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    pairs = zip(model.backbone.embeds, model.backbone.stages, strict=True)
    parts = [part for pair in pairs for part in pair] + [model.head]
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == PARTS[name]


@pytest.mark.parametrize(
    ("name", "classes", "params"),
    [
        ("max_former_cifar", 100, 6_602_932), ("max_former_event", 11, 1_455_883),
        ("ms_qkformer_cifar", 100, 6_740_884), ("ms_qkformer_event", 11, 1_504_395),
        ("max_resnet18", 100, 12_548_260), ("ms_resnet18", 100, 12_548_260),
    ],
)  # fmt: skip
def test_published_sizes_for_other_classes(name: str, classes: int, params: int) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == params


def test_stage_sizes() -> None:
    for name, shape, sides in (
        ("max_former_cifar", (3, 32, 32), (32, 16, 8)),
        ("max_former_10_384", (3, 64, 64), (16, 8, 4)),
        ("max_former_event", (2, 128, 128), (16, 8)),
    ):
        model = create_model(name, embed_dim=D, num_heads=HEADS, T=1, img_size=shape[-1]).eval()
        x = torch.rand(1, 1, *shape)
        for embed, stage, side in zip(model.backbone.embeds, model.backbone.stages, sides, strict=True):
            x = stage(embed(x))
            assert x.shape[-2:] == (side, side)


def test_a_time_average_before_the_head_is_the_same() -> None:
    model = create_model("max_former_cifar", embed_dim=D, num_heads=HEADS, img_size=16).double().eval()
    x = torch.rand(2, 3, 16, 16).double()
    spikes: list[Tensor] = []
    model.head_neuron.register_forward_hook(lambda *a: spikes.append(a[2]))
    logits = model(x).mean(0)
    torch.testing.assert_close(logits, model.head(spikes[0].mean(0)), rtol=0, atol=1e-12)


def test_configuration_by_names() -> None:
    args = {"embed_dim": D, "num_heads": HEADS, "img_size": 16}
    a = create_model("max_former_cifar", embeds="orig,1max,max", mixers="id, max+ ,sdsa3", **args)
    stages = [("orig", "id", 1), ("1max", "max+", 1), ("max", "sdsa3", 2)]
    b = create_model("max_former_cifar", stages=stages, **args)
    assert [(n, p.shape) for n, p in a.named_parameters()] == [(n, p.shape) for n, p in b.named_parameters()]
    relu = create_model("max_former_cifar", neuron="relu", attn_threshold=None, T=1, **args)
    relu(torch.rand(2, 3, 16, 16)).sum().backward()


def test_one_dimension() -> None:
    net = SpikingHierarchy(
        12, 16, ("orig", "max"), ("dwc3", "ssa"), (1, 1), 2, 2.0, NeuronFactory("lif"), dims=1
    )  # fmt: skip
    y = net(torch.randn(3, 2, 12, 25))
    assert y.shape == (3, 2, 16, 13)
    y.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mixers": "id,dwc3"}, ArgumentError, "one entry a stage, got 3, 2, 3 and 3"),
        ({"embed_dim": 30, "num_heads": 2}, ArgumentError, "multiple of 4 for 3 stages"),
        ({"mixers": "id,dwc3,sssa"}, UnknownNameError, "did you mean 'ssa'"),
        ({"embeds": "orig,max,mx"}, UnknownNameError, "did you mean 'max'"),
        ({"depths": (1, 0, 1)}, ArgumentError, "depths must be positive"),
        ({"stages": [("orig", "id")]}, ArgumentError, "stages must be"),
        ({"neuron": "relu"}, ArgumentError, "attn_threshold=None"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_model("max_former_cifar", **arguments)


def test_bad_resnets() -> None:
    for arguments in ({"blocks": (1, 0, 1)}, {"blocks": (1, 1)}, {"widths": (8, 8)}):
        with pytest.raises(ArgumentError, match=r"blocks|widths"):
            create_model("max_resnet18", **arguments)
    assert isinstance(create_model("ms_resnet18", widths=(8, 8, 8)).neuron, LIF)
