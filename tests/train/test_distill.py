"""Fine-grained distillation: invariances, gradients, and a recipe that uses a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ConfigError, ShapeError
from ranvier.models import create_model
from ranvier.train import FineGrainedDistillation, fit, parse_recipe
from ranvier.train.distill import gram_distance, standardised_distance

SMALL = {"embed": (4, 8, 8, 16), "depth": 4, "num_heads": 2, "num_classes": 5, "img_size": 16, "layer_scale": 0.5}


def student(**overrides: Any) -> nn.Module:
    return create_model("qsd_transformer_15m", **{**SMALL, **overrides})


def teacher(**overrides: Any) -> nn.Module:
    return student(neuron="relu", attention="softmax", attn_threshold=None, bits=None, **overrides)


def taps() -> tuple[Tensor, Tensor]:
    return torch.rand(3, 2, 6, 4, dtype=torch.float64), torch.rand(3, 2, 6, 4, dtype=torch.float64)


def test_the_gram_distance_is_its_formula() -> None:
    a, b = taps()
    expected = torch.zeros((), dtype=torch.float64)
    for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True):
        g, h = x @ x.T, y @ y.T
        expected += (g / g.norm() - h / h.norm()).norm() / 3
    torch.testing.assert_close(gram_distance(a, b), expected)


def test_scale_and_rotation_do_not_matter_to_similarities() -> None:
    a, b = taps()
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    d = gram_distance(a, b)
    torch.testing.assert_close(gram_distance(3.7 * a, b @ rotation), d, rtol=1e-10, atol=0)
    assert gram_distance(a, a).item() == 0 and standardised_distance(a, a).item() == 0
    assert gram_distance(a @ rotation, 2 * a).item() < 1e-12 < d.item()
    torch.testing.assert_close(standardised_distance(5 * a + 3, b), standardised_distance(a, b))
    silent = torch.zeros_like(a, requires_grad=True)
    gram_distance(silent, b).backward()
    assert silent.grad is not None and silent.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["gram", "mse"])
def test_the_student_learns_and_the_teacher_does_not(mode: Any) -> None:
    torch.manual_seed(1)
    net, guide = student(img_size=32).train(), teacher(img_size=32)
    fgd = FineGrainedDistillation(guide, mode=mode)
    x = torch.rand(4, 3, 32, 32)  # four tokens: one has no similarities
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        with fgd.watching(net):
            net(x)
        loss = fgd(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in guide.parameters()) and not guide.training
    assert fgd.teacher_logits is not None and fgd.teacher_logits.shape == (1, 4, 5)
    assert not list(fgd.parameters()) and not any(m._forward_hooks for m in net.modules())


def test_a_net_is_at_no_distance_from_itself() -> None:
    net = student().eval()
    fgd = FineGrainedDistillation(net)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad(), fgd.watching(net):
        net(x)
    assert fgd(x).item() == 0
    assert FineGrainedDistillation(net, mode="none")(x).item() == 0


def test_bad_pairs() -> None:
    x = torch.rand(2, 3, 16, 16)
    fgd = FineGrainedDistillation(teacher())
    with pytest.raises(ArgumentError, match="has not been watched"):
        fgd(x)
    for other, message in ((student(depth=8), "depths differ"), (student(num_heads=4), "same heads")):
        with pytest.raises(ShapeError, match=message):
            with fgd.watching(other):
                other(x)
            fgd(x)
    with pytest.raises(ArgumentError, match="no attention"):
        FineGrainedDistillation(create_model("spiking_mlp"))
    with pytest.raises(ArgumentError, match="mode must be"):
        FineGrainedDistillation(teacher(), mode="cka")  # pyright: ignore


def recipe(name: str, model: dict[str, Any], **train: Any) -> Any:
    return parse_recipe(
        {
            "name": name,
            "data": {"name": "digits", "limit_train": 64, "limit_test": 16, "batch_size": 16, "validation": 0},
            "model": {"name": "spikformer", "args": {"embed_dim": 16, "depth": 1, "num_heads": 2, "T": 2, **model}},
            "train": {"epochs": 1, "accelerator": "cpu", "lr": 1e-3, **train},
        }
    )


def test_a_recipe_with_a_teacher(tmp_path: Path) -> None:
    guide = recipe("teacher", {"neuron": "relu", "attn_threshold": None, "T": 1})
    fit(guide, tmp_path / "teacher", progress=False)
    for logits in ("none", "soft", "hard"):
        section = {"teacher": str(tmp_path / "teacher"), "weight": 0.5, "logits": logits}
        result = fit(recipe("student", {}, distill=section), tmp_path / logits, progress=False)
        assert result.test.n == 16
        assert result.params == sum(
            p.numel()
            for p in create_model(
                "spikformer", embed_dim=16, depth=1, num_heads=2, in_channels=1, img_size=8
            ).parameters()
        )


@pytest.mark.parametrize(
    ("section", "message"),
    [({"teacher": "nowhere"}, "is not the folder of a run")],
)
def test_a_missing_teacher(section: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(recipe("student", {}, distill=section), tmp_path / "run", progress=False)
