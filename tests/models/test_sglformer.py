"""SGLFormer against its equations, written out on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError
from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
D, HEADS = 48, 4
# variant: (our name, depth, pools of the five convolutions, input)
VARIANTS = {
    "cifar": ("sglformer_cifar_1_384", 2, "00011", (3, 16, 16)),
    "events": ("sglformer_dvs_1_256", 1, "01111", (2, 32, 32)),
    "imagenet": ("sglformer_8_384", 4, "11110", (3, 64, 64)),
    "imagenet2": ("sglformer_8_768", 4, "01111", (3, 64, 64)),
}


def is_staged(variant: str) -> bool:
    return variant.startswith("imagenet")


def unit_shapes(p: SimpleNamespace, name: str, a: int, b: int, kernel: int = 1, depthwise: bool = False) -> Shapes:
    weight = (b, 1 if depthwise else a, kernel, kernel)
    return {f"{name}.conv{kernel}x{kernel}.weight": weight} | p.norm_shapes(f"{name}.bn", b)


def local_shapes(p: SimpleNamespace, loc: str, attention: str, mlp: str) -> Shapes:
    shapes = unit_shapes(p, f"{loc}.conv", D, D, 3, True) | unit_shapes(p, f"{loc}.conv1x1_1", D, 4 * D)
    shapes |= unit_shapes(p, f"{loc}.dwconv3x3", 4 * D, 4 * D, 3, True) | unit_shapes(p, f"{loc}.conv1x1_2", 4 * D, D)
    return shapes | attention_shapes(p, attention, mlp)


def attention_shapes(p: SimpleNamespace, attention: str, mlp: str) -> Shapes:
    shapes: Shapes = {}
    for part in ("q", "k", "v", "proj"):
        shapes |= unit_shapes(p, f"{attention}.{part}_conv", D, D)
    return shapes | unit_shapes(p, f"{mlp}.mlp1", D, 4 * D) | unit_shapes(p, f"{mlp}.mlp2", 4 * D, D)


def original_shapes(variant: str, p: SimpleNamespace, steps: int = 4, classes: int = 5) -> Shapes:
    _, depth, pools, (channels, side, _) = VARIANTS[variant]
    first = D // 8 if is_staged(variant) else D // 6
    shapes: Shapes = {}
    for n, (a, b) in enumerate(itertools.pairwise((channels, first, D // 4, D // 2, D, D))):
        if is_staged(variant):
            shapes |= {f"patch_embed.proj{n or ''}_conv.weight": (b, a, 3, 3)}
            shapes |= p.norm_shapes(f"patch_embed.proj{n or ''}_bn", b)
        else:
            shapes |= unit_shapes(p, f"tokenizer.conv{n}" if n else "stem.conv", a, b, 3)
    if not is_staged(variant):
        for block in range(depth):
            at = f"blocks.{block}."
            shapes |= local_shapes(p, f"{at}loc", f"{at}ssa1", f"{at}mlp1")
            shapes |= attention_shapes(p, f"{at}ssa2", f"{at}mlp2") | attention_shapes(p, f"{at}ssa3", f"{at}mlp3")
        tokens = (side // 2 ** pools.count("1")) ** 2
        shapes |= {"full_size_conv.weight": (D, 1, tokens, steps), "full_size_conv.bias": (D,)} | p.norm_shapes("bn", D)
    else:
        shapes |= local_shapes(p, "localblock.0.local1", "localblock.0.local2_SSA", "localblock.0.local2_MLP")
        for block in range(depth - 2):
            at = f"blocks.{block}."
            for part in ("q", "k", "v", "proj"):
                shapes |= {f"{at}attn.{part}_conv.weight": (D, D, 1)} | p.norm_shapes(f"{at}attn.{part}_bn", D)
            shapes[f"{at}attn.proj_conv.bias"] = (D,)
            for part, a, b in (("fc1", D, 4 * D), ("fc2", 4 * D, D)):
                shapes |= {f"{at}mlp.{part}_conv.weight": (b, a, 1), f"{at}mlp.{part}_conv.bias": (b,)}
                shapes |= p.norm_shapes(f"{at}mlp.{part}_bn", b)
            shapes |= {f"{at}norm{n}.{part}": (D,) for n in (1, 2) for part in ("weight", "bias")}
    return shapes | {"head.weight": (classes, D), "head.bias": (classes,)}


def leaky(p: SimpleNamespace, x: Tensor) -> Tensor:
    """A neuron whose time is the flattened [T·B]."""
    return p.lif(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def forward(w: dict[str, Tensor], x: Tensor, variant: str, p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] and the spikes of the last attention."""
    _, depth, pools, _ = VARIANTS[variant]
    y = x

    def unit(name: str, x: Tensor, kernel: int = 1) -> Tensor:
        return p.lif(p.synapse(w, f"{name}.conv{kernel}x{kernel}", f"{name}.bn", x))

    def depthwise(name: str, x: Tensor) -> Tensor:
        weight = w[f"{name}.conv3x3.weight"]
        convolved = torch.stack([F.conv2d(x_t, weight, None, 1, 1, groups=len(weight)) for x_t in x])
        ones = {"one.weight": torch.eye(len(weight), dtype=x.dtype)} | w
        return p.lif(p.synapse(ones, "one", f"{name}.bn", convolved))

    def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a, b, c = (p.tokens(t, HEADS) for t in (q, k, v))
        return p.grid((a @ b.mT @ c) * 0.125, q)

    def attention(name: str, x: Tensor, local: bool) -> Tensor:
        nonlocal y
        q, k, v = (unit(f"{name}.{n}_conv", x) for n in "qkv")
        product = torch.zeros_like(q)
        if local:
            for i, j in itertools.product((0, 1), repeat=2):
                product[..., i::2, j::2] = mixed(*(t[..., i::2, j::2] for t in (q, k, v)))
        else:
            product = mixed(q, k, v)
        y = p.lif(product, 0.5)
        return unit(f"{name}.proj_conv", y)

    def local_block(x: Tensor, loc: str, ssa: str, mlp: str) -> Tensor:
        u = x + depthwise(f"{loc}.conv", x)
        inner = depthwise(f"{loc}.dwconv3x3", unit(f"{loc}.conv1x1_1", u))
        x = x + u + unit(f"{loc}.conv1x1_2", inner)
        x = x + attention(ssa, x, True)
        return x + unit(f"{mlp}.mlp2", unit(f"{mlp}.mlp1", x))

    for n, flag in enumerate(pools):
        if is_staged(variant):
            x = p.synapse(w, f"patch_embed.proj{n or ''}_conv", f"patch_embed.proj{n or ''}_bn", x)
        else:
            name = f"tokenizer.conv{n}" if n else "stem.conv"
            x = p.synapse(w, f"{name}.conv3x3", f"{name}.bn", x)
        x = p.pool(x) if flag == "1" else x
        x = leaky(p, x) if variant == "imagenet2" and n == 0 else p.lif(x)
    if not is_staged(variant):
        for block in range(depth):
            at = f"blocks.{block}."
            x = local_block(x, f"{at}loc", f"{at}ssa1", f"{at}mlp1")
            for n in (2, 3):
                x = x + attention(f"{at}ssa{n}", x, False)
                x = x + unit(f"{at}mlp{n}.mlp2", unit(f"{at}mlp{n}.mlp1", x))
        total = torch.einsum("tbcn,cnt->bc", x.flatten(3), w["full_size_conv.weight"].squeeze(1))
        z = (total + w["full_size_conv.bias"] - w["bn.running_mean"]) / (w["bn.running_var"] + 1e-5).sqrt()
        z = z * w["bn.weight"] + w["bn.bias"]
    else:
        x = local_block(x, "localblock.0.local1", "localblock.0.local2_SSA", "localblock.0.local2_MLP")
        for block in range(depth - 2):
            at = f"blocks.{block}."

            def layer(part: str, x: Tensor, at: str = at) -> Tensor:
                return p.synapse(w, f"{at}{part}_conv", f"{at}{part}_bn", x)

            y = p.lif(mixed(*(p.lif(layer(f"attn.{n}", x)) for n in "qkv")), 0.5)
            x = x + leaky(p, layer("attn.proj", y))
            x = x + p.lif(layer("mlp.fc2", p.lif(layer("mlp.fc1", x))))
        z = x.mean((3, 4)).mean(0)
    return z @ w["head.weight"].T + w["head.bias"], y


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, depth, _, size = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    for key, value in weights.items():
        if key.endswith(("q_conv.bn.bias", "k_conv.bn.bias", "v_conv.bn.bias")):
            value.uniform_(0.5, 2)
    sizes = {"embed_dim": D, "depth": depth, "num_heads": HEADS, "img_size": size[-1], "num_classes": 5, "T": 4}
    model = create_model(name, **sizes).double().eval()
    report = load_official(model, weights)
    assert report.complete and sorted(report.ignored) == sorted(n for n in weights if ".norm" in n)
    assert bool(report.notes) == is_staged(variant)
    x = torch.randn(4, 3, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, attended = forward(weights, x, variant, plain)
        logits = model(x).mean(0)
        assert 0.01 < attended.mean() < 0.99 and expected.std(0).max() > 1e-3
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
        if is_staged(variant):
            model.follow_release(False)
            alone = [forward(weights, x[:, n : n + 1], variant, plain)[0] for n in range(3)]
            torch.testing.assert_close(model(x).mean(0), torch.cat(alone), rtol=0, atol=1e-10)


def test_training_has_the_mean_of_the_original(plain: SimpleNamespace) -> None:
    model = create_model("sglformer", embed_dim=24, img_size=8, num_classes=3).double()
    tokens = torch.rand(4, 5, 24, 8, 8, dtype=torch.float64)
    readout = model.readout
    conv = torch.nn.Conv2d(24, 24, (64, 4), groups=24).double()
    conv.weight.data, conv.bias.data = readout.weight.data, readout.bias.data  # pyright: ignore
    norm = torch.nn.BatchNorm2d(24).double()
    expected = norm(conv(tokens.flatten(3).permute(1, 2, 3, 0))).flatten(1)
    ours = readout(tokens)
    torch.testing.assert_close(ours.mean(0), expected, rtol=0, atol=1e-12)
    assert ours.std(0).min() > 0
    torch.testing.assert_close(readout.bn.running_var, norm.running_var, rtol=0, atol=1e-12)
    readout.eval(), norm.eval()
    expected = norm(conv(tokens.flatten(3).permute(1, 2, 3, 0))).flatten(1)
    torch.testing.assert_close(readout(tokens).mean(0), expected, rtol=0, atol=1e-12)


def test_the_readout_of_a_stream_knows_its_step() -> None:
    model = create_model("sglformer", embed_dim=24, img_size=8, T=3).double().eval()
    x = torch.rand(6, 2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad(), ranvier.carry(model):
        parts = torch.cat([model(x[:2]), model(x[2:5]), model(x[5:])])
    torch.testing.assert_close(parts, model(x).detach(), rtol=0, atol=1e-12)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="at least 3"):
        create_model("sglformer_8_384", depth=2)
    with pytest.raises(ArgumentError, match="'fused' or 'staged'"):
        create_model("sglformer", layout="both")
    with pytest.raises(ArgumentError, match="'full', 'mean' or None"):
        create_model("sglformer", readout="max")
    with pytest.raises(ArgumentError, match="string of 5 flags"):
        create_model("sglformer", pools="0011")
