"""Detection in the trainer: assignment, losses, small trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ranvier.errors import ConfigError, DataError
from ranvier.models import DetectionNet, create_model
from ranvier.train import evaluate, fit, load_recipe
from ranvier.train.detection import ObjectDetection
from ranvier.train.recipe import TrainSection


def test_places_learn_the_smallest_suitable_box_around_them() -> None:
    net = create_model("spiking_fpn_detector", img_size=32, T=1)
    _, boxes, centre, stride = net.predict(torch.rand(1, 1, 32, 32))
    assert boxes.shape == (1, 64 + 16, 4) and stride.tolist() == [4.0] * 64 + [8.0] * 16
    assert centre[0].tolist() == [2.0, 2.0] and centre[64].tolist() == [4.0, 4.0]
    small, large = [8.0, 8.0, 16.0, 16.0], [0.0, 0.0, 80.0, 80.0]
    row = net.assign(centre, stride, torch.tensor([large, small]))
    learns = centre[(row == 1).nonzero().flatten()]
    assert ((learns - 12).abs() < 6).all() and len(learns) == 4  # inside, and near the middle
    assert not (row[:64] == 0).any()  # too large for the finer level
    assert (net.assign(centre, stride, torch.zeros(0, 4)) == -1).all()


def test_the_loss_falls_to_what_is_wanted() -> None:
    torch.manual_seed(0)
    net = create_model("spiking_fpn_detector", img_size=32, T=1, num_classes=3)
    assert isinstance(net, DetectionNet)
    x = torch.rand(2, 1, 32, 32)
    boxes, labels = [torch.tensor([[4.0, 4, 18, 18]]), torch.zeros(0, 4)], [torch.tensor([2]), torch.tensor([])]
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    first = float(net(x, boxes, labels).detach())
    for _ in range(40):
        loss = net(x, boxes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first
    found = net.detect(x)
    assert int(found[0].labels[0]) == 2 and (found[0].boxes[0] - boxes[0][0]).abs().max() < 4
    with pytest.raises(DataError, match="x1 < x2"):
        net(x, [torch.tensor([[4.0, 4, 4, 18]]), torch.zeros(0, 4)], labels)


@pytest.mark.parametrize("recipe", ["digit_scenes_detector", "digit_rooms_e3dsnn_det"])
def test_a_short_training_ends_with_scores(recipe: str, tmp_path: Path) -> None:
    short = ["data.options.scenes=12", "data.options.test_scenes=4", "data.validation=3", "train.epochs=1"]
    result = fit(load_recipe(recipe, [*short, "data.batch_size=4"]), tmp_path, progress=False)
    assert result.test.deciding is not None and result.test.deciding[0] == "map"
    assert result.validation is not None and set(result.validation) == {"map", "loss"}
    assert evaluate(tmp_path).scores == result.test.scores


def test_detectors_have_a_loss_of_their_own() -> None:
    with pytest.raises(ConfigError, match="own"):
        ObjectDetection(TrainSection(label_smoothing=0.1))
    with pytest.raises(ConfigError, match="compile"):
        ObjectDetection(TrainSection(compile=True))
