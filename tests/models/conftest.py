"""Small versions of every registered model, and plain building blocks to check them against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.models import MODELS, create_model, model_card

# Arguments that make a model of the family small; whatever else its builder takes keeps its registered value.
SMALL: dict[str, dict[str, Any]] = {
    "spikformer": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "sdt": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "qkformer": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    "maxformer": {"embed_dim": 32, "num_heads": 2},
    "msresnet": {"widths": (8, 8, 16)},
    "spikingformer": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "sglformer": {"embed_dim": 32, "depth": 3, "num_heads": 2},
    "spikingresformer": {"widths": (16, 32, 32), "num_heads": (1, 2, 2), "depths": (1, 1, 2)},
    "swformer": {"embed_dim": 32, "depth": 2},
    "metaspikeformer": {"embed": (8, 16, 16, 32), "depth": 4, "num_heads": 2},
    "qsd": {"embed": (4, 8, 8, 16), "depth": 4, "num_heads": 2, "layer_scale": 0.5},
    "mlp": {"hidden": (24, 16)},
    "qcfs": {"img_size": 32, "width": 1 / 16, "hidden": 16, "levels": 64, "start": 1.0},
    "delay_mlp": {"hidden": (24, 16), "max_delay": 4},
    "convnet": {"channels": (4, 8), "hidden": 16},
    "hdsnn": {"kernel": (3, 3, 3), "mask": None, "spread": 0.5, "centre": 0.5, "readout_fraction": 0.5},
    "spikepoint": {
        "num_points": 40,
        "num_groups": 20,
        "k": 5,
        "widths": (8, 8, 12, 16),
        "votes": 3,
        "encoder": "direct",
        "head_norm": "affine",
    },
    "e3dsnn": {"num_points": 60, "voxel_size": 0.1, "embed": 4, "channels": (4, 6, 6, 8), "depths": (1, 1, 1, 1)},
    "vgg_snn": {"widths": (4, 8, 8, 8), "pools": (1, 3)},
    "resnet18_snn": {"blocks": (1, 2), "widths": (8, 16)},
    "scnn_omniglot": {
        "img_size": 16,
        "channels": (4, 8),
        "hidden": 24,
        "num_classes": 10,
        "neuron": {"type": "lif", "threshold": 0.03},  # nothing normalises
    },
    "semm": {
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "attention_options": {"experts": 3, "expert_dim": 8, "scale": 0.5},
    },
    "tim": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "statten": {"embed_dim": 32, "depth": 2, "num_heads": 2, "attention_options": {"scale": 0.04}},
    "spt": {
        "num_points": 32,
        "width": 12,
        "channels": 6,
        "stages": 3,
        "neighbours": 4,
        "sampling": "repeat",
        "samples": 16,
        "first": None,
        "neuron": {"type": "lif", "threshold": 0.2},
    },
    "sequence_former": {"embed_dim": 32, "depth": 2, "num_heads": 2, "tokens": 4},
    "gru": {"hidden": 16},
    "spike_gpt": {"num_classes": 11, "n_layer": 3, "n_embd": 24, "init": "torch_default"},
}


def small_arguments(name: str) -> dict[str, Any]:
    """What `create_model` gets for a reduced size: narrow, shallow, small images."""
    card = model_card(name)
    assert card.family in SMALL, f"add a small size for the family {card.family!r} to {__file__}"
    if card.task == "language":
        return SMALL[card.family]
    if "img_size" not in inspect.signature(MODELS[name].builder).parameters:
        return {"T": 4, **SMALL[card.family]}
    side = card.input_shape[-1]
    size = side if side <= 8 else 16 if side <= 32 else 32
    return {"img_size": size, "T": 4, **SMALL[card.family]}


def small_model(name: str, **overrides: Any) -> nn.Module:
    """A registered model at a reduced size."""
    return create_model(name, **{**small_arguments(name), **overrides})


def distinct_when_small() -> list[str]:
    """One name for every different small model: sizes of a family often differ only in what is reduced."""
    first: dict[tuple[object, str], str] = {}
    for name, entry in sorted(MODELS.items()):
        if entry.card.task not in ("classification", "language"):
            continue
        arguments = {**entry.preset, **small_arguments(name), "num_classes": None}
        first.setdefault((entry.builder, repr(sorted(arguments.items()))), name)
    return list(first.values())


def lively(model: nn.Module) -> nn.Module:
    """Normalisers with random affine parameters and statistics, so that spikes occur everywhere."""
    for name, norm in model.named_modules():
        if isinstance(norm, nn.Linear) and name.endswith((".att.output", ".ffn.value")):
            nn.init.normal_(norm.weight)  # the results of the mixers of a language model pass its thresholds
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            # A product of queries, keys and values over the few tokens of a small model needs many spikes.
            projects = any(part in ("q", "k", "v") for part in name.split("."))
            nn.init.uniform_(norm.bias, *(1, 2) if projects else (-0.5, 1.5))
            norm.momentum = None  # the next training pass sets the statistics
    return model


def input_of(model: nn.Module, steps: int | None, batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random images or clouds, or a sequence of `steps` of them; four or `steps` tokens for a language model."""
    if model.card.task == "language":
        return torch.randint(model.vocab_size, (4 if steps is None else steps, batch))
    shape = (batch, *model.input_shape)
    return torch.rand(shape if steps is None else (steps, *shape), dtype=dtype)


@pytest.fixture
def small() -> Callable[..., nn.Module]:
    return small_model


def _streaming_model(name: str) -> nn.Module:
    model = lively(small_model(name)).double().train()
    with torch.no_grad():
        model(input_of(model, 4, 4))
    return model.eval()


@cache
def _made_once(name: str) -> nn.Module:
    return _streaming_model(name)


@pytest.fixture
def streaming_model() -> Callable[[str], nn.Module]:
    """Makes a small registered model in float64 evaluation mode whose neurons fire."""
    return _streaming_model


@pytest.fixture
def unchanged_model() -> Iterator[Callable[[str], nn.Module]]:
    """The same for tests that leave the model as it is: made once for all of them."""
    given: list[tuple[nn.Module, dict[str, Tensor]]] = []

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        model = _made_once(name)
        torch.manual_seed(1)  # the same input whether it was made now or before
        given.append((model, {key: value.clone() for key, value in model.state_dict().items()}))
        return model

    yield make
    for model, before in given:
        assert not model.training and all(p.grad is None for p in model.parameters())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture
def random_input() -> Callable[..., Tensor]:
    return input_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "registered" in metafunc.fixturenames:
        classifiers = [name for name, entry in MODELS.items() if entry.card.task == "classification"]
        metafunc.parametrize("registered", sorted(classifiers))
    if "architecture" in metafunc.fixturenames:
        metafunc.parametrize("architecture", distinct_when_small())


def _lif(x: Tensor, threshold: float = 1.0, tau: float = 2.0) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        v = v + (x_t - v) / tau
        spikes.append((v >= threshold).to(x.dtype))
        v = v * (1 - spikes[-1])
    return torch.stack(spikes)


def _synapse(weights: Mapping[str, Tensor], name: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution or linear layer `name` with any number of dimensions, then batch norm `norm`, on [T, B, C, H, W]."""
    weight = weights[f"{name}.weight"]
    weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
    if weight.dim() == 3:
        weight = weight[..., None]
    out = []
    for x_t in x:
        y = F.conv2d(x_t, weight, weights.get(f"{name}.bias"), stride, weight.shape[-1] // 2)
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        out.append(y * weights[f"{norm}.weight"][:, None, None] + weights[f"{norm}.bias"][:, None, None])
    return torch.stack(out)


def _pool(x: Tensor) -> Tensor:
    return torch.stack([F.max_pool2d(x_t, 3, 2, 1) for x_t in x])


def _tokens(x: Tensor, heads: int) -> Tensor:
    """[T, B, C, H, W] as [T, B, heads, tokens, channels of the head]."""
    return x.flatten(3).unflatten(2, (heads, -1)).mT


def _grid(x: Tensor, like: Tensor) -> Tensor:
    """Back from `tokens` to the shape of `like`."""
    return x.mT.flatten(2, 3).reshape(like.shape)


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return shapes | {f"{name}.num_batches_tracked": ()}


def _random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict of an original from its names and shapes, with values that let neurons fire."""
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
        elif len(shape) <= 1:
            low, high = (0.5, 2.0) if name.endswith("weight") else (-1.0, 1.0)
            if name.endswith(("q_bn.bias", "k_bn.bias", "v_bn.bias")):
                low, high = 0.5, 2.0  # products over few tokens need many spikes
            low, high = {"running_mean": (-0.1, 0.1), "running_var": (0.05, 0.35)}.get(name.split(".")[-1], (low, high))
            weights[name] = torch.rand(shape, dtype=torch.float64) * (high - low) + low
        else:
            fan_in = torch.tensor(shape[1:]).prod()
            weights[name] = torch.randn(shape, dtype=torch.float64) / fan_in.sqrt()
    return weights


@pytest.fixture(scope="session")
def plain() -> SimpleNamespace:
    """Forward equations written out on the original's state dict, without the library."""
    return SimpleNamespace(
        lif=_lif, synapse=_synapse, pool=_pool, tokens=_tokens, grid=_grid,
        norm_shapes=_norm_shapes, random_weights=_random_weights,
    )  # fmt: skip
