"""Images as sequences, in time and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ranvier.data import load, loader
from ranvier.errors import ArgumentError
from ranvier.models import create_model
from ranvier.train import fit, load_recipe


def test_time_runs_over_the_pixels_in_reading_order() -> None:
    images, labels = load("digits").train.batch([3, 5])
    pixels, rows = load("sdigits"), load("sdigits", by="rows")
    assert (pixels.kind, pixels.input_shape, rows.input_shape) == ("sequence", (64, 1), (8, 8))
    x, y = pixels.train.batch([3, 5])
    assert torch.equal(x[:, :, 0].T, images.flatten(1)) and torch.equal(y, labels)
    assert torch.equal(rows.train.batch([3, 5])[0].transpose(0, 1), images[:, 0])
    assert pixels.train[3][0].shape == (64, 1) and next(iter(loader(rows.train, 7)))[0].shape == (8, 7, 8)


def test_whole_sequences_lie_along_an_image() -> None:
    bundle = load("sdigits_whole")
    assert (bundle.kind, bundle.input_shape) == ("static", (1, 1, 64)) and bundle.mean is not None
    assert torch.equal(bundle.test[0][0].flatten(), load("digits").test[0][0].flatten())


def test_the_permutation_is_one_for_all() -> None:
    plain, mixed = load("sdigits"), load("sdigits", permuted=True)
    (x, _), (z, _) = plain.train.batch([0, 1]), mixed.train.batch([0, 1])
    other = load("sdigits_whole", permuted=True).train.batch([0, 1])[0]
    assert not torch.equal(x, z) and torch.equal(x.sort(0).values, z.sort(0).values)
    assert torch.equal(other.flatten(1), z[:, :, 0].T) and plain.fingerprint != mixed.fingerprint
    with pytest.raises(ArgumentError, match="by"):
        load("sdigits", by="columns")


def test_mnist(ranvier_data: Path) -> None:
    assert load("smnist", ranvier_data, pool=2).input_shape == (196, 1)
    assert load("smnist_whole", ranvier_data).input_shape == (1, 1, 784)


def test_stems() -> None:
    whole = create_model("sequence_former_4_384", img_size=(1, 1024), in_channels=3, embed_dim=32, depth=1, num_heads=2)
    strides = [stage.block.conv.stride[0] for stage in whole.stem.stages]
    assert strides == [2, 2, 2, 2] and whole.stem.tokens == 64
    widths = [stage.block.conv.out_channels for stage in whole.stem.stages]
    assert widths == [4, 8, 16, 32]
    short = create_model("sequence_former_4_384", embed_dim=32, depth=1, num_heads=2)
    assert [stage.block.conv.stride[0] for stage in short.stem.stages] == [1, 2, 2, 2]
    for wrong in ({"embed_dim": 36, "num_heads": 4}, {"tokens": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            create_model("sequence_former_time", **wrong)


def test_in_time_the_past_does_not_know_the_future() -> None:
    torch.manual_seed(0)
    for name in ("sequence_former_time", "gru"):
        net = create_model(name).eval()
        x = torch.rand(28, 2, 28)
        changed = x.clone()
        changed[20:] = torch.rand(8, 2, 28)
        one, two = net(x), net(changed)
        assert torch.equal(one[:20], two[:20]) and (name != "gru" or not torch.equal(one[20:], two[20:]))


@pytest.mark.parametrize("recipe", ["sdigits_rows_time", "sdigits_whole"])
def test_recipes_train(recipe: str, tmp_path: Path) -> None:
    result = fit(load_recipe(recipe, ["train.max_steps=3", "data.limit_train=200"]), tmp_path, progress=False)
    assert result.test.accuracy is not None and len(result.test.accuracy_by_step) == (8 if "time" in recipe else 4)
