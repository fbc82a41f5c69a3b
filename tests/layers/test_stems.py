"""Stems and controls of attention, one factor at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.layers import STEMS, PatchStem, ValueOnly, build_stem, freeze_queries
from ranvier.models import create_model
from ranvier.neurons import NeuronFactory

LIF = NeuronFactory("lif")


def convolutions(module: nn.Module) -> list[tuple[int, int, int]]:
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in module.modules() if isinstance(c, nn.Conv2d)]


def stem(kind: str, position: str | None = None, residual: str = "post") -> nn.Module:
    return build_stem(kind, 3, 16, LIF, "0011", residual, position, (16, 16))


@pytest.mark.parametrize("residual", ["post", "membrane"])
@pytest.mark.parametrize("kind", STEMS)
def test_every_stem_makes_the_same_tokens(kind: str, residual: str) -> None:
    for position in (None,) if kind == "sps" else (None, "conv", "table", "none"):
        made = stem(kind, position, residual)
        out = made(torch.rand(2, 3, 3, 16, 16))
        assert out.shape == (2, 3, 16, 4, 4)
        if residual == "post" and position == "none":
            assert set(out.unique().tolist()) <= {0.0, 1.0}


def test_stems_differ_in_what_they_say() -> None:
    assert convolutions(stem("thin4", "none")) == [(3, 2, 3), (2, 4, 3), (4, 8, 3), (8, 16, 3)]
    assert convolutions(stem("wide4", "none")) == [(3, 4, 3), (4, 8, 3), (8, 16, 3), (16, 16, 3)]
    assert convolutions(stem("conv2", "conv")) == [(3, 4, 3), (4, 16, 3), (16, 16, 3)]
    assert convolutions(stem("conv1", "none")) == [(3, 16, 3)]
    assert convolutions(stem("patchify")) == [(3, 16, 4)]
    assert stem("patchify").table.shape == (16, 4, 4) and stem("conv1", "conv").table is None


@pytest.mark.parametrize("residual", ["post", "membrane"])
def test_four_thin_convolutions_are_the_published_stem(residual: str) -> None:
    ours, published = stem("thin4", "conv", residual).double().eval(), PatchStem(3, 16, LIF, "0011", residual)
    published.load_state_dict(ours.state_dict())
    x = 4 * torch.rand(3, 2, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(ours(x), published.double().eval()(x))


def test_random_attention_trains_its_norms_only() -> None:
    net = create_model("spikformer", img_size=16, embed_dim=16, num_heads=2, freeze_qk="weights")
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert sorted(frozen) == sorted(f"blocks.{b}.attention.{n}.block.conv.{p}" for b in (0, 1) for n in "qk"
                                    for p in ("weight", "bias"))  # fmt: skip
    net = create_model("sdt", img_size=16, embed_dim=16, num_heads=2, freeze_qk="norm")
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in net.named_parameters() if ".attention.q." in name or ".attention.k." in name}


def test_value_only_is_the_projection_of_the_values() -> None:
    branch = ValueOnly(8, 2, LIF).double().eval()
    x = 4 * torch.rand(3, 2, 8, 3, 3, dtype=torch.float64)
    assert torch.equal(branch(x).flatten(3), branch.after(branch.proj(branch.v(x.flatten(3)))))
    with pytest.raises(ArgumentError, match="neither queries nor keys"):
        freeze_queries(branch, "weights")


@pytest.mark.parametrize("name", ["spikformer", "sdt"])
@pytest.mark.parametrize(
    "attention", ["ssa", "sdsa1", "sdsa3", "qk_token", "emsa", "tim", "statten", "v_only", "dssa", "none"]
)
def test_any_attention_in_any_block(name: str, attention: str) -> None:
    net = create_model(name, img_size=8, embed_dim=16, depth=1, num_heads=2, attention=attention, stem="conv1", T=2)
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="conv2"):
        create_model("spikformer", stem="conv3")
    with pytest.raises(ArgumentError, match="thin4"):
        create_model("spikformer", position="none")
    with pytest.raises(ArgumentError, match="multiple of the patch"):
        create_model("spikformer", stem="patchify", img_size=18, pools="0011")
    with pytest.raises(ArgumentError, match="freeze_qk"):
        create_model("spikformer", freeze_qk="all")
    with pytest.raises(ArgumentError, match="neither attention_options"):
        create_model("spikformer", attention="none", freeze_qk="norm")
    with pytest.raises(ArgumentError, match="alfa"):
        create_model("spikformer", attention="tim", attention_options={"alfa": 0.5})
    with pytest.raises(ArgumentError, match="emsp"):
        create_model("sdt", mlp="moe")
