"""SpikingResformer against its equations, written out on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
WIDTHS, HEADS, DEPTHS, PATCHES = (16, 32, 48), (1, 2, 3), (1, 2, 1), (4, 2, 1)
# variant: (our name, kernel of the prologue, input, neurons, group size)
VARIANTS = {
    "imagenet": ("spikingresformer_ti", 7, (3, 48, 48), "lif", 64),
    "cifar": ("spikingresformer_cifar", 3, (3, 16, 16), "lif", 64),
    "events": ("spikingresformer_dvs_gesture", 3, (3, 16, 16), "plif", 32),
}


def places() -> list[tuple[int, int, str, str]]:
    """(stage, block, name of the attention, name of the feed-forward network)."""
    return [
        (i, b, f"layers.{i}.{2 * b + (i > 0)}", f"layers.{i}.{2 * b + 1 + (i > 0)}")
        for i, depth in enumerate(DEPTHS)
        for b in range(depth)
    ]


def original_shapes(variant: str, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    _, kernel, (channels, _, _), neuron, group = VARIANTS[variant]

    def layer(conv: str, norm: str, a: int, b: int, k: int) -> Shapes:
        return {f"{conv}.weight": (b, a, k, k)} | plain.norm_shapes(f"{norm}.bn", b)

    shapes = layer("prologue.0", "prologue.1", channels, WIDTHS[0], kernel) | {
        "classifier.weight": (classes, WIDTHS[2])
    }
    neurons: list[str] = []
    for i, (a, b) in enumerate(itertools.pairwise(WIDTHS), 1):
        shapes |= layer(f"layers.{i}.0.conv", f"layers.{i}.0.norm", a, b, 3)
        neurons.append(f"layers.{i}.0.activation")
    for i, _, attention, network in places():
        d = WIDTHS[i]
        shapes |= layer(f"{attention}.W", f"{attention}.norm", d, 2 * d, PATCHES[i])
        shapes |= layer(f"{attention}.Wproj", f"{attention}.norm_proj", d, d, 1)
        shapes |= {f"{attention}.firing_rate_{n}": (1, 1, HEADS[i], 1, 1) for n in ("x", "attn")}
        shapes |= layer(f"{network}.up.1", f"{network}.up.2", d, 4 * d, 1)
        shapes |= layer(f"{network}.conv.0.1", f"{network}.conv.0.2", min(group, 4 * d), 4 * d, 3)
        shapes |= layer(f"{network}.down.1", f"{network}.down.2", 4 * d, d, 1)
        neurons += [f"{attention}.activation_{n}" for n in ("in", "attn", "out")]
        neurons += [f"{network}.{n}.0" for n in ("up", "conv.0", "down")]
    return shapes | ({f"{n}.w": () for n in neurons} if neuron == "plif" else {})


def forward(w: dict[str, Tensor], x: Tensor, p: SimpleNamespace) -> tuple[Tensor, list[Tensor]]:
    """Logits [T, B, classes] and the attention maps."""
    maps: list[Tensor] = []

    def lif(name: str, x: Tensor) -> Tensor:
        return p.lif(x, tau=1 / w[f"{name}.w"].sigmoid().item() if f"{name}.w" in w else 2.0)

    def layer(conv: str, norm: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        weight = w[f"{conv}.weight"]
        padding = weight.shape[-1] // 2 if padding is None else padding
        groups = x.shape[2] // weight.shape[1]
        x = torch.stack([F.conv2d(x_t, weight, None, stride, padding, groups=groups) for x_t in x])
        ones = {"one.weight": torch.eye(len(weight), dtype=x.dtype)} | w
        return p.synapse(ones, "one", f"{norm}.bn", x)

    strided = w["prologue.0.weight"].shape[-1] == 7
    x = layer("prologue.0", "prologue.1", x, 2 if strided else 1)
    x = p.pool(x) if strided else x
    stage = 0
    for i, _, attention, network in places():
        if i != stage:
            x = layer(f"layers.{i}.0.conv", f"layers.{i}.0.norm", lif(f"layers.{i}.0.activation", x), 2)
            stage = i
        heads = HEADS[i]
        s = lif(f"{attention}.activation_in", x)
        y = layer(f"{attention}.W", f"{attention}.norm", s, PATCHES[i], 0)
        y = y.flatten(3).unflatten(2, (heads, -1))
        d = y.shape[3] // 2
        f, g = (w[f"{attention}.firing_rate_{n}"] for n in ("x", "attn"))
        spikes = s.flatten(3).unflatten(2, (heads, -1))
        a = lif(
            f"{attention}.activation_attn", torch.einsum("tbhdl,tbhdn->tbhln", y[..., :d, :], spikes) / (f * d) ** 0.5
        )
        maps.append(a)
        z = torch.einsum("tbhdl,tbhln->tbhdn", y[..., d:, :], a) / (g * y.shape[4]) ** 0.5
        z = lif(f"{attention}.activation_out", z.flatten(2, 3).view_as(x))
        x = x + layer(f"{attention}.Wproj", f"{attention}.norm_proj", z)
        u = layer(f"{network}.up.1", f"{network}.up.2", lif(f"{network}.up.0", x))
        u = u + layer(f"{network}.conv.0.1", f"{network}.conv.0.2", lif(f"{network}.conv.0.0", u))
        x = x + layer(f"{network}.down.1", f"{network}.down.2", lif(f"{network}.down.0", u))
    return x.mean((3, 4)) @ w["classifier.weight"].T, maps


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, _, size, *_ = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    for key, value in weights.items():
        if "firing_rate" in key:
            value.uniform_(0.05, 0.4)
    sizes = {"widths": WIDTHS, "depths": DEPTHS, "num_heads": HEADS, "img_size": size[-1], "num_classes": 5}
    model = create_model(name, **sizes).double().eval()
    assert load_official(model, weights).complete
    x = torch.randn(4, 3, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, maps = forward(weights, x, plain)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    assert all(a.any() and not a.all() for a in maps) and expected.std() > 1e-3


def test_every_synapse_but_the_first_and_last_sees_spikes() -> None:
    model = create_model("spikingresformer").double()
    seen: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    real = [name for name, x in seen.items() if set(x.unique().tolist()) - {0.0, 1.0}]
    assert real == ["prologue.block.conv", "head"]


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="one number for each of 3 stages"):
        create_model("spikingresformer", num_heads=(1, 2))
    with pytest.raises(ArgumentError, match="stage 0 has a map of 3x3"):
        create_model("spikingresformer", img_size=3)
    with pytest.raises(ArgumentError, match="'strided' or 'plain'"):
        create_model("spikingresformer", prologue="deep")
    with pytest.raises(ArgumentError, match="divide the hidden width"):
        create_model("spikingresformer", group_size=60)
