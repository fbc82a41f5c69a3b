"""Small nets whose neurons fire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ranvier.models import create_model

SMALL = {
    "qsd_transformer_15m": {"embed": (4, 8, 8, 16), "depth": 4, "num_heads": 2, "layer_scale": 0.5, "img_size": 16},
    "meta_spikeformer_15m": {"embed": (4, 8, 8, 16), "depth": 4, "num_heads": 2, "img_size": 16},
    "max_former_cifar": {"embed_dim": 32, "num_heads": 2, "img_size": 16},
    "ms_qkformer_cifar": {"embed_dim": 32, "num_heads": 2, "img_size": 16},
    "max_resnet18": {"widths": (8, 8, 16), "img_size": 16},
    "spikformer": {"embed_dim": 32, "num_heads": 2, "img_size": 16},
    "sdt": {"embed_dim": 32, "num_heads": 2, "img_size": 16},
    "qkformer": {"embed_dim": 32, "num_heads": 2, "img_size": 16},
    "spiking_conv_net": {"channels": (4, 8), "hidden": 16, "img_size": 16, "in_channels": 3},
    "spiking_mlp": {"hidden": (24, 16), "img_size": 8, "in_channels": 3},
}


def made(name: str, **overrides: object) -> tuple[nn.Module, Tensor]:
    """A net in float64 evaluation mode with lively batch norms, and images."""
    model = create_model(name, **{"num_classes": 5, **SMALL[name], **overrides})
    for part, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            projects = any(p in ("q", "k", "v") for p in part.split("."))
            nn.init.uniform_(norm.bias, *(1, 2) if projects else (-0.5, 1.5))
            norm.momentum = None
    model.double().train()
    x = torch.rand(6, model.in_channels, *model.img_size, dtype=torch.float64)
    with torch.no_grad():
        model(x)
    return model.eval(), x


@pytest.fixture
def lively_model() -> Callable[..., tuple[nn.Module, Tensor]]:
    return made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "convertible" in metafunc.fixturenames:
        metafunc.parametrize("convertible", sorted(SMALL))
