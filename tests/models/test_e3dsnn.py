"""E-3DSNN against its published sizes, its equations on dense volumes, and its original names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers import sparse
from ranvier.models import create_model, load_official, trainable_params
from ranvier.models.e3dsnn.blocks import Parts, SpikeSparseBlock
from ranvier.neurons import NeuronFactory

SMALL = {"embed": 4, "channels": (4, 6, 6, 8), "depths": (1, 1, 1, 1)}


def lively(model: nn.Module) -> nn.Module:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 1.5)
            norm.momentum = None
    return model


def voxels(n: int = 300, channels: int = 6, side: int = 16, batch: int = 2) -> sparse.SparseTensor:
    place = torch.randperm(batch * side**3)[:n].sort().values
    coords = torch.stack([place // side**3, *(place // side**i % side for i in (2, 1, 0))], 1)
    return sparse.SparseTensor(torch.randn(n, channels, dtype=torch.float64), coords, (side,) * 3, batch)


@pytest.mark.parametrize(
    ("part", "name", "count"),
    [
        ("backbone.stem", "e3dsnn_t", 16_512), ("backbone.enc.0", "e3dsnn_t", 22_912),
        ("backbone.enc.1", "e3dsnn_t", 87_296), ("backbone.enc.2", "e3dsnn_t", 348_672),
        ("backbone.enc.3", "e3dsnn_t", 1_393_664), ("final", "e3dsnn_t", 5_160),
        ("backbone.stem", "e3dsnn_l", 231_936), ("backbone.enc.3", "e3dsnn_h", 24_777_984),
        ("final", "e3dsnn_h", 15_400), ("dec.0", "e3dsnn_seg_l", 673_792), ("dec.1", "e3dsnn_seg_l", 673_792),
        ("dec.2", "e3dsnn_seg_l", 690_176), ("dec.3", "e3dsnn_seg_l", 690_176), ("final", "e3dsnn_seg_l", 4_883),
    ],
)  # fmt: skip
def test_parts_have_their_published_sizes(part: str, name: str, count: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.get_submodule(part).parameters()) == count


def test_segmentor_size() -> None:
    assert trainable_params("e3dsnn_seg_l") == 20_049_683


def counts(x: Tensor) -> Tensor:
    return (x.clamp(0, 4) + 0.5).floor()


def dense_conv(x: Tensor, mask: Tensor, weight: Tensor, **arguments: int) -> Tensor:
    """A convolution of the scattered volume, kept where there are voxels."""
    k = round(weight.shape[0] ** (1 / 3))
    return F.conv3d(x, weight.permute(2, 1, 0).unflatten(2, (k, k, k)), **arguments) * mask


def dense_norm(x: Tensor, mask: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    shape = (1, -1, 1, 1, 1)
    scale = norm.weight / (norm.running_var + 1e-3).sqrt()
    return (x * scale.view(shape) + (norm.bias - norm.running_mean * scale).view(shape)) * mask


def test_classifier_follows_its_equations_on_dense_volumes() -> None:
    model = lively(create_model("e3dsnn_t", num_classes=5, **SMALL)).double().train()
    x = voxels()
    with torch.no_grad():
        model(x)
    model.eval()
    with torch.no_grad():
        ours = model(x)[0]
        w = dict(model.named_parameters())
        norm = lambda name: model.get_submodule(name)  # noqa: E731
        mask = x.replace(torch.ones(len(x), 1, dtype=torch.float64)).dense()
        y = x.dense()
        for conv in (0, 3, 6):
            y = counts(y) if conv else y
            y = dense_conv(y, mask, w[f"backbone.stem.{conv}.weight"], padding=1)
            y = dense_norm(y, mask, norm(f"backbone.stem.{conv + 1}"))
        for stage in range(4):
            at = f"backbone.enc.{stage}"
            mask = F.max_pool3d(mask, 2)
            y = dense_conv(counts(y), mask, w[f"{at}.down.1.weight"], stride=2)
            y = dense_norm(y, mask, norm(f"{at}.down.2"))
            z = y
            z = dense_conv(counts(z), mask, w[f"{at}.blocks.0.block.1.weight"], padding=1)
            y = y + dense_norm(z, mask, norm(f"{at}.blocks.0.block.2"))
            z = y
            for conv in (1, 4):
                z = dense_conv(counts(z), mask, w[f"{at}.blocks.0.voxel_block.{conv}.weight"], padding=1)
                z = dense_norm(z, mask, norm(f"{at}.blocks.0.voxel_block.{conv + 1}"))
            y = y + z
        mean = y.sum((2, 3, 4)) / mask.sum((2, 3, 4))
        theirs = mean @ w["final.weight"][0] + w["final.bias"]
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_integer_training_is_binary_inference() -> None:
    """A net with D = 4 in one step equals one that runs every count as four binary spikes."""
    model = lively(create_model("e3dsnn_t", num_classes=5, **SMALL)).double().train()
    x = voxels()
    with torch.no_grad():
        model(x)
        model.eval()
        expected = model(x)

        def in_binary_steps(layer: nn.Module, args: tuple[sparse.SparseTensor], output: sparse.SparseTensor) -> object:
            feats = args[0].feats
            if bool((feats != feats.round()).any()):
                return None  # real values enter: the first convolution and the last layer
            assert feats.min() >= 0 and feats.max() <= 4
            parts = [type(layer).forward(layer, args[0].replace((feats > d).double())).feats for d in range(4)]
            return output.replace(sum(parts))

        layers = [m for m in model.modules() if isinstance(m, sparse.SparseConv)]
        for layer in layers:
            layer.register_forward_hook(in_binary_steps)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)


def test_shortcut_is_the_identity_for_silent_branches() -> None:
    block = SpikeSparseBlock(4, Parts(NeuronFactory({"type": "spike_count"}))).double().eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.zeros_(norm.weight)
    x = voxels(channels=4)
    assert torch.equal(block(x).feats, x.feats)


def test_odd_extents_lose_voxels_only_by_the_rule_of_spconv() -> None:
    x = voxels(300, side=31, batch=1)
    levels = {}
    for boundary in ("ceil", "spconv"):
        model = create_model(
            "e3dsnn_seg_l", num_classes=3, in_channels=6, decoder=(4, 4, 4, 4), boundary=boundary, **SMALL
        )
        model = model.double().eval()
        levels[boundary] = model.backbone(x)
        assert model(x).shape == (1, 300, 3)
    assert len(levels["spconv"][1]) < len(levels["ceil"][1])
    inside = (x.coords[:, 1:] < 30).all(1)
    assert len(levels["spconv"][1]) == len((x.coords[inside] // 2).unique(dim=0))


def test_segmentor_gives_every_point_the_logits_of_its_voxel() -> None:
    model = create_model("e3dsnn_seg_l", num_classes=3, decoder=(4, 4, 4, 4), voxel_size=0.2, **SMALL).double().eval()
    clouds = torch.rand(2, 50, 4, dtype=torch.float64)
    with torch.no_grad():
        y = model(clouds)
        rows, point2voxel, _ = model.voxels(clouds)
        by_voxel = model(rows)
    assert y.shape == (1, 2, 50, 3)
    assert torch.equal(y[0].flatten(0, 1), by_voxel[0, point2voxel])
    model.range = [0.5, 0.0, 0.0, 1.0, 1.0, 1.0]
    outside = clouds[..., 0] < 0.5
    with torch.no_grad():
        assert model(clouds)[0][outside].eq(0).all()
        assert model(torch.stack([clouds, clouds])).shape == (2, 2, 50, 3)


def original(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as the release names it and spconv lays it out."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        name = name if name.startswith("backbone.") else f"backbone.{name}"
        if tensor.dim() == 3:
            k = round(tensor.shape[0] ** (1 / 3))
            tensor = sparse.to_spconv(tensor, (k, k, k))
        state[f"module.{name}"] = tensor
    return state


@pytest.mark.parametrize("name", ["e3dsnn_t", "e3dsnn_seg_l"])
def test_original_checkpoints_load(name: str) -> None:
    arguments = {**SMALL, "num_classes": 3, "in_channels": 6} | ({"decoder": (4, 4, 4, 4)} if "seg" in name else {})
    theirs = lively(create_model(name, **arguments)).double()
    ours = create_model(name, **arguments).double()
    report = load_official(ours, {"state_dict": original(theirs)})
    assert report.complete and not report.ignored
    x = voxels()
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_inputs() -> None:
    model = create_model("e3dsnn_t", num_classes=3, in_channels=1, positions=True, T=2, **SMALL)
    volumes = (torch.rand(2, 1, 8, 8, 8) > 0.8).float()
    assert model(volumes).shape == (2, 2, 3)
    assert model(torch.stack([volumes] * 3)).shape == (3, 2, 3)
    with pytest.raises(ShapeError, match="1 channels a voxel"):
        model(torch.ones(2, 2, 8, 8, 8))
    cloud = create_model("e3dsnn_t", num_classes=3, **SMALL)
    with pytest.raises(DataError, match="NaN"):
        cloud(torch.full((1, 5, 6), float("nan")))
    with pytest.raises(DataError, match="empty"):
        cloud(torch.zeros(1, 0, 6))
    with pytest.raises(ShapeError, match=r"\[B, N, 6\]"):
        cloud(torch.zeros(1, 5, 3))
    with pytest.raises(ArgumentError, match="one a stage"):
        create_model("e3dsnn_t", channels=(4, 4), depths=(1,))
    leaky = create_model(
        "e3dsnn_t", num_classes=3, T=3, voxel_size=0.2, neuron={"type": "i_lif", "decay": 0.25}, **SMALL
    )
    static = torch.rand(2, 30, 6)
    assert leaky(static).shape == (3, 2, 3)
    with pytest.raises(ArgumentError, match="spike_count"):
        leaky(static.expand(3, *static.shape))


def test_evaluation_is_deterministic_whatever_training_draws() -> None:
    model = create_model("e3dsnn_t", num_classes=3, voxel_size=0.3, train_reduce="random", **SMALL).eval()
    x = torch.rand(2, 60, 6)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        assert torch.equal(model(x[:, torch.randperm(60)]).round(decimals=4), model(x).round(decimals=4))
