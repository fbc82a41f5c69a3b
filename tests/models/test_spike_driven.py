"""The Spike-driven Transformer against its equations, on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
D, HEADS, DEPTH = 32, 4, 2
# variant: (our name, pools, input, neurons, erosion, MLP ratio)
VARIANTS = {
    "cifar": ("sdt_cifar_2_512", "0011", (3, 16, 16), "lif", False, 4),
    "imagenet": ("sdt_8_384", "1111", (3, 32, 32), "lif", False, 4),
    "events": ("sdt_dvs_2_256", "0011", (2, 16, 16), "lif", True, 4),
    "plif": ("sdt_gesture_2_256", "0111", (2, 32, 32), "plif", False, 4),
    "narrow": ("sdt_cifar_2_512", "0011", (3, 16, 16), "lif", False, 1),
}


def original_shapes(variant: str, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    _, _, (channels, _, _), neuron, _, ratio = VARIANTS[variant]
    shapes: Shapes = {}
    widths = (channels, D // 8, D // 4, D // 2, D)
    neurons = ["patch_embed.rpe_lif", "head_lif"]
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        number = i or ""
        shapes |= {f"patch_embed.proj_conv{number}.weight": (b, a, 3, 3)}
        shapes |= plain.norm_shapes(f"patch_embed.proj_bn{number}", b)
        neurons.append(f"patch_embed.proj_lif{number}")
    shapes |= {"patch_embed.rpe_conv.weight": (D, D, 3, 3)} | plain.norm_shapes("patch_embed.rpe_bn", D)
    for block in range(DEPTH):
        at = f"block.{block}."
        for part in ("q", "k", "v", "proj"):
            shapes[f"{at}attn.{part}_conv.weight"] = (D, D, 1, 1)
            shapes |= plain.norm_shapes(f"{at}attn.{part}_bn", D)
        shapes[f"{at}attn.proj_conv.bias"] = (D,)
        shapes[f"{at}attn.talking_heads.weight"] = (HEADS, HEADS, 1)
        for part, a, b in (("fc1", D, ratio * D), ("fc2", ratio * D, D)):
            shapes[f"{at}mlp.{part}_conv.weight"] = (b, a, 1, 1)
            shapes[f"{at}mlp.{part}_conv.bias"] = (b,)
            shapes |= plain.norm_shapes(f"{at}mlp.{part}_bn", b)
        neurons += [f"{at}attn.{n}_lif" for n in ("q", "k", "v", "attn", "talking_heads", "shortcut")]
        neurons += [f"{at}mlp.{n}_lif" for n in ("fc1", "fc2")]
    if neuron == "plif":
        shapes |= {f"{n}.w": () for n in neurons}
    return shapes | {"head.weight": (classes, D), "head.bias": (classes,)}


def forward(w: dict[str, Tensor], x: Tensor, variant: str, p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] and the spikes after the last attention."""
    _, pools, _, _, erode, ratio = VARIANTS[variant]

    def lif(name: str, current: Tensor, threshold: float = 1.0) -> Tensor:
        tau = 1 / w[f"{name}.w"].sigmoid().item() if f"{name}.w" in w else 2.0
        return p.lif(current, threshold, tau)

    def max3x3(t: Tensor) -> Tensor:
        """Over the last two axes: the image, or (token, channel of the head)."""
        return torch.stack([F.max_pool2d(t_t, 3, 1, 1) for t_t in t]) if erode else t

    for i, flag in enumerate(pools):
        number = i or ""
        x = p.synapse(w, f"patch_embed.proj_conv{number}", f"patch_embed.proj_bn{number}", x)
        x = lif(f"patch_embed.proj_lif{number}", x) if i < 3 else x
        x = p.pool(x) if flag == "1" else x
    x = x + p.synapse(w, "patch_embed.rpe_conv", "patch_embed.rpe_bn", lif("patch_embed.proj_lif3", x))
    y = x
    for block in range(DEPTH):
        at = f"block.{block}."
        s = lif(f"{at}attn.shortcut_lif", x)
        q, k, v = (lif(f"{at}attn.{n}_lif", p.synapse(w, f"{at}attn.{n}_conv", f"{at}attn.{n}_bn", s)) for n in "qkv")
        q, k, v = p.tokens(q, HEADS), p.tokens(max3x3(k), HEADS), p.tokens(max3x3(v), HEADS)
        mask = lif(f"{at}attn.talking_heads_lif", max3x3(k * v).sum(-2, keepdim=True), 0.5)
        y = p.grid(max3x3(q * mask), x)
        x = x + p.synapse(w, f"{at}attn.proj_conv", f"{at}attn.proj_bn", y)
        h = p.synapse(w, f"{at}mlp.fc1_conv", f"{at}mlp.fc1_bn", lif(f"{at}mlp.fc1_lif", x))
        if ratio == 1:
            x = h = x + h
        x = x + p.synapse(w, f"{at}mlp.fc2_conv", f"{at}mlp.fc2_bn", lif(f"{at}mlp.fc2_lif", h))
    head = lif("head_lif", x.mean((3, 4)))
    return (head @ w["head.weight"].T + w["head.bias"]).mean(0), y


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, _, size, neuron, _, ratio = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    model = create_model(
        name, embed_dim=D, depth=DEPTH, num_heads=HEADS, img_size=size[-1], num_classes=5, neuron=neuron,
        mlp_ratio=ratio,
    ).double().eval()  # fmt: skip
    report = load_official(model, weights)
    dead = [n for n in weights if n.endswith(("talking_heads.weight", ".attn_lif.w", "rpe_lif.w"))]
    assert report.complete and sorted(report.ignored) == sorted(dead)
    x = torch.randn(4, 3, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, mixed = forward(weights, x, variant, plain)
        logits = model(x).mean(0)
    assert 0.01 < mixed.mean() < 0.99 and expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_only_the_first_convolution_sees_real_values() -> None:
    model = create_model("sdt", img_size=16, embed_dim=32).double()
    seen: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model(torch.rand(2, 3, 16, 16, dtype=torch.float64))
    real = [name for name, x in seen.items() if set(x.unique().tolist()) - {0.0, 1.0}]
    assert real == ["stem.stages.0.block.conv"]


def test_initialisation_follows_the_release() -> None:
    model = create_model("sdt_cifar_2_512", depth=1)
    for layer in (
        model.stem.stages[2].block.conv,
        model.blocks[0].attention.q.block.conv,
        model.blocks[0].mlp.fc1.conv,
    ):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.head.weight.abs().max().item() == pytest.approx(512**-0.5, rel=0.01)
