"""QKFormer against its equations, on a state dict with the original's names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.models import create_model, load_official

Shapes = dict[str, tuple[int, ...]]
HEADS = 2
# variant: our name, its sizes, and the original's names: per embedding the convolutions (name, in, out, pool) with the
# number of them before the shortcut; per stage the attention and MLP prefixes.
VARIANTS: dict[str, SimpleNamespace] = {
    "cifar": SimpleNamespace(
        name="qkformer_cifar_4_384", depths=(1, 1, 2), size=(3, 16, 16), ratio=4, mlp="mlp", last="ssa",
        embeds=(
            ((("proj", 3, 4, 0), ("proj1", 4, 8, 0)), 1),
            ((("proj3", 8, 16, 0), ("proj4", 16, 16, 1)), 0),
            ((("proj3", 16, 32, 0), ("proj4", 32, 32, 1)), 0),
        ),
    ),
    "imagenet": SimpleNamespace(
        name="qkformer_10_384", depths=(1, 2, 1), size=(3, 48, 48), ratio=4, mlp="fc", last="attn",
        embeds=(
            ((("proj", 3, 4, 1), ("proj1", 4, 8, 1), ("proj2", 8, 8, 0)), 1),
            ((("proj3", 8, 16, 1), ("proj4", 16, 16, 0)), 0),
            ((("proj3", 16, 32, 1), ("proj4", 32, 32, 0)), 0),
        ),
    ),
    "events": SimpleNamespace(
        name="qkformer_cifar10dvs", depths=(1, 1), size=(2, 32, 32), ratio=1, mlp="mlp", last="ssa",
        embeds=(
            ((("proj", 2, 2, 0), ("proj1", 2, 4, 1), ("proj2", 4, 8, 1), ("proj3", 8, 16, 1)), 2),
            ((("proj", 16, 32, 0), ("proj4", 32, 32, 1)), 0),
        ),
    ),
}  # fmt: skip


def original_shapes(v: SimpleNamespace, plain: SimpleNamespace, classes: int = 5) -> Shapes:
    shapes: Shapes = {}
    for n, ((convs, tap), depth) in enumerate(zip(v.embeds, v.depths, strict=True), start=1):
        at = f"patch_embed{n}."
        for conv, a, b, _ in convs:
            shapes |= {f"{at}{conv}_conv.weight": (b, a, 3, 3)} | plain.norm_shapes(f"{at}{conv}_bn", b)
        dim = convs[-1][2]
        shapes |= {f"{at}proj_res_conv.weight": (dim, convs[tap][1], 1, 1)} | plain.norm_shapes(f"{at}proj_res_bn", dim)
        for block in range(depth):
            last = n == len(v.depths)
            at = f"stage{n}.{block}.{v.last if last else 'tssa'}."
            for part in ("q", "k", "v", "proj") if last else ("q", "k", "proj"):
                shapes |= {f"{at}{part}_conv.weight": (dim, dim, 1)} | plain.norm_shapes(f"{at}{part}_bn", dim)
            shapes[f"{at}proj_conv.bias"] = (dim,)
            at, hidden = f"stage{n}.{block}.mlp.{v.mlp}", v.ratio * dim
            for part, a, b in ((1, dim, hidden), (2, hidden, dim)):
                shapes |= {f"{at}{part}_conv.weight": (b, a, 1, 1), f"{at}{part}_conv.bias": (b,)}
                shapes |= plain.norm_shapes(f"{at}{part}_bn", b)
    return shapes | {"head.weight": (classes, 32), "head.bias": (classes,)}


def forward(w: dict[str, Tensor], x: Tensor, v: SimpleNamespace, p: SimpleNamespace, leak: bool) -> list[Tensor]:
    """Logits [B, classes], then the spikes after every attention product."""
    mixed: list[Tensor] = []
    for n, ((convs, tap), depth) in enumerate(zip(v.embeds, v.depths, strict=True), start=1):
        at, stride = f"patch_embed{n}.", 2 ** sum(pool for *_, pool in convs[tap:])
        points = [x]
        for conv, _, _, pool in convs:
            y = p.synapse(w, f"{at}{conv}_conv", f"{at}{conv}_bn", points[-1])
            points.append(p.lif(p.pool(y) if pool else y))
        x = points[-1] + p.lif(p.synapse(w, f"{at}proj_res_conv", f"{at}proj_res_bn", points[tap], stride))
        for block in range(depth):
            last = n == len(v.depths)
            at = f"stage{n}.{block}.{v.last if last else 'tssa'}."
            parts = [
                p.tokens(p.lif(p.synapse(w, f"{at}{c}_conv", f"{at}{c}_bn", x)), HEADS)
                for c in ("qkv" if last else "qk")
            ]
            if last:
                y = p.lif(parts[0] @ (parts[1].mT @ parts[2]) * 0.125, threshold=0.5)
            else:
                y = p.lif(parts[0].sum(-1, keepdim=True), threshold=0.5) * parts[1]
            mixed.append(y)
            y = p.synapse(w, f"{at}proj_conv", f"{at}proj_bn", p.grid(y, x))
            x = x + (p.lif(y.flatten(0, 1)).view_as(y) if leak and last else p.lif(y))
            at, y = f"stage{n}.{block}.mlp.{v.mlp}", x
            for part in (1, 2):
                y = p.lif(p.synapse(w, f"{at}{part}_conv", f"{at}{part}_bn", y))
            x = x + y
    return [x.mean((3, 4)).mean(0) @ w["head.weight"].T + w["head.bias"], *mixed]


def sizes_of(v: SimpleNamespace) -> dict[str, object]:
    return {"embed_dim": 32, "depth": sum(v.depths), "num_heads": HEADS, "img_size": v.size[-1], "num_classes": 5}


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_original_weights_give_the_original_logits(variant: str, leak: bool, plain: SimpleNamespace) -> None:
    v = VARIANTS[variant]
    weights = plain.random_weights(original_shapes(v, plain))
    model = create_model(v.name, **sizes_of(v)).double().eval()
    report = load_official(model, weights)
    assert "follow_release(False)" in str(report), "loaded weights follow the release, and the report says so"
    if not leak:
        model.follow_release(False)
    assert report.complete and not report.ignored and len(report.loaded) == len(weights)
    x = torch.randn(4, 3, *v.size, dtype=torch.float64) * 2
    with torch.no_grad():
        expected, *mixed = forward(weights, x, v, plain, leak)
        logits = model(x).mean(0)
        other, *_ = forward(weights, x, v, plain, not leak)
    assert all(0.01 < spikes.mean() < 0.99 for spikes in mixed) and expected.std(0).max() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    assert not torch.allclose(expected, other)


def test_one_sample_is_the_same_with_and_without_the_leak(plain: SimpleNamespace) -> None:
    v = VARIANTS["cifar"]
    weights = plain.random_weights(original_shapes(v, plain))
    x = torch.rand(4, 1, *v.size, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(forward(weights, x, v, plain, True)[0], forward(weights, x, v, plain, False)[0])


def test_channel_attention_is_an_option() -> None:
    model = create_model("qkformer", qk_attention="channel", img_size=8, embed_dim=32)
    assert type(model.stages[0][0].attention).__name__ == "QKChannelAttention"
    assert model(torch.rand(2, 3, 8, 8)).shape == (4, 2, 10)


def test_heads_may_differ_between_stages() -> None:
    model = create_model("qkformer", num_heads=(1, 2, 4), img_size=8, embed_dim=32)
    assert [stage[0].attention.num_heads for stage in model.stages] == [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 1}, "depth counts all blocks"),
        ({"embed_dim": 30, "num_heads": 1}, "embed_dim must be a multiple of 4"),
        ({"num_heads": (1, 2)}, "num_heads must be one number or 3"),
        ({"qk_depths": (1,)}, "qk_depths must have a positive number"),
        ({"pools": ("0", "01", "01")}, "pools must begin with a string of 2, 3 or 4 flags"),
        ({"pools": ("00", "012", "01")}, "pools must be a string of 2 flags"),
        ({"qk_attention": "row"}, "qk_attention"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
    ],
)
def test_bad_arguments_name_themselves(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_model("qkformer", **arguments)
