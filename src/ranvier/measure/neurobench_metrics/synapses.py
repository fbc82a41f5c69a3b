"""Synaptic operations of one call of a layer: pairs of a non-zero input and a non-zero weight, exactly, as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTIONS: dict[type[nn.Module], Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


@dataclass
class Operations:
    """Operations of one layer; `spiking` ones meet an input of 1 or -1, by whole calls and by single elements."""

    macs: int = 0
    acs: int = 0
    dense: int = 0
    element_macs: int = 0
    element_acs: int = 0

    def add(self, layer: nn.Module, x: Tensor) -> None:
        """Count one call of `layer` (linear or convolutional) with input `x`.

        The call consists of accumulations where every value of `x` is -1, 0 or 1, else of multiply-accumulates.
        """
        mask = x != 0
        unit = x.abs() == 1
        spiking = bool((mask == unit).all())
        effective = pairs(layer, mask, dense=False)
        of_units = effective if spiking else pairs(layer, unit, dense=False)
        self.dense += pairs(layer, torch.ones_like(mask), dense=True)
        if spiking:
            self.acs += effective
        else:
            self.macs += effective
        self.element_acs += of_units
        self.element_macs += effective - of_units


def pairs(layer: nn.Module, mask: Tensor, dense: bool) -> int:
    """How many (marked input, weight) pairs meet in one call; only non-zero weights count unless `dense`.

    Padding meets nothing, bias is left out. `mask` is bool and has the shape of the input.
    """
    weight = cast("Tensor", layer.weight).detach()
    live = torch.ones_like(weight, dtype=torch.float64) if dense else (weight != 0).double()
    if isinstance(layer, nn.Linear):
        marked = mask.reshape(-1, mask.shape[-1]).sum(0, dtype=torch.float64)
        return int(marked @ live.sum(0))
    return _convolved(cast("nn.Conv2d", layer), mask, live)


def _convolved(layer: nn.Conv2d, mask: Tensor, live: Tensor) -> int:
    """Linear in the input, so all samples are one image of counts, and all filters of an input channel are one."""
    spatial = live.dim() - 2
    if mask.dim() == spatial + 1:  # without a batch axis
        mask = mask.unsqueeze(0)
    image = mask.sum(0, keepdim=True, dtype=torch.float64)
    filters = live.unflatten(0, (layer.groups, -1)).sum(1).flatten(0, 1).unsqueeze(1)  # [C_in, 1, *kernel]
    padding: Any = layer.padding
    if layer.padding_mode != "zeros":
        image = F.pad(image, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding = 0
    convolve = next(function for kind, function in _CONVOLUTIONS.items() if isinstance(layer, kind))
    met = convolve(image, filters, None, layer.stride, padding, layer.dilation, image.shape[1])
    return int(met.sum().round())
