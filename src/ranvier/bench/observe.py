"""Watch a trained net read one sample of the test data: its answer and its spikes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ranvier.bench.picture import from_tensor
from ranvier.bench.result import MAX_RASTER_NEURONS, MAX_RASTER_STEPS, Raster, Sample
from ranvier.data import Samples
from ranvier.neurons import Neuron

MAX_RASTERS = 6

Watcher = Callable[[str, Tensor], None]


@torch.no_grad()
def sample_of(model: nn.Module, samples: Samples, index: int = 0) -> Sample:
    """The picture of one sample, what `model` says about it, and the spikes of up to six layers."""
    x, y = samples.batch([index])
    batch_axis = 1 if samples.time_first else 0
    rasters: dict[str, Raster] = {}

    def note(name: str, counts: Tensor) -> None:
        rasters.setdefault(name, _raster(name, counts[:, 0]))

    with _watched(model, note):
        outputs: Tensor = model(x)
    drawn = list(rasters.values())
    return Sample(
        index=index, target=int(y), prediction=int(outputs.mean(0).argmax(-1)),
        image=from_tensor(x.select(batch_axis, 0)), rasters=_spread_out(drawn, MAX_RASTERS),
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
