"""How good a net is on a data set: accuracy, loss, and accuracy as a function of the number of time steps."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models import Denoiser, DetectionNet, LanguageModel
from ranvier.train.diagnose import NonFiniteError
from ranvier.train.non_finite import spoilt_samples
from ranvier.train.readout import Readout, read_out, running
from ranvier.train.survey import How, Survey


@dataclass(frozen=True)
class Evaluation:
    """Figures of one pass over a data set.

    Attributes:
        n: samples.
        accuracy: share of samples whose readout (the time mean, unless the recipe says otherwise) is largest at their
            label; None where nothing is classified.
        loss: mean cross-entropy of the readout, mean squared error of a denoiser, or nats a token of a language model.
        accuracy_by_step: entry t is the accuracy of the readout of the first t + 1 steps; none of a denoiser.
        firing_rate: share of non-zero neuron outputs over the first batches; None for a net without neurons.
        seconds: wall-clock.
        scores: figures of tasks other than classification by name, the one that selects the weights first:
            `ranvier.train.confusion` and `ranvier.train.average_precision` say what they are. Then `loss` is the mean
            cross-entropy of a pixel or point, or a detector's own loss.
    """

    n: int
    accuracy: float | None
    loss: float
    accuracy_by_step: tuple[float, ...]
    firing_rate: float | None
    seconds: float
    scores: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def deciding(self) -> tuple[str, float] | None:
        """Name and value of the figure that selects weights, larger is better; None where only the loss does."""
        if self.accuracy is not None:
            return "accuracy", self.accuracy
        return next(iter(self.scores.items()), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Evaluation:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {**document, "accuracy_by_step": tuple(document["accuracy_by_step"])}
        return cls(**values)


def evaluate(
    target: nn.Module | str | os.PathLike[str],
    dataset: Dataset[Any] | None = None,
    *,
    split: Literal["test", "validation", "train"] = "test",
    batch_size: int | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    readout: Readout = "mean",
) -> Evaluation:
    """Evaluate a trained run or any model.

    Args:
        target: the folder of a run (its selected weights), or a model.
        dataset: of `(x, y)`; by default the `split` of the run's own data.
        data_root: where the run's data lies now, when not where the recipe or RANVIER_DATA says.
        readout: of a model; a run has that of its recipe.
        seed: of random encoders; the global generators are left as they are.
    """
    if isinstance(target, nn.Module):
        if dataset is None:
            raise ArgumentError("dataset: evaluating a model needs one; only the folder of a run knows its own data")
        return _figures(target.to(device), dataset, batch_size or 256, readout, device=device, seed=seed)
    from ranvier.train.assemble import load_splits
    from ranvier.train.run import load_run

    net, recipe = load_run(target)
    if dataset is None:
        if data_root is not None:
            recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(Path(data_root))})})
        splits = load_splits(recipe)
        parts = {"test": splits.test, "validation": splits.validation, "train": splits.train}
        dataset = parts.get(split)
        if dataset is None:
            raise ArgumentError(f"split: the run has no part {split!r}; only train and test")
    size = batch_size or recipe.data.eval_batch_size
    return _figures(net.to(device), dataset, size, recipe.train.readout, device=device, seed=seed)


def _figures(net: nn.Module, dataset: Dataset[Any], batch_size: int, readout: Readout, **shared: Any) -> Evaluation:
    if isinstance(net, LanguageModel):
        from ranvier.train.next_token import measure_next_token

        return measure_next_token(net, dataset, batch_size, **shared)
    if getattr(net, "segments", False):
        from ranvier.train.segmentation import measure_segmentation

        return measure_segmentation(net, dataset, batch_size, readout=readout, **shared)
    if isinstance(net, DetectionNet):
        from ranvier.train.detection import measure_detection

        return measure_detection(net, dataset, batch_size, **shared)
    if not isinstance(net, Denoiser):
        return measure(net, dataset, batch_size, readout=readout, **shared)
    from ranvier.train.objective import measure_denoising

    return measure_denoising(net, dataset, batch_size, **shared)


@torch.no_grad()
def measure(
    net: nn.Module, dataset: Dataset[Any], batch_size: int, *, readout: Readout = "mean", **how: Unpack[How]
) -> Evaluation:
    """`evaluate` for a net on its device."""
    survey = Survey(net, **how)
    sums = torch.zeros(2, dtype=torch.float64)
    correct: Tensor | None = None
    with survey.batches(dataset, batch_size) as batches:
        for number, ((x, y), places) in enumerate(zip(batches, batches.indices, strict=True)):
            spoilt = spoilt_samples(x, int(getattr(dataset, "time_first", x.dim() == 5)), places, "the data set")
            if spoilt is not None and survey.world == 1:
                raise NonFiniteError(f"the net cannot be evaluated: {spoilt}")
            with survey.watching(number):
                logits = net(survey.shown(x))
            if logits.dim() != 3:
                raise ShapeError(f"the model must return per-step logits [T, B, K], got {tuple(logits.shape)}")
            hits, loss = _count(survey.exact(logits), y.to(survey.device), readout)
            correct = hits if correct is None else correct + hits
            loss = math.nan if spoilt else float(loss)  # of several processes, all learn of it by the sum
            sums += torch.tensor([loss, len(y)], dtype=torch.float64)
    assert correct is not None or survey.world > 1
    if survey.reduce is not None:
        steps = torch.tensor(0 if correct is None else len(correct), device=survey.device)
        steps = int(survey.reduce(steps).item()) // survey.world
        correct = torch.zeros(steps, dtype=torch.float64, device=survey.device) if correct is None else correct
        correct = survey.reduce(correct)
    assert correct is not None
    total_loss, n = survey.total(sums).tolist()
    by_step = tuple(count / n for count in correct.tolist())
    return Evaluation(int(n), by_step[-1], total_loss / n, by_step, survey.rate(), survey.seconds())


def _count(logits: Tensor, y: Tensor, readout: Readout) -> tuple[Tensor, Tensor]:
    """Correct samples after each step `[T]` (float64), and the summed loss."""
    decisions = running(logits, readout).argmax(-1)
    # the same reduction as in training, whatever the order of a running sum gives in the last digit
    scores = read_out(logits, readout)
    decisions[-1] = scores.argmax(-1)
    return (decisions == y).sum(1).double(), F.cross_entropy(scores, y, reduction="sum").double()
