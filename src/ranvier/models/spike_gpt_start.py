"""How the weights of SpikeGPT start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ranvier.layers.rwkv_mix import ChannelMix, TimeMix

if TYPE_CHECKING:
    from ranvier.models.spike_gpt import SpikeGPT

INITIALISATIONS = ("rwkv", "normal", "torch_default")


@torch.no_grad()
def initialise(model: SpikeGPT, kind: str) -> None:
    """Set every weight of `model`.

    "rwkv": the start that the release intends: decays spread over channels and layers, orthogonal values and channel
    keys, a tiny orthogonal embedding, zero keys, receptances and outputs. "normal": small normal weights with the same
    decays and mixes. "torch_default": PyTorch's own, decays and mixes included as above (the release's parameters have
    them from their constructors).
    """
    dim, layers = model.emb.embedding_dim, len(model.blocks)
    for number, block in enumerate(model.blocks):
        late = number / (layers - 1) if layers > 1 else 0.0
        early = 1 - number / layers
        place = torch.arange(dim, dtype=torch.float64) / dim
        for module in block.modules():
            if isinstance(module, TimeMix):
                edge = torch.arange(dim, dtype=torch.float64) / (dim - 1)
                zigzag = (torch.arange(dim) + 1) % 3 - 1
                _set(module.wkv.time_decay, -5 + 8 * edge ** (0.7 + 1.3 * late))
                _set(module.wkv.time_first, math.log(0.3) + 0.5 * zigzag)
                _set(module.time_mix_k, place**early)
                _set(module.time_mix_v, place**early + 0.3 * late)
                _set(module.time_mix_r, place ** (0.5 * early))
            elif isinstance(module, ChannelMix):
                _set(module.time_mix_k, place**early)
                _set(module.time_mix_r, place**early)
    if kind == "normal":
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.01)
        model.emb.weight.normal_(0, 1e-3)
    elif kind == "rwkv":
        for name, module in model.blocks.named_modules():
            if isinstance(module, nn.Linear):
                _linear(module, name)
        longest = math.sqrt(max(model.emb.num_embeddings, dim))
        _orthogonal(model.emb.weight, 1e-4 * longest)
        _orthogonal(model.head.weight, 0.5 * math.sqrt(max(1.0, model.head.out_features / dim)))


def _linear(module: nn.Linear, name: str) -> None:
    part, last = name.split(".")[-2:]
    rows, columns = module.weight.shape
    zero = last == "receptance" or (last in ("key", "output") if part == "att" else last == "value")
    if zero:
        module.weight.zero_()
    else:
        _orthogonal(module.weight, math.sqrt(rows / columns) if rows > columns else 1.0)


def _orthogonal(weight: Tensor, gain: float) -> None:
    if not weight.is_meta:
        nn.init.orthogonal_(weight, gain)


def _set(parameter: Tensor, values: Tensor) -> None:
    if not parameter.is_meta:
        parameter.copy_(values.to(parameter.dtype).view_as(parameter))
