"""Segmentation in the trainer: scores against torchmetrics, ignored pixels, augmentation, small trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ranvier.data import Augment, load
from ranvier.data.targets import IGNORED, objects, table
from ranvier.errors import ConfigError
from ranvier.models import create_model
from ranvier.train import evaluate, fit, load_recipe
from ranvier.train.confusion import confusion, segmentation_scores
from ranvier.train.dense_augment import augment_dense
from ranvier.train.recipe import TrainSection
from ranvier.train.segmentation import Segmentation, fitted

SHORT = ["data.options.scenes=24", "data.options.test_scenes=8", "data.validation=4", "train.epochs=1"]


def test_scores_are_those_of_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    torch.manual_seed(0)
    target, predicted = torch.randint(0, 5, (4, 9, 9)), torch.randint(0, 5, (4, 9, 9))
    predicted = torch.where(torch.rand(4, 9, 9) < 0.6, target, predicted)
    target[0, :3] = IGNORED
    scores = segmentation_scores(confusion(predicted, target, 5))
    options = {"num_classes": 5, "ignore_index": IGNORED}
    assert scores["miou"] == pytest.approx(
        float(metrics.multiclass_jaccard_index(predicted, target, **options)), abs=1e-6
    )
    recall = metrics.multiclass_accuracy(predicted, target, average="macro", **options)
    assert scores["mean_accuracy"] == pytest.approx(float(recall), abs=1e-6)
    micro = metrics.multiclass_accuracy(predicted, target, average="micro", **options)
    assert scores["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-6)


def test_worked_miou() -> None:
    target, predicted = torch.tensor([0, 0, 0, 1, 1, IGNORED]), torch.tensor([0, 0, 1, 1, 0, 1])
    counts = confusion(predicted, target, 3)
    assert counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    scores = segmentation_scores(counts)  # IoU 2/4 and 1/3; the class that never occurs is left out
    assert scores["miou"] == pytest.approx(5 / 12) and scores["pixel_accuracy"] == pytest.approx(3 / 5)


def test_the_loss_is_the_mean_over_counted_pixels_after_the_readout() -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 2, 4, 4, 5)
    y = torch.randint(0, 5, (2, 8, 8))
    y[0, :4] = IGNORED
    loss, _ = Segmentation(TrainSection()).loss(lambda x: logits, logits, y, y)
    whole = F.interpolate(logits.mean(0).permute(0, 3, 1, 2), (8, 8), mode="bilinear")
    assert torch.allclose(loss, F.cross_entropy(whole, y, ignore_index=IGNORED))
    steps, _ = Segmentation(TrainSection(loss="tet", tet_lambda=0.0)).loss(lambda x: logits, logits, y, y)
    each = [F.cross_entropy(fitted(step, y), y, ignore_index=IGNORED) for step in logits]
    assert torch.allclose(steps, torch.stack(each).mean())
    with pytest.raises(ConfigError, match="segmentation"):
        Segmentation(TrainSection(loss="spike_mse"))


def test_targets_move_with_their_images() -> None:
    bundle = load("digit_scene_masks", scenes=6, test_scenes=1)
    boxes = load("digit_scenes", scenes=6, test_scenes=1)
    (x, y), (_, rows) = bundle.train.batch(range(6)), boxes.train.batch(range(6))
    marked = (y > 0).float()[:, None]
    torch.manual_seed(0)
    moved, mask = augment_dense(Augment(flip=True, crop=5), marked, y)
    assert torch.equal(mask > 0, moved[:, 0] > 0) and not torch.equal(mask, y)
    torch.manual_seed(0)
    again, shifted = augment_dense(Augment(flip=True, crop=5), marked, rows)
    assert torch.equal(again, moved)
    for image, own, kinds in zip(mask, *objects(shifted)[:2], strict=True):
        for (x1, y1, x2, y2), kind in zip(own.int().tolist(), kinds.tolist(), strict=True):
            inside = image[y1:y2, x1:x2] == kind + 1  # the strokes touch all four sides of their box
            assert inside.any(0).sum() >= x2 - x1 - 4 and inside.any()
    cloud = load("digit_rooms", scenes=2, test_scenes=1)
    x, y = cloud.train.batch([0, 1])
    bigger, grown = augment_dense(Augment(cloud_scale=0.5), x, y)
    factor = (bigger[..., :3] / x[..., :3]).mean((1, 2))
    assert torch.allclose(grown[..., 4:7], y[..., 4:7] * factor[:, None, None], atol=1e-4)
    for wrong in (Augment(mixup=0.5), Augment(erasing=0.5), Augment(randaugment=(1, 5))):
        with pytest.raises(ConfigError, match="targets"):
            augment_dense(wrong, marked, y)


def test_tables_pad_and_leave_out_what_does_not_count() -> None:
    rows = table(
        [torch.ones(2, 4), torch.zeros(0, 4)], [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.int64)],
        [torch.tensor([0, 1]), torch.zeros(0)],
    )  # fmt: skip
    assert rows.shape == (2, 2, 6) and rows[1, :, 0].tolist() == [-1, -1]
    assert [k.tolist() for k in objects(rows)[1]] == [[3], []]
    assert [k.tolist() for k in objects(rows, counted=False)[1]] == [[3, 1], []]


@pytest.mark.parametrize("recipe", ["digit_scenes_segmentor", "digit_rooms_e3dsnn_seg"])
def test_a_short_training_ends_with_scores(recipe: str, tmp_path: Path) -> None:
    result = fit(load_recipe(recipe, SHORT), tmp_path, progress=False)
    assert result.test.accuracy is None and set(result.test.scores) == {"miou", "mean_accuracy", "pixel_accuracy"}
    assert result.validation is not None and set(result.validation) == {"miou", "loss"}
    assert evaluate(tmp_path).scores == result.test.scores


def test_models_and_data_of_other_tasks_are_told_apart(tmp_path: Path) -> None:
    for overrides in (["model.name=spiking_mlp", "model.args={}"], ["data.name=digits", "data.options={}"]):
        with pytest.raises(ConfigError, match=r"model\.name: .* is for "):
            fit(load_recipe("digit_scenes_segmentor", overrides), tmp_path / overrides[0], progress=False)


def test_every_backbone_with_feature_maps_serves() -> None:
    net = create_model("spiking_fpn_segmentor", img_size=32, T=2, backbone="qkformer", backbone_args={"embed_dim": 32})
    assert net.backbone.strides == (1, 2, 4) and net.stride == 1
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 2, 32, 32, 11)
    assert net.segment(torch.rand(1, 1, 32, 32)).shape == (1, 32, 32)
    net(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())  # nothing of the classifier's head is left
