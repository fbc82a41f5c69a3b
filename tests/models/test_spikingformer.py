"""Spikingformer against its equations, written out on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
D, HEADS, DEPTH = 32, 4, 2
# variant: (our name, name of the stem's layers, pools in front of convolutions 2 to 5, input, time constant)
VARIANTS = {
    "imagenet": ("spikingformer_8_384", "proj", "1111", (3, 32, 32), 2.0),
    "cifar": ("spikingformer_cifar_4_384", "block", "0011", (3, 16, 16), 2.0),
    "events": ("spikingformer_dvs_2_256", "proj", "1111", (2, 32, 32), 1.5),
}


def stem_names(variant: str) -> list[str]:
    kind = VARIANTS[variant][1]
    return [f"patch_embed.{kind}{n if n or kind == 'block' else ''}" for n in range(5)]


def original_shapes(variant: str, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    shapes: Shapes = {}
    widths = (VARIANTS[variant][3][0], D // 8, D // 4, D // 2, D, D)
    for name, (a, b) in zip(stem_names(variant), itertools.pairwise(widths), strict=True):
        shapes |= {f"{name}_conv.weight": (b, a, 3, 3)} | plain.norm_shapes(f"{name}_bn", b)
    for block in range(DEPTH):
        at = f"block.{block}."
        for part in ("q", "k", "v", "proj"):
            shapes |= {f"{at}attn.{part}_conv.weight": (D, D, 1)} | plain.norm_shapes(f"{at}attn.{part}_bn", D)
        shapes[f"{at}attn.proj_conv.bias"] = (D,)
        for part, a, b in (("mlp1", D, 4 * D), ("mlp2", 4 * D, D)):
            shapes |= {f"{at}mlp.{part}_conv.weight": (b, a, 1, 1), f"{at}mlp.{part}_conv.bias": (b,)}
            shapes |= plain.norm_shapes(f"{at}mlp.{part}_bn", b)
        shapes |= {f"{at}{norm}.{part}": (D,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    return shapes | {"head.weight": (classes, D), "head.bias": (classes,)}


def forward(w: dict[str, Tensor], x: Tensor, variant: str, p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] and the spikes of the last attention."""
    _, _, pools, _, tau = VARIANTS[variant]
    first, *rest = stem_names(variant)
    x = p.synapse(w, f"{first}_conv", f"{first}_bn", x)
    for name, flag in zip(rest, pools, strict=True):
        s = p.lif(x, tau=tau)
        x = p.synapse(w, f"{name}_conv", f"{name}_bn", p.pool(s) if flag == "1" else s)
    y = x
    for block in range(DEPTH):

        def unit(part: str, s: Tensor, at: str = f"block.{block}.") -> Tensor:
            return p.synapse(w, f"{at}{part}_conv", f"{at}{part}_bn", s)

        s = p.lif(x, tau=tau)
        q, k, v = (p.tokens(p.lif(unit(f"attn.{n}", s), tau=tau), HEADS) for n in "qkv")
        y = p.lif(p.grid((q @ k.mT @ v) * 0.125, x), 0.5, tau)
        x = x + unit("attn.proj", y)
        x = x + unit("mlp.mlp2", p.lif(unit("mlp.mlp1", p.lif(x, tau=tau)), tau=tau))
    return x.mean((3, 4)).mean(0) @ w["head.weight"].T + w["head.bias"], y


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, _, _, size, _ = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    sizes = {"embed_dim": D, "depth": DEPTH, "num_heads": HEADS, "img_size": size[-1], "num_classes": 5}
    model = create_model(name, **sizes).double().eval()
    report = load_official(model, weights)
    assert report.complete and sorted(report.ignored) == sorted(n for n in weights if ".norm" in n)
    x = torch.randn(4, 3, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, attended = forward(weights, x, variant, plain)
        logits = model(x).mean(0)
    assert 0.01 < attended.mean() < 0.99 and expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_only_the_first_convolution_and_the_head_see_real_values() -> None:
    model = create_model("spikingformer", img_size=16, embed_dim=32).double()
    seen: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model(torch.rand(2, 3, 16, 16, dtype=torch.float64))
    real = [name for name, x in seen.items() if set(x.unique().tolist()) - {0.0, 1.0}]
    assert real == ["stem.first.conv", "head"]


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "dssa"}, {"attention": "lssa"}, {"attention": "none"}, {"freeze_qk": "weights"}, {"mlp": "emsp"},
        {"attention": "emsa", "attention_options": {"experts": 2}},
    ],
)  # fmt: skip
def test_ablations_are_configuration(options: dict[str, object]) -> None:
    model = create_model("spikingformer", img_size=16, embed_dim=32, T=2, **options)
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 2, 10)


def test_an_mlp_as_wide_as_the_tokens_has_no_second_shortcut() -> None:
    model = create_model("spikingformer", img_size=16, embed_dim=32, mlp_ratio=1)
    assert not any(block.mlp.inner_shortcut for block in model.blocks)
