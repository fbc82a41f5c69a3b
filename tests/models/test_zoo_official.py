"""SEMM, TIM and STAtten against their equations, on state dicts with the original names."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.models import create_model, load_official, model_card

Shapes = dict[str, tuple[int, ...]]
D, DEPTH, CLASSES = 32, 2, 5


def stem_shapes(plain: SimpleNamespace, channels: int) -> Shapes:
    shapes: Shapes = {}
    for i, (a, b) in enumerate(itertools.pairwise((channels, D // 8, D // 4, D // 2, D))):
        number = i or ""
        shapes |= {f"patch_embed.proj_conv{number}.weight": (b, a, 3, 3)}
        shapes |= plain.norm_shapes(f"patch_embed.proj_bn{number}", b)
    shapes |= {"patch_embed.rpe_conv.weight": (D, D, 3, 3)} | plain.norm_shapes("patch_embed.rpe_bn", D)
    return shapes | {"head.weight": (CLASSES, D), "head.bias": (CLASSES,)}


def spiking_stem(w: dict[str, Tensor], x: Tensor, p: SimpleNamespace, pools: str) -> Tensor:
    for i, flag in enumerate(pools):
        number = i or ""
        x = p.lif(p.synapse(w, f"patch_embed.proj_conv{number}", f"patch_embed.proj_bn{number}", x))
        x = p.pool(x) if flag == "1" else x
    return x + p.lif(p.synapse(w, "patch_embed.rpe_conv", "patch_embed.rpe_bn", x))


def test_semm_of_step(plain: SimpleNamespace) -> None:
    experts, width, hidden = 3, 8, 4 * D
    shapes = stem_shapes(plain, 3)

    def linear(name: str, norm: str, i: int, o: int) -> Shapes:
        return {f"{name}.weight": (o, i), f"{name}.bias": (o,)} | plain.norm_shapes(norm, o)

    for block in range(DEPTH):
        at = f"block.{block}."
        shapes |= linear(f"{at}attn.k_linear", f"{at}attn.k_bn", D, width)
        shapes |= linear(f"{at}attn.v_linear", f"{at}attn.v_bn", D, D)
        shapes |= linear(f"{at}attn.proj_linear", f"{at}attn.proj_bn", D, D)
        shapes |= linear(f"{at}attn.router1", f"{at}attn.router2", D, experts)
        for i in range(experts):
            shapes |= linear(f"{at}attn.ff_list.{i}.unit_linear", f"{at}attn.ff_list.{i}.unit_bn", D, width)
        shapes |= linear(f"{at}mlp.fc1_linear", f"{at}mlp.fc1_bn", D, hidden)
        shapes |= linear(f"{at}mlp.fc2_linear", f"{at}mlp.fc2_bn", hidden // 2, D)
        shapes |= {f"{at}mlp.dw_conv.weight": (hidden // 2, 1, 3, 3)}
        shapes |= plain.norm_shapes(f"{at}mlp.dw_bn", hidden // 2)
    weights = plain.random_weights(shapes)
    for name in weights:
        if name.endswith(("unit_bn.bias", "router2.bias", "mlp.dw_bn.bias")):
            weights[name] = weights[name].abs() + 1
    model = create_model(
        "semm_spikformer_cifar_4_384", embed_dim=D, depth=DEPTH, num_heads=2, img_size=16, num_classes=CLASSES,
        attention_options={"experts": experts, "expert_dim": width},
    ).double().eval()  # fmt: skip
    assert load_official(model, weights).complete

    def unit(name: str, norm: str, y: Tensor) -> Tensor:
        return plain.lif(plain.synapse(weights, name, norm, y))

    x = torch.randn(4, 3, 3, 16, 16, dtype=torch.float64) * 2
    with torch.no_grad():
        y = spiking_stem(weights, x, plain, "0011")
        for block in range(DEPTH):
            at = f"block.{block}."
            k = plain.tokens(unit(f"{at}attn.k_linear", f"{at}attn.k_bn", y), 1)
            v = plain.tokens(unit(f"{at}attn.v_linear", f"{at}attn.v_bn", y), 1)
            router = unit(f"{at}attn.router1", f"{at}attn.router2", y)
            total = torch.zeros_like(y)
            for i in range(experts):
                q = plain.tokens(unit(f"{at}attn.ff_list.{i}.unit_linear", f"{at}attn.ff_list.{i}.unit_bn", y), 1)
                total = total + router[:, :, i : i + 1] * plain.grid(plain.lif((q @ k.mT) @ v * 0.125), y)
            assert total.any() and (block or total.max() > 1)
            y = y + unit(f"{at}attn.proj_linear", f"{at}attn.proj_bn", total)
            h = unit(f"{at}mlp.fc1_linear", f"{at}mlp.fc1_bn", y)
            gate, rest = h.chunk(2, 2)
            gate = torch.stack([F.conv2d(g, weights[f"{at}mlp.dw_conv.weight"], None, 1, 1, 1, 64) for g in gate])
            mean, var = (weights[f"{at}mlp.dw_bn.running_{n}"][:, None, None] for n in ("mean", "var"))
            gate = (gate - mean) / (var + 1e-5).sqrt() * weights[f"{at}mlp.dw_bn.weight"][:, None, None]
            gate = plain.lif(gate + weights[f"{at}mlp.dw_bn.bias"][:, None, None])
            y = y + unit(f"{at}mlp.fc2_linear", f"{at}mlp.fc2_bn", gate * rest)
        expected = y.mean((3, 4)).mean(0) @ weights["head.weight"].T + weights["head.bias"]
        torch.testing.assert_close(model(x).mean(0), expected, rtol=0, atol=1e-10)


def test_tim_of_brain_cog(plain: SimpleNamespace) -> None:
    heads = 8  # four channels a head, as many as there are tokens
    shapes = stem_shapes(plain, 2)
    for block in range(DEPTH):
        at = f"block.{block}."
        for part in ("q", "k", "v", "proj"):
            shapes[f"{at}attn.{part}_conv.weight"] = (D, D, 1)
            shapes |= plain.norm_shapes(f"{at}attn.{part}_bn", D)
        shapes |= {f"{at}attn.TIM.interactor.weight": (4, 4, 5), f"{at}attn.TIM.interactor.bias": (4,)}
        for part, a, b in (("fc1", D, 4 * D), ("fc2", 4 * D, D)):
            shapes |= {f"{at}mlp.{part}_conv.weight": (b, a, 1), f"{at}mlp.{part}_conv.bias": (b,)}
            shapes |= plain.norm_shapes(f"{at}mlp.{part}_bn", b)
        shapes |= {f"{at}norm{i}.{part}": (D,) for i in (1, 2) for part in ("weight", "bias")}
    weights = plain.random_weights(shapes)
    for name in weights:
        if name.endswith(("q_bn.bias", "k_bn.bias", "v_bn.bias")):
            weights[name] = weights[name] + 1.5
    model = create_model(
        "tim_dvs", embed_dim=D, depth=DEPTH, num_heads=heads, img_size=32, num_classes=CLASSES
    ).double().eval()  # fmt: skip
    report = load_official(model, weights)
    assert report.complete and len(report.ignored) == 8 and "silent" in report.notes[0]
    x = torch.randn(6, 3, 2, 32, 32, dtype=torch.float64) * 2

    def unit(at: str, part: str, y: Tensor) -> Tensor:
        return plain.lif(plain.synapse(weights, f"{at}{part}_conv", f"{at}{part}_bn", y))

    with torch.no_grad():
        y = spiking_stem(weights, x, plain, "1111")
        for block in range(DEPTH):
            at = f"block.{block}."
            q, k, v = (
                unit(at, f"attn.{n}", y).flatten(3).reshape(6, 3, 4, heads, 4).permute(0, 1, 3, 2, 4) for n in "qkv"
            )
            state = torch.zeros(2, *q.shape[1:], dtype=torch.float64)
            steps = [q[0]]
            for now in q[1:]:
                conv = (weights[f"{at}attn.TIM.interactor.{n}"] for n in ("weight", "bias"))
                past = F.conv1d(steps[-1].flatten(0, 1), *conv, padding=2).view(q.shape[1:])
                inner = state[0] + (past - state[0]) / 2
                s = (inner >= 1).double()
                outer = state[1] + (0.5 * s + 0.5 * now - state[1]) / 2
                steps.append((outer >= 1).double())
                state = torch.stack([inner * (1 - s), outer * (1 - steps[-1])])
            mixed = (torch.stack(steps) @ k.mT) @ v * 0.25
            mixed = plain.lif(mixed.transpose(3, 4).reshape(y.shape))
            assert mixed.any()
            y = y + unit(at, "attn.proj", mixed)
            y = y + unit(at, "mlp.fc2", unit(at, "mlp.fc1", y))
        expected = y.mean((3, 4)).mean(0) @ weights["head.weight"].T + weights["head.bias"]
        torch.testing.assert_close(model(x).mean(0), expected, rtol=0, atol=1e-10)
        model.follow_release(False)
        assert not torch.equal(model(x).mean(0), expected)


@pytest.mark.parametrize(("name", "channels", "chunk", "events"), [
    ("statten_cifar_2_512", 3, 2, False), ("statten_dvs_2_256", 2, 4, True),
])  # fmt: skip
def test_statten(name: str, channels: int, chunk: int, events: bool, plain: SimpleNamespace) -> None:
    heads, side = 4, 4
    shapes = stem_shapes(plain, channels)
    for block in range(DEPTH):
        at = f"block.{block}."
        for part in ("q", "k", "v", "proj"):
            shapes[f"{at}attn.{part}_conv.weight"] = (D, D, 1, 1)
            shapes |= plain.norm_shapes(f"{at}attn.{part}_bn", D)
        shapes |= {f"{at}attn.proj_conv.bias": (D,), f"{at}attn.talking_heads.weight": (heads, heads, 1)}
        for part, a, b in (("fc1", D, 4 * D), ("fc2", 4 * D, D)):
            shapes |= {f"{at}mlp.{part}_conv.weight": (b, a, 1, 1), f"{at}mlp.{part}_conv.bias": (b,)}
            shapes |= plain.norm_shapes(f"{at}mlp.{part}_bn", b)
    weights = plain.random_weights(shapes)
    model = create_model(
        name, embed_dim=D, depth=DEPTH, num_heads=heads, img_size=16, num_classes=CLASSES
    ).double().eval()  # fmt: skip
    report = load_official(model, weights)
    assert report.complete and len(report.ignored) == DEPTH
    steps = 2 * chunk
    x = torch.randn(steps, 3, channels, 16, 16, dtype=torch.float64) * 2

    def pooled(y: Tensor) -> Tensor:
        return torch.stack([F.max_pool2d(y_t, 3, 1, 1) for y_t in y]) if events else y

    def bn(at: str, part: str, y: Tensor) -> Tensor:
        return plain.synapse(weights, f"{at}{part}_conv", f"{at}{part}_bn", y)

    with torch.no_grad():
        y = x
        for i, flag in enumerate("0011"):
            number = i or ""
            y = plain.synapse(weights, f"patch_embed.proj_conv{number}", f"patch_embed.proj_bn{number}", y)
            y = plain.lif(y) if i < 3 else y
            y = plain.pool(y) if flag == "1" else y
        y = y + plain.synapse(weights, "patch_embed.rpe_conv", "patch_embed.rpe_bn", plain.lif(y))
        for block in range(DEPTH):
            at = f"block.{block}."
            s = plain.lif(y)
            q, k, v = (plain.tokens(pooled(plain.lif(bn(at, f"attn.{n}", s))), heads) for n in "qkv")
            scale = 1 / (side * side * chunk) if events else 1 / side
            products = []
            for start in range(0, steps, chunk):
                part = slice(start, start + chunk)
                memory = (k[part].mT @ v[part]).sum(0) * scale  # over the steps and the tokens of the chunk
                products += [q[t] @ memory for t in range(start, start + chunk)]
            mixed = plain.lif(plain.grid(torch.stack(products), y), threshold=0.5)
            assert 0.01 < mixed.mean() < 1
            mixed = mixed * pooled(s) + pooled(s) if events else mixed
            y = y + bn(at, "attn.proj", mixed)
            y = y + bn(at, "mlp.fc2", plain.lif(bn(at, "mlp.fc1", plain.lif(y))))
        head = plain.lif(y.mean((3, 4))) @ weights["head.weight"].T + weights["head.bias"]
        torch.testing.assert_close(model(x), head, rtol=0, atol=1e-10)


PUBLISHED = {
    "semm_spikformer_cifar_4_384": 7_739_242,
    "tim_dvs": 2_570_794 - 2_048,  # without the layer norms that are never used
    "tim_ncaltech101": 2_594_181 - 2_048,
    "statten_cifar_2_512": 10_233_418,
    "statten_8_512": 29_689_384,
    "statten_8_768": 66_338_632,
    "statten_dvs_2_256": 2_566_666,
    "spt_modelnet40": 9_651_425,
    "spt_modelnet40_t2": 9_643_489,
    "spt_modelnet40_t1": 9_639_521,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in create_model(name).parameters())
    assert count == model_card(name).params == PUBLISHED[name]


def test_the_interaction_has_the_published_parameters() -> None:
    with torch.device("meta"):
        net = create_model("tim_dvs")
    assert sum(p.numel() for name, p in net.named_parameters() if ".interaction." in name) == 2_592
