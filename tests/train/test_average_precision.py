"""Average precision: hand-worked cases, and COCO's own tool where it is installed."""

from __future__ import annotations

import contextlib
import io
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ranvier.models import Detection
from ranvier.ops.flat_boxes import flat_iou, flat_nms
from ranvier.train.average_precision import Truth, cloud_scores, image_scores

NONE = torch.zeros(0, dtype=torch.int64)


def _one(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detection:
    return Detection(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def _truth(boxes: list[list[float]], labels: list[int], ignored: list[bool] | None = None) -> Truth:
    flags = torch.tensor(ignored or [False] * len(labels))
    return Truth(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), flags)


def test_a_perfect_detector_has_one_and_a_blind_one_zero() -> None:
    boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 60.0, 60.0]]
    truth = [_truth(boxes, [0, 1])]
    scores = image_scores([_one(boxes, [0.9, 0.4], [0, 1])], truth, 2)
    assert scores["map"] == scores["map_50"] == scores["mar_100"] == scores["map_small"] == scores["map_medium"] == 1
    assert scores["map_large"] == -1  # nothing of that size
    assert image_scores([_one([], [], [])], truth, 2)["map"] == 0
    assert image_scores([_one(boxes, [0.9, 0.4], [1, 0])], truth, 2)["map"] == 0
    assert image_scores([_one([], [], [])], [_truth([], [])], 2)["map"] == -1


def test_one_false_alarm_above_one_hit_halves_the_precision() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    found = [_one([[50.0, 50.0, 60.0, 60.0], box], [0.9, 0.8], [0, 0])]
    assert image_scores(found, [_truth([box], [0])], 1)["map_50"] == pytest.approx(0.5)
    below = [_one([[50.0, 50.0, 60.0, 60.0], box], [0.1, 0.8], [0, 0])]
    assert image_scores(below, [_truth([box], [0])], 1)["map_50"] == 1


def test_overlap_decides_at_every_threshold() -> None:
    found = [_one([[0.0, 0.0, 10.0, 10.0]], [0.9], [0])]
    truth = [_truth([[0.0, 0.0, 10.0, 7.2]], [0])]  # IoU 0.72: five of the ten thresholds
    scores = image_scores(found, truth, 1)
    assert (scores["map"], scores["map_50"], scores["map_75"]) == (pytest.approx(0.5), 1, 0)


def test_two_hits_on_one_object_count_once_and_crowds_never() -> None:
    box, far = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 90.0, 90.0]
    twice = [_one([box, box], [0.9, 0.8], [0, 0])]
    assert image_scores(twice, [_truth([box, far], [0, 0])], 1)["map_50"] == pytest.approx(51 / 101)
    inside = [[50.0, 50.0, 60.0, 60.0], [70.0, 70.0, 80.0, 80.0]]  # wholly in the crowd: neither right nor wrong
    found = [_one([*inside, box], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert image_scores(found, [_truth([box, far], [0, 0], [False, True])], 1)["map_50"] == 1


def test_clouds_by_difficulty() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, 0.3], [20.0, 0, 0, 4, 2, 1.5, -2.0]])
    truth = [Truth(box, torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool))]
    first = [Detection(box[:1], torch.tensor([0.9]), torch.zeros(1, dtype=torch.int64))]
    scores = cloud_scores(first, truth, [torch.tensor([0, 2])], 1)
    assert scores["easy"] == scores["moderate"] == 1 and scores["hard"] == pytest.approx(0.5)
    assert scores["r40_50"] == scores["r40_70"] == pytest.approx(0.5)
    assert scores["r11_70"] == pytest.approx(6 / 11)
    turned = box.clone()
    turned[:, 6] += math.pi / 2  # across: a third of the union
    across = [Detection(turned, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64))]
    assert cloud_scores(across, truth, [torch.zeros(2)], 1)["map"] == 0


def test_boxes_in_the_plane() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [0.0, 0, 4, 4], [5.0, 5, 6, 6]])
    assert flat_iou(a, b)[0].flatten().tolist() == pytest.approx([1 / 7, 0.25, 0])
    assert flat_iou(a, b, crowd=torch.tensor([False, True, False]))[0][0, 1] == 1
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [0.0, 0, 10, 9], [20.0, 0, 30, 10]])
    kept = flat_nms(boxes, torch.tensor([0.5, 0.9, 0.8, 0.1]), torch.tensor([0, 0, 1, 0]), 0.5)
    assert kept.tolist() == [1, 2, 3]
    assert flat_nms(boxes[:0], torch.zeros(0), NONE, 0.5).tolist() == []


def _random_scenes(seed: int, count: int) -> tuple[list[Detection], list[Truth]]:
    random = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(count):
        n = int(random.integers(0, 7))
        corner = random.uniform(0, 150, (n, 2))
        boxes = np.concatenate([corner, corner + random.uniform(8, 120, (n, 2))], 1).astype(np.float32)
        labels = random.integers(0, 3, n)
        crowd = random.random(n) < 0.2
        truth.append(Truth(torch.from_numpy(boxes), torch.from_numpy(labels), torch.from_numpy(crowd)))
        guess = np.concatenate([boxes + random.normal(0, 6, boxes.shape), boxes + random.normal(0, 30, boxes.shape)])
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        kinds = np.concatenate([np.where(random.random(n) < 0.8, labels, random.integers(0, 3, n)), labels])
        scores = random.random(2 * n).round(1)  # with ties
        found.append(
            Detection(
                torch.from_numpy(guess.astype(np.float32)), torch.from_numpy(scores.astype(np.float32)),
                torch.from_numpy(kinds),
            )
        )  # fmt: skip
    return found, truth


# What pycocotools 2.0.11 gives for the scenes of these seeds.
GOLDEN = {
    0: (0.16309193378577047, 0.36966841030050657, 0.13969611483824274, 0.011654155611639594, 0.20671760633396447,
        0.44140224736759387, 0.4471836419753086),
    1: (0.11767379174239752, 0.29248303723225166, 0.07056102572019461, 0.029627717533658126, 0.17841180632199663,
        0.3540264026402641, 0.3624699002407981),
    2: (0.12620690236942972, 0.29582170398270435, 0.08686186159750203, 0.013633744326813633, 0.1722622764941036,
        0.3726339776834826, 0.3865079365079366),
}  # fmt: skip
NAMES = {0: "map", 1: "map_50", 2: "map_75", 3: "map_small", 4: "map_medium", 5: "map_large", 8: "mar_100"}


def _coco(found: list[Detection], truth: list[Truth]) -> list[float]:
    coco_module, eval_module = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    annotations = []
    for image, one in enumerate(truth):
        for box, label, crowd in zip(
            one.boxes.double().tolist(), one.labels.tolist(), one.ignored.tolist(), strict=True
        ):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": int(crowd)}
            )  # fmt: skip
    results = [
        {"image_id": image, "category_id": label, "score": score,
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for image, one in enumerate(found)
        for box, label, score in zip(
            one.boxes.double().tolist(), one.labels.tolist(), one.scores.double().tolist(), strict=True
        )
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco_module.COCO()
        ground.dataset = {
            "images": [{"id": i} for i in range(len(truth))], "annotations": annotations, "info": {},
            "categories": [{"id": k} for k in range(3)],
        }  # fmt: skip
        ground.createIndex()
        judged = eval_module.COCOeval(ground, ground.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged.stats.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_as_pycocotools(seed: int) -> None:
    scores = image_scores(*_random_scenes(seed, 40), 3)
    assert tuple(scores[name] for name in NAMES.values()) == pytest.approx(GOLDEN[seed], abs=1e-9)


@pytest.mark.skipif(find_spec("pycocotools") is None, reason="pycocotools is not installed")
def test_the_same_as_the_installed_pycocotools() -> None:
    found, truth = _random_scenes(7, 60)
    scores, expected = image_scores(found, truth, 3), _coco(found, truth)
    assert [scores[name] for name in NAMES.values()] == pytest.approx([expected[place] for place in NAMES], abs=1e-9)
