"""VGG-SNN, pre-activation ResNet-18 and SCNN: published counts and the shapes in between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ranvier.errors import ArgumentError
from ranvier.models import create_model, trainable_params


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def head_of(name: str, classes: int) -> int:
    head = create_model(name, num_classes=classes).head
    assert isinstance(head, nn.Linear)
    return sum(p.numel() for p in head.parameters())


def test_counts_of_the_paper() -> None:
    assert trainable_params("vgg_snn") == 9_688_165
    assert trainable_params("vgg_snn") + head_of("vgg_snn", 101) == 10_153_674
    assert trainable_params("scnn_omniglot") == 696_573
    with torch.device("meta"):
        small = create_model("vgg_snn", num_classes=10)
        residual = create_model("resnet18_snn")
        assert count(small) + head_of("vgg_snn", 10) == 9_314_836
        assert count(residual) + head_of("resnet18_snn", 20) == 11_187_880


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("vgg_snn", {"blocks.1": (8, 24, 24), "blocks.3": (8, 12, 12), "blocks.5": (8, 6, 6), "blocks.7": (8, 3, 3)}),
        ("resnet18_snn", {"layers.1": (8, 48, 48), "layers.3": (8, 24, 24), "layers.5": (8, 12, 12), "pool": (8,)}),
    ],
)
def test_maps_between_the_layers(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    widths = (8,) * (8 if name == "vgg_snn" else 4)
    net = create_model(name, widths=widths, T=2).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for module_name in shapes:
        net.get_submodule(module_name).register_forward_hook(
            lambda _m, _i, out, at=module_name: seen.__setitem__(at, tuple(out.shape[2:]))
        )
    assert net(torch.rand(2, 1, 2, 48, 48)).shape == (2, 1, net.num_classes)
    assert seen == shapes


def test_scnn_has_640_features_and_no_normalisation() -> None:
    net = create_model("scnn_omniglot", num_classes=5)
    assert isinstance(net.hidden, nn.Linear) and isinstance(net.head, nn.Linear)
    assert net.hidden.in_features == 640
    assert not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in net.modules())
    assert float(net.head.weight.detach().abs().max()) <= 0.1001


def test_residual_blocks_add_real_values_behind_their_convolutions() -> None:
    net = create_model("resnet18_snn", blocks=(1,), widths=(4,), img_size=8, T=2).double().eval()
    block = net.layers[0]
    x = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)

    def branch(part: nn.Module, y: torch.Tensor) -> torch.Tensor:
        spikes = part.neuron(part.bn(y.flatten(0, 1)).unflatten(0, (2, 3)))
        return part.conv(spikes.flatten(0, 1)).unflatten(0, (2, 3))

    assert torch.equal(block(x), x + branch(block.conv2, branch(block.conv1, x)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vgg_snn", {"img_size": 8}), ("vgg_snn", {"pools": (9,)}), ("vgg_snn", {"widths": ()}),
        ("resnet18_snn", {"blocks": (1, 1)}),
        ("scnn_omniglot", {"img_size": 12}), ("scnn_omniglot", {"channels": (1,)}),
    ],
)  # fmt: skip
def test_impossible_shapes(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError):
        create_model(name, **arguments)
