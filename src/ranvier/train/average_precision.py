"""Average precision of detections: COCO's protocol for images, KITTI's for clouds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.errors import ShapeError
from ranvier.models import Detection
from ranvier.ops.box_overlap import iou_3d
from ranvier.ops.flat_boxes import flat_iou

COCO_OVERLAPS = tuple(0.5 + 0.05 * i for i in range(10))
COCO_RECALLS = tuple(i / 100 for i in range(101))
_SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_MOST = 100


@dataclass(frozen=True)
class Truth:
    """The objects of one sample: boxes `[n, D]`, classes `[n]`, and which neither count nor harm (`ignored`, bool)."""

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


def average_precision(
    found: Sequence[Detection],
    truth: Sequence[Truth],
    num_classes: int,
    overlap: Callable[[Tensor, Truth], Tensor],
    overlaps: Sequence[float],
    recalls: Sequence[float],
    sizes: tuple[float, float] | None = None,
    crowds: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and the highest recall, each `[overlaps, classes]`; NaN for a class that never counts.

    Detections are matched best first to the free object that they overlap most, and precision is read at `recalls`
    from its envelope.

    Args:
        found, truth: of every sample.
        overlap: of boxes `[n, D]` with all objects of a sample, `[n, m]`.
        overlaps: the least overlap of a match.
        sizes: areas of boxes in the plane that count; objects outside are ignored, and so are unmatched detections.
        crowds: what a sample marks as ignored may be matched many times.
    """
    if len(found) != len(truth):
        raise ShapeError(f"found and truth must be one entry a sample, got {len(found)} and {len(truth)}")
    shape = (len(overlaps), num_classes)
    precision, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    tables = [overlap(one.boxes, true) if len(one.boxes) and len(true.boxes) else None
              for one, true in zip(found, truth, strict=True)]  # fmt: skip
    for kind in range(num_classes):
        scores: list[NDArray[np.float64]] = []
        hits: list[NDArray[np.bool_]] = []
        skipped: list[NDArray[np.bool_]] = []
        count = 0
        for one, true, table in zip(found, truth, tables, strict=True):
            mine, own = (one.labels == kind).nonzero().flatten(), (true.labels == kind).nonzero().flatten()
            mine = mine[one.scores[mine].argsort(descending=True, stable=True)][:_MOST]
            ignored = true.ignored[own].bool() | (_outside(true.boxes[own], sizes))
            last = ignored.int().argsort(stable=True)
            own, ignored = own[last], ignored[last]
            count += int((~ignored).sum())
            values = table[mine][:, own] if table is not None else torch.zeros(len(mine), len(own))
            hit, skip = _matched(
                values.double().numpy(), ignored.numpy(), overlaps, crowds & true.ignored[own].bool().numpy()
            )
            skip |= ~hit & _outside(one.boxes[mine], sizes).numpy()
            scores.append(one.scores[mine].double().numpy())
            hits.append(hit)
            skipped.append(skip)
        if not count:
            continue
        order = np.argsort(-np.concatenate(scores), kind="mergesort") if scores else np.zeros(0, np.int64)
        hit, skip = (np.concatenate(parts, 1)[:, order] for parts in (hits, skipped))
        for t in range(len(overlaps)):
            counted = ~skip[t]
            right = np.cumsum(hit[t] & counted)[counted]
            wrong = np.cumsum(~hit[t] & counted)[counted]
            reached = right / count
            envelope = np.maximum.accumulate((right / np.maximum(right + wrong, np.finfo(float).eps))[::-1])[::-1]
            at = np.searchsorted(reached, np.asarray(recalls), side="left")
            precision[t, kind] = np.where(
                at < len(envelope), np.append(envelope, 0.0)[np.minimum(at, len(envelope))], 0
            ).mean()
            recall[t, kind] = reached[-1] if len(reached) else 0.0
    return precision, recall


def image_scores(found: Sequence[Detection], truth: Sequence[Truth], num_classes: int) -> dict[str, float]:
    """COCO's figures: `map` (IoU 0.50 to 0.95), `map_50`, `map_75`, of small, medium and large boxes, and recall.

    −1 where nothing counts, as in COCO.
    """
    whole = average_precision(found, truth, num_classes, _in_plane, COCO_OVERLAPS, COCO_RECALLS, crowds=True)
    scores = {"map": _mean(whole[0]), "map_50": _mean(whole[0][0]), "map_75": _mean(whole[0][5])}
    scores["mar_100"] = _mean(whole[1])
    for name, sizes in _SIZES.items():
        part = average_precision(found, truth, num_classes, _in_plane, COCO_OVERLAPS, COCO_RECALLS, sizes, crowds=True)
        scores[f"map_{name}"] = _mean(part[0])
    return scores


def cloud_scores(
    found: Sequence[Detection], truth: Sequence[Truth], levels: Sequence[Tensor], num_classes: int
) -> dict[str, float]:
    """`map`, the mean over 3-D IoU 0.5 and 0.7 of AP at 40 recalls (KITTI's since 2019), and its parts.

    `r11_70` is AP at 11 recalls and IoU 0.7 as publications before had it. Where objects have levels, `easy`,
    `moderate` and `hard` are AP at 40 recalls and IoU 0.7, each with the harder objects ignored; the others take all.
    """
    forty, eleven = tuple(i / 40 for i in range(1, 41)), tuple(i / 10 for i in range(11))
    both, _ = average_precision(found, truth, num_classes, _in_space, (0.5, 0.7), forty)
    old, _ = average_precision(found, truth, num_classes, _in_space, (0.7,), eleven)
    scores = {"map": _mean(both), "r40_50": _mean(both[0]), "r40_70": _mean(both[1]), "r11_70": _mean(old)}
    if any(bool((level > 0).any()) for level in levels):
        for level, name in enumerate(("easy", "moderate", "hard")):
            own = [
                Truth(t.boxes, t.labels, t.ignored | (given > level)) for t, given in zip(truth, levels, strict=True)
            ]
            part, _ = average_precision(found, own, num_classes, _in_space, (0.7,), forty)
            scores[name] = _mean(part)
    return scores


def _matched(
    values: NDArray[np.float64], ignored: NDArray[np.bool_], overlaps: Sequence[float], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For every overlap and detection: matched to an object that counts, and matched to one that is ignored."""
    hit, skip = (np.zeros((len(overlaps), len(values)), bool) for _ in range(2))
    for t, least in enumerate(overlaps):
        taken = np.zeros(values.shape[1], bool)
        for d, row in enumerate(values):
            best, match = min(least, 1 - 1e-10), -1
            for g, value in enumerate(row):
                if taken[g] and not crowd[g]:
                    continue
                if match > -1 and not ignored[match] and ignored[g]:
                    break  # objects that count come first
                if value >= best:
                    best, match = value, g
            if match > -1:
                taken[match] = True
                (skip if ignored[match] else hit)[t, d] = True
    return hit, skip


def _outside(boxes: Tensor, sizes: tuple[float, float] | None) -> Tensor:
    if sizes is None:
        return torch.zeros(len(boxes), dtype=torch.bool)
    area = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    return (area < sizes[0]) | (area > sizes[1])


def _in_plane(boxes: Tensor, true: Truth) -> Tensor:
    return flat_iou(boxes.double(), true.boxes.double(), crowd=true.ignored.bool())[0]


def _in_space(boxes: Tensor, true: Truth) -> Tensor:
    return iou_3d(boxes, true.boxes)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else -1.0
