"""Every recipe of the library builds its model and makes one step, on images that only have the right shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranvier.data import DATASETS, ArraySamples, DataBundle, Samples
from ranvier.data.features import FrameSamples
from ranvier.data.points import CloudSamples, GridSamples
from ranvier.data.text import NumberTokenizer, TextWindows
from ranvier.layers.quant import weight_size
from ranvier.train import assemble, fit, list_recipes, load_recipe

SHAPES: dict[str, tuple[int, ...]] = {
    "digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "nmnist": (8, 2, 34, 34),
    "motion": (6, 2, 16, 16), "shd": (12, 140), "ssc": (12, 140), "gsc": (12, 140), "fsdd-spikes": (12, 140),
    "modelnet40": (64, 6), "nmnist_clouds": (192, 3), "dvs_gesture": (32, 3), "modelnet_grids": (1, 8, 8, 8),
    "image_folder": (3, 224, 224), "tinyshakespeare": (12,), "enwik8": (12,), "tokens": (12,),
    "smnist": (28, 28), "sdigits": (8, 8), "smnist_whole": (1, 1, 784), "sdigits_whole": (1, 1, 64),
    "cep_dvs": (3, 2, 48, 48), "cep_images": (3, 48, 48), "cifar10_dvs": (3, 2, 48, 48), "omniglot": (1, 28, 28),
    "ncaltech101": (3, 2, 48, 48), "caltech101": (3, 48, 48), "nomniglot": (12, 2, 28, 28),
    "ade20k": (3, 512, 512), "coco": (3, 640, 640), "kitti": (20_000, 4), "semantickitti": (100_000, 4),
}  # fmt: skip
# Where the published size depends on them.
CLASSES = {"shd": 20, "ssc": 35, "gsc": 35, "motion": 36, "enwik8": 256, "tokens": 50277, "image_folder": 1000,
           "modelnet40": 40, "ade20k": 150, "coco": 80, "kitti": 1, "semantickitti": 19, "cep_dvs": 20,
           "cep_images": 20, "ncaltech101": 101, "caltech101": 101, "nomniglot": 1623, "omniglot": 1623}  # fmt: skip


def bundle(name: str) -> DataBundle:
    shape = SHAPES[name]
    if len(shape) == 1:
        return text_bundle(name, shape[0], CLASSES.get(name, 10))
    kind = {2: "sequence", 3: "static", 4: "event"}[len(shape)]
    kind = "voxels" if name == "modelnet_grids" else "points" if shape[-1] in (3, 6) and len(shape) == 2 else kind

    def samples(count: int) -> Samples:
        if kind == "points":
            return CloudSamples(torch.rand(count, *shape), torch.arange(count) % 10)
        if kind == "voxels":
            return GridSamples(torch.randint(0, 2, (count, *shape)), torch.arange(count) % 10)
        if kind == "sequence":
            return FrameSamples(torch.rand(count, *shape), torch.arange(count) % 10, range(count))
        values = torch.randint(0, 255 if kind == "static" else 3, (count, *shape), dtype=torch.uint8)
        return ArraySamples(values, torch.arange(count) % 10, scale=255.0 if kind == "static" else 1.0)

    colours = shape[0] if kind == "static" else 0
    return DataBundle(
        name=name, kind=kind, train=samples(3), test=samples(1), input_shape=shape,
        classes=tuple(map(str, range(CLASSES.get(name, 10)))),
        mean=(0.5,) * colours or None, std=(0.25,) * colours or None, version=1, fingerprint="0" * 64, options={},
    )  # fmt: skip


def text_bundle(name: str, length: int, vocab: int) -> DataBundle:
    def windows(count: int) -> TextWindows:
        return TextWindows(np.random.default_rng(0).integers(0, vocab, length * count + 1), length)

    return DataBundle(
        name=name, kind="text", train=windows(3), test=windows(1), validation=windows(1), input_shape=(length,),
        classes=tuple(map(str, range(vocab))), mean=None, std=None, version=1, fingerprint="0" * 64, options={},
        tokenizer=NumberTokenizer(vocab),
    )  # fmt: skip


@pytest.mark.parametrize("name", list_recipes())
def test_one_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the denoisers of smaller images take two
    batch = 1 if name == "cifar10_spiking_ddpm" else 2
    recipe = load_recipe(
        name,
        ["train.max_steps=1", f"data.batch_size={batch}", "data.validation=1", "train.precision=32-true",
         "train.accelerator=cpu", "train.threads=1", "data.limit_train=null", "data.limit_test=null"],
    )  # fmt: skip
    # 41 and 215 million weights, or whole ImageNet images: too slow to make and step for a test
    if recipe.data.name in ("enwik8", "tokens", "image_folder"):
        with torch.device("meta"):
            model = assemble.build_model(recipe, bundle(recipe.data.name))
        assert weight_size(model).params == model.card.params
        return
    if (task := DATASETS[recipe.data.name].task) != "classification":  # short trainings are in tests of the tasks
        if recipe.data.name in SHAPES:
            kind, shape = DATASETS[recipe.data.name].kind, SHAPES[recipe.data.name]
            empty = ArraySamples(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1))
            classes = tuple(map(str, range(CLASSES[recipe.data.name])))
            found = DataBundle(
                recipe.data.name, kind, empty, empty, shape, classes, None, None, 1, "", {}, task=task
            )  # fmt: skip
            with torch.device("meta"):
                model = assemble.build_model(recipe, found)
            assert model.num_classes == len(classes)
        return
    asked: list[dict[str, Any]] = []

    def load(dataset: str, root: Any, **options: Any) -> DataBundle:
        asked.append(options)
        return bundle(dataset)

    monkeypatch.setattr(assemble.data_room, "load", load)
    result = fit(recipe, tmp_path, progress=False)
    assert (result.steps, result.test.n) == (1, 1)
    assert len(asked) == (2 if recipe.train.transfer.data else 1)  # images beside the events
    wanted = recipe.model.args.get("num_classes", CLASSES.get(recipe.data.name, 10))
    arguments = result.model["args"]
    assert arguments.get("num_classes", arguments.get("vocab_size")) == wanted
    if "full scale" in Path(assemble.__file__).parent.parent.joinpath("recipes", f"{name}.yaml").read_text():
        from ranvier.models import model_card

        assert result.params >= model_card(recipe.model.name).params  # at the published size


@pytest.mark.parametrize("name", list_recipes())
def test_options_of_the_data_set_exist(name: str) -> None:
    from ranvier.data import list_datasets

    recipe = load_recipe(name)
    known = {info.name: info.options for info in list_datasets()}
    assert set(recipe.data.options) <= set(known[recipe.data.name])
