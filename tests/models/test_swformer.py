"""The Spiking Wavelet Transformer against its equations, written out on a state dict with the original's names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.layers import haar_matrix
from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
D, DEPTH, BLOCKS = 32, 2, 4
# variant: (our name, name of the mixer, name of its inner norm, pools, input, threshold of the transforms)
VARIANTS = {
    "cifar": ("swformer_cifar_4_384", "mixer", "haar_multiply", "0011", (3, 32, 32), 1.0),
    "events": ("swformer_dvs_2_256", "mixer", "haar_multiply", "1111", (2, 64, 64), 1.0),
    "imagenet": ("swformer_6_512", "attn", "haar", "1111", (3, 128, 128), 0.5),
}


def original_shapes(variant: str, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    _, mixer, inner, _, (channels, _, _), _ = VARIANTS[variant]
    shapes: Shapes = {}
    for n, (a, b) in enumerate(itertools.pairwise((channels, D // 8, D // 4, D // 2, D))):
        shapes |= {f"patch_embed.proj_conv{n or ''}.weight": (b, a, 3, 3)}
        shapes |= plain.norm_shapes(f"patch_embed.proj_bn{n or ''}", b)
    shapes |= {"patch_embed.rpe_conv.weight": (D, D, 3, 3)} | plain.norm_shapes("patch_embed.rpe_bn", D)
    d = D // BLOCKS
    for block in range(DEPTH):
        at = f"block.{block}.{mixer}."
        shapes |= {f"{at}haar_weight": (BLOCKS, d, d)}
        for n, k in ((1, 1), (2, 3)):
            shapes |= {f"{at}conv{n}.weight": (d, d, k, k), f"{at}conv{n}.bias": (d,)}
        for norm in ("haar_forward", inner, "haar_inverse", "conv1", "conv2"):
            shapes |= plain.norm_shapes(f"{at}{norm}_bn", D)
        for part, a, b in (("fc1", D, 4 * D), ("fc2", 4 * D, D)):
            at = f"block.{block}.mlp.{part}_"
            shapes |= {f"{at}conv.weight": (b, a, 1, 1), f"{at}conv.bias": (b,)} | plain.norm_shapes(f"{at}bn", b)
    return shapes | {"head.weight": (classes, D), "head.bias": (classes,)}


def forward(w: dict[str, Tensor], x: Tensor, variant: str, p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] and the last spikes inside a transform."""
    _, mixer, inner, pools, _, theta = VARIANTS[variant]
    signed = x
    for i, flag in enumerate(pools):
        x = p.synapse(w, f"patch_embed.proj_conv{i or ''}", f"patch_embed.proj_bn{i or ''}", x)
        x = p.lif(x) if i < 3 else x
        x = p.pool(x) if flag == "1" else x
    x = x + p.synapse(w, "patch_embed.rpe_conv", "patch_embed.rpe_bn", p.lif(x))
    haar = haar_matrix(x.shape[-1])

    def neg_if(x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for x_t in x:
            v = v + x_t
            spikes.append((v >= theta).to(x.dtype) - (v <= -(0.5 + 1e-3)).to(x.dtype))
            v = torch.where(spikes[-1] == 0, v, torch.zeros_like(v))
        return torch.stack(spikes)

    def norm(name: str, x: Tensor) -> Tensor:
        ones = {"one.weight": torch.eye(D, dtype=x.dtype)} | w
        return p.synapse(ones, "one", name, x)

    def max3x3(x: Tensor) -> Tensor:
        return torch.stack([F.max_pool2d(x_t, 3, 1, 1) for x_t in x])

    def shared(at: str, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for n, pad in ((1, 0), (2, 1)):
            weight, bias = w[f"{at}conv{n}.weight"], w[f"{at}conv{n}.bias"]
            y = [torch.cat([F.conv2d(b, weight, bias, 1, pad) for b in x_t.chunk(BLOCKS, 1)], 1) for x_t in x]
            out = out + norm(f"{at}conv{n}_bn", torch.stack(y))
        return out

    for block in range(DEPTH):
        at = f"block.{block}.{mixer}."
        s = p.lif(x)
        s = max3x3(s) if variant == "events" else s
        y = p.lif(norm(f"{at}haar_forward_bn", haar @ neg_if(s @ haar.T)))
        y = torch.cat(
            [
                torch.einsum("tbdhw,dk->tbkhw", c, m)
                for c, m in zip(y.chunk(BLOCKS, 2), w[f"{at}haar_weight"], strict=True)
            ],
            2,
        )
        signed = neg_if(neg_if(norm(f"{at}{inner}_bn", y)) @ haar)
        y = norm(f"{at}haar_inverse_bn", haar.T @ signed)
        x = x + (shared(at, max3x3(y)) if variant == "events" else y + shared(at, s))
        at = f"block.{block}.mlp."
        h = p.synapse(w, f"{at}fc1_conv", f"{at}fc1_bn", p.lif(x))
        x = x + p.synapse(w, f"{at}fc2_conv", f"{at}fc2_bn", p.lif(h))
    z = x.mean((3, 4))
    z = p.lif(z) if variant == "imagenet" else z
    return (z @ w["head.weight"].T + w["head.bias"]).mean(0), signed


@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, plain: SimpleNamespace) -> None:
    name, _, _, _, size, theta = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(variant, plain))
    sizes = {"embed_dim": D, "depth": DEPTH, "num_blocks": BLOCKS, "img_size": size[-1], "num_classes": 5}
    model = create_model(name, **sizes, haar_threshold=theta).double().eval()
    report = load_official(model, weights)
    assert report.complete and not report.ignored
    x = torch.randn(4, 2, *size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, signed = forward(weights, x, variant, plain)
        torch.testing.assert_close(model(x).mean(0), expected, rtol=0, atol=1e-10)
    assert (signed == 1).any() and (signed == -1).any() and expected.std(0).max() > 1e-3


@pytest.mark.parametrize(("name", "width", "size"), [("swformer", 32, 28), ("swformer_dvs_2_256", 32, (48, 80))])
def test_grids_that_are_no_powers_of_two(name: str, width: int, size: int | tuple[int, int]) -> None:
    model = create_model(name, img_size=size, embed_dim=width, T=2)
    shape = (size, size) if isinstance(size, int) else size
    assert model(torch.rand(2, model.in_channels, *shape)).shape == (2, 2, 10)


def test_initialisation_follows_the_release() -> None:
    torch.manual_seed(0)
    imagenet, cifar = create_model("swformer_8_384", depth=1), create_model("swformer_cifar_4_384", depth=1)
    assert imagenet.blocks[0].mlp.fc1.conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert imagenet.head.weight.abs().max().item() == pytest.approx(384**-0.5, rel=0.01)
    assert cifar.blocks[0].mlp.fc1.conv.weight.abs().max().item() == pytest.approx(384**-0.5, rel=0.01)
    assert cifar.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for model in (imagenet, cifar):
        assert model.blocks[0].attention.weight.std().item() == pytest.approx(0.02, rel=0.05)
