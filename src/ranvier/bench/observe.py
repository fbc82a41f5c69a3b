"""Watch a trained net read one sample of the test data: its answer and its spikes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.bench.picture import boxes_on, class_map, from_tensor
from ranvier.bench.result import MAX_RASTER_NEURONS, MAX_RASTER_STEPS, Raster, Sample
from ranvier.data import Samples
from ranvier.data.targets import objects
from ranvier.models import DetectionNet, LanguageModel
from ranvier.neurons import Neuron

MAX_RASTERS = 6
MAX_TOKENS, MAX_TEXT = 400, 2000
SURE = 0.3
"""The least score of a detection that is drawn."""

Watcher = Callable[[str, Tensor], None]


Decode = Callable[[list[int]], str]


@torch.no_grad()
def sample_of(model: nn.Module, samples: Samples, index: int = 0, decode: Decode | None = None) -> Sample:
    """One sample as people see it, what `model` says about it, and the spikes of up to six layers.

    `decode` turns tokens into text; without it a language model's sample shows the numbers of the tokens.
    """
    x, y = samples.batch([index])
    batch_axis = 1 if samples.time_first else 0
    rasters: dict[str, Raster] = {}

    def note(name: str, counts: Tensor) -> None:
        rasters.setdefault(name, _raster(name, counts[:, 0]))

    with _watched(model, note):
        outputs: Any = model.detect(x) if isinstance(model, DetectionNet) else model(x)
    drawn = _spread_out(list(rasters.values()), MAX_RASTERS)
    if isinstance(model, LanguageModel):
        spell = decode or (lambda ids: " ".join(map(str, ids)))
        said = (outputs if outputs.dim() == 3 else outputs[:, None])[:, 0].argmax(-1)
        shown = slice(0, MAX_TOKENS)
        return Sample(
            index=index, text=spell(x[shown, 0].tolist())[:MAX_TEXT], continued=spell(said[shown].tolist())[:MAX_TEXT],
            rasters=drawn,
        )  # fmt: skip
    one = x.select(batch_axis, 0)
    image = from_tensor(one) if one.dim() in (3, 4) else None  # clouds of points have no picture
    if isinstance(model, DetectionNet):
        if image is None:
            return Sample(index=index, rasters=drawn)
        boxes, labels, _ = objects(y)
        found = outputs[0]
        sure = found.scores >= SURE
        return Sample(
            index=index, image=image, truth=boxes_on(one, boxes[0], labels[0]),
            answer=boxes_on(one, found.boxes[sure], found.labels[sure]), rasters=drawn,
        )  # fmt: skip
    if getattr(model, "segments", False):
        if image is None:
            return Sample(index=index, rasters=drawn)
        from ranvier.train.segmentation import fitted

        said = fitted(outputs.mean(0), y)[0].argmax(0)
        return Sample(index=index, image=image, truth=class_map(y[0]), answer=class_map(said), rasters=drawn)
    if y.dim() != 1 or outputs.dim() != 3:  # of a net that makes images, say
        return Sample(index=index, image=image, rasters=drawn)
    return Sample(
        index=index, target=int(y), prediction=int(outputs.mean(0).argmax(-1)), image=image, rasters=drawn
    )  # fmt: skip


def _raster(name: str, counts_tn: Tensor) -> Raster:
    flat = counts_tn.flatten(1)[:MAX_RASTER_STEPS]
    total = flat.shape[1]
    shown = torch.linspace(0, total - 1, min(total, MAX_RASTER_NEURONS), dtype=torch.float64).round().long()
    digits = flat[:, shown].abs().round().clamp(0, 9).to(torch.uint8)
    return Raster(layer=name, neurons=total, steps=["".join(map(str, row)) for row in digits.tolist()])


def _spread_out(rasters: list[Raster], count: int) -> list[Raster]:
    """First, last and evenly chosen layers between."""
    if len(rasters) <= count:
        return rasters
    return [rasters[round(i * (len(rasters) - 1) / (count - 1))] for i in range(count)]


@contextlib.contextmanager
def _watched(model: nn.Module, watcher: Watcher) -> Iterator[None]:
    """Call `watcher(name, spike counts [T, B, ...])` after every neuron layer's forward."""
    handles = [
        module.register_forward_hook(_hook(name, watcher))
        for name, module in model.named_modules()
        if isinstance(module, Neuron)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, watcher: Watcher) -> Callable[[nn.Module, object, Tensor], None]:
    def seen(module: nn.Module, _: object, spikes: Tensor) -> None:
        scale = float(getattr(module, "output_scale", 1.0))  # an integer neuron emits counts times a scale
        watcher(name, spikes / scale if scale != 1.0 else spikes)

    return seen
