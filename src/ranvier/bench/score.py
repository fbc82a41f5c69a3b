"""The figures that rank nets, by task: how each is called, reads and compares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ranvier.bench.result import Metric
from ranvier.models import Denoiser, LanguageModel

if TYPE_CHECKING:
    from ranvier.train import Evaluation


@dataclass(frozen=True)
class Score:
    """How a figure is called and read.

    Attributes:
        title: its name, as at the start of a sentence.
        unit: of what is shown.
        scale: what the stored value is multiplied by to be shown.
        digits: behind the point.
        higher: whether more is better.
        meaning: one sentence for the reader of a report.
    """

    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2
    higher: bool = True
    meaning: str = ""

    @property
    def label(self) -> str:
        """Name and unit, as on an axis."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def text(self, value: float) -> str:
        """The value as shown, without the unit."""
        return f"{self.scale * value:.{self.digits}f}"


SCORES = {
    "accuracy": Score("Accuracy", "%", 100.0, meaning="Samples whose class was said."),
    "miou": Score(
        "Mean IoU", "%", 100.0,
        meaning="Of every class, the pixels or points that are rightly said over those that are it or are said to be "
        "it; the mean over the classes.",
    ),
    "map": Score(
        "mAP", "%", 100.0,
        meaning="Mean average precision of the found objects: COCO's protocol in images (overlaps 0.50 to 0.95), "
        "KITTI's at 40 recalls in clouds.",
    ),
    "bits_per_token": Score(
        "Bits a token", digits=3, higher=False,
        meaning="Mean cross-entropy of the next token, windows read from an empty state; less is better.",
    ),
    "mean_accuracy": Score("Mean accuracy of the classes", "%", 100.0),
    "pixel_accuracy": Score("Accuracy of pixels or points", "%", 100.0),
    "map_50": Score("mAP at overlap 0.50", "%", 100.0),
    "map_75": Score("mAP at overlap 0.75", "%", 100.0),
    "mar_100": Score("Mean recall", "%", 100.0),
    "map_small": Score("mAP of small objects", "%", 100.0),
    "map_medium": Score("mAP of medium objects", "%", 100.0),
    "map_large": Score("mAP of large objects", "%", 100.0),
    "r40_50": Score("AP at overlap 0.50", "%", 100.0),
    "r40_70": Score("AP at overlap 0.70", "%", 100.0),
    "r11_70": Score("AP at overlap 0.70 and 11 recalls", "%", 100.0),
    "easy": Score("AP of easy objects", "%", 100.0),
    "moderate": Score("AP of moderate objects", "%", 100.0),
    "hard": Score("AP of hard objects", "%", 100.0),
    "perplexity": Score("Perplexity", digits=3, higher=False),
    "loss": Score("Loss", digits=4, higher=False, meaning="What is minimised in training; less is better."),
}  # fmt: skip


def score(name: str) -> Score:
    """The description of a figure; one that is not in `SCORES` is shown as it is, more being better."""
    return SCORES.get(name, Score(name.replace("_", " ").capitalize(), digits=4))


def metrics_of(net: nn.Module, found: Evaluation) -> tuple[str, dict[str, Metric]]:
    """The name of the figure that ranks `net`, and all figures of `found`.

    Accuracy of a classifier; else the first of the task's scores (mean IoU, mAP); bits a token of a language model; the
    loss of a denoiser.
    """
    n = found.n
    loss = Metric(value=found.loss, n=n, higher_is_better=False)
    if found.accuracy is not None:
        error = math.sqrt(found.accuracy * (1 - found.accuracy) / n)
        return "accuracy", {
            "accuracy": Metric(value=found.accuracy, n=n, higher_is_better=True, stderr=error), "loss": loss,
        }  # fmt: skip
    if isinstance(net, LanguageModel):
        bits = Metric(value=found.loss / math.log(2), n=n, higher_is_better=False)
        perplexity = Metric(value=math.exp(min(found.loss, 700.0)), n=n, higher_is_better=False)
        return "bits_per_token", {"bits_per_token": bits, "perplexity": perplexity, "loss": loss}
    if isinstance(net, Denoiser) or not found.scores:
        return "loss", {"loss": loss}
    # −1 is COCO's way of saying that nothing of that kind was there
    scores = {
        name: Metric(value=value, n=n, higher_is_better=True) for name, value in found.scores.items() if value >= 0
    }
    first = next(iter(found.scores))
    scores.setdefault(first, Metric(value=0.0, n=n, higher_is_better=True))
    return first, {**scores, "loss": loss}
