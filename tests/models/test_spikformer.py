"""Spikformer against its equations, written out on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
D, HEADS, DEPTH = 32, 4, 2
# variant: (our name, layer suffix of the original, dimensions of its token layers and of its MLP, pools, input)
VARIANTS = {
    "cifar": ("spikformer_cifar_4_384", "linear", 0, 0, "0011", (3, 16, 16)),
    "imagenet": ("spikformer_8_384", "conv", 1, 2, "1111", (3, 32, 32)),
    "events": ("spikformer_dvs_2_256", "conv", 1, 1, "1111", (2, 32, 32)),
}


def original_shapes(variant: str, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    _, suffix, token_dims, mlp_dims, _, (channels, _, _) = VARIANTS[variant]
    shapes: Shapes = {}
    widths = (channels, D // 8, D // 4, D // 2, D)
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        number = i or ""
        shapes |= {f"patch_embed.proj_conv{number}.weight": (b, a, 3, 3)}
        shapes |= plain.norm_shapes(f"patch_embed.proj_bn{number}", b)
    shapes |= {"patch_embed.rpe_conv.weight": (D, D, 3, 3)} | plain.norm_shapes("patch_embed.rpe_bn", D)
    for block in range(DEPTH):
        at = f"block.{block}."
        for part in ("q", "k", "v", "proj"):
            shapes[f"{at}attn.{part}_{suffix}.weight"] = (D, D, *[1] * token_dims)
            if variant == "cifar" or part == "proj":
                shapes[f"{at}attn.{part}_{suffix}.bias"] = (D,)
            shapes |= plain.norm_shapes(f"{at}attn.{part}_bn", D)
        for part, a, b in (("fc1", D, 4 * D), ("fc2", 4 * D, D)):
            shapes[f"{at}mlp.{part}_{suffix}.weight"] = (b, a, *[1] * mlp_dims)
            shapes[f"{at}mlp.{part}_{suffix}.bias"] = (b,)
            shapes |= plain.norm_shapes(f"{at}mlp.{part}_bn", b)
        for norm in ("norm1", "norm2"):
            shapes |= {f"{at}{norm}.weight": (D,), f"{at}{norm}.bias": (D,)}
    if variant == "events":
        shapes |= {"pos_embed": (1, 4, D), "norm.weight": (D,), "norm.bias": (D,)}
    return shapes | {"head.weight": (classes, D), "head.bias": (classes,)}


def forward(w: dict[str, Tensor], x: Tensor, variant: str, p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] and the spikes of the last attention."""
    _, suffix, _, _, pools, _ = VARIANTS[variant]
    scale = 0.25 if variant == "events" else 0.125
    for i, flag in enumerate(pools):
        number = i or ""
        x = p.lif(p.synapse(w, f"patch_embed.proj_conv{number}", f"patch_embed.proj_bn{number}", x))
        x = p.pool(x) if flag == "1" else x
    x = x + p.lif(p.synapse(w, "patch_embed.rpe_conv", "patch_embed.rpe_bn", x))
    attended = x
    for block in range(DEPTH):

        def unit(part: str, y: Tensor, at: str = f"block.{block}.") -> Tensor:
            return p.lif(p.synapse(w, f"{at}{part}_{suffix}", f"{at}{part}_bn", y))

        q, k, v = (p.tokens(unit(f"attn.{n}", x), HEADS) for n in "qkv")
        attended = p.lif(p.grid((q @ k.mT * scale) @ v, x), threshold=0.5)
        x = x + unit("attn.proj", attended)
        x = x + unit("mlp.fc2", unit("mlp.fc1", x))
    return x.mean((3, 4)).mean(0) @ w["head.weight"].T + w["head.bias"], attended


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, *_, size = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    sizes = {"embed_dim": D, "depth": DEPTH, "num_heads": HEADS, "img_size": size[-1], "num_classes": 5}
    model = create_model(name, **sizes).double().eval()
    report = load_official(model, weights)
    dead = [n for n in weights if ".norm" in n or n.startswith(("norm", "pos_embed"))]
    assert report.complete and sorted(report.ignored) == sorted(dead)
    assert len(report.loaded) == len(weights) - len(dead)
    x = torch.randn(4, 3, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, attended = forward(weights, x, variant, plain)
        logits = model(x).mean(0)
    assert 0.01 < attended.mean() < 0.99 and expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_a_static_image_is_the_repeated_one(plain: SimpleNamespace) -> None:
    weights = plain.random_weights(original_shapes("cifar", plain))
    sizes = {"embed_dim": D, "depth": DEPTH, "num_heads": HEADS, "img_size": 16, "num_classes": 5}
    model = create_model("spikformer_cifar_4_384", **sizes, T=6).double().eval()
    load_official(model, weights)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        expected, _ = forward(weights, x.expand(6, *x.shape), "cifar", plain)
        torch.testing.assert_close(model(x).mean(0), expected, rtol=0, atol=1e-10)


def test_initialisation_follows_the_release() -> None:
    torch.manual_seed(0)
    cifar = create_model("spikformer_cifar_4_384", depth=1)
    assert cifar.blocks[0].attention.q.block.conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert cifar.blocks[0].attention.q.block.conv.bias.abs().max() == 0
    bound = 1 / 384**0.5
    imagenet = create_model("spikformer_8_384", depth=1)
    assert imagenet.blocks[0].attention.q.block.conv.bias is None
    assert imagenet.blocks[0].attention.q.block.conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert imagenet.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
