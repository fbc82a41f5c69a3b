"""Quantisation-aware training: put quantisers on the weights of any net."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from ranvier.errors import ArgumentError, nearest
from ranvier.layers.quant.lsq import LSQ, level_range
from ranvier.layers.quant.synapse import QuantConv1d, QuantConv2d, QuantLinear, QuantSynapse

_QUANTISED: dict[type[nn.Module], type[QuantSynapse]] = {
    nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d, nn.Linear: QuantLinear,
}  # fmt: skip


def prepare_qat(
    model: nn.Module, bits: int = 4, skip: Sequence[str] = (), skip_first_last: bool = False, **options: object
) -> nn.Module:
    """Quantise the weight of every convolution and linear layer of `model`, in place.

    Biases, normalisation, neurons and layer scales stay as they are. Parameters keep their identity, names and values;
    new ones are called `<layer>.quantizer.alpha` and start from the weights at hand, so load weights first.

    Args:
        model: any module with `nn.Conv1d`, `nn.Conv2d` or `nn.Linear` layers.
        bits: 1 to 8.
        skip: names of layers to leave alone; shell-style patterns.
        skip_first_last: leave the first and the last of them alone (the publication quantises both).
        options: of `LSQ`, such as `safe=False`.

    Returns `model`. Raises `ArgumentError` for a pattern that fits no layer, and for a model that is quantised already
    or has nothing to quantise.
    """
    level_range(bits)
    if any(isinstance(module, QuantSynapse) for module in model.modules()):
        raise ArgumentError("model: it has quantised layers already; use set_bits to change their bits")
    layers = [(name, module) for name, module in model.named_modules() if type(module) in _QUANTISED]
    names = [name for name, _ in layers]
    if not names:
        raise ArgumentError(f"model: {type(model).__name__} has no convolution or linear layer to quantise")
    for pattern in (skip,) if isinstance(skip, str) else skip:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ArgumentError(f"skip: no layer {pattern!r} to leave alone{nearest(pattern, names)}")
    spared = {name for name in names if any(fnmatchcase(name, p) for p in ((skip,) if isinstance(skip, str) else skip))}
    if skip_first_last:
        spared |= {*names[:1], *names[-1:]}
    for name, layer in layers:
        if name in spared:
            continue
        # The class changes in place, so that a layer with two names stays one layer.
        layer.__class__ = _QUANTISED[type(layer)]
        layer.quantizer = LSQ(bits, layer.weight, **options)  # pyright: ignore[reportArgumentType]
    return model


def quantized_layers(model: nn.Module) -> dict[str, QuantSynapse]:
    """The quantised layers of `model` by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantSynapse)}


def set_bits(model: nn.Module, bits: int) -> nn.Module:
    """Give every quantised layer of `model` weights of `bits` bits; steps start anew."""
    for layer in quantized_layers(model).values():
        old = layer.quantizer
        layer.quantizer = LSQ(bits, layer.weight, old.per_channel, old.signed, old.init, old.grad_scale, old.safe)
        layer._kept = None
    return model


@torch.no_grad()
def restart_steps(model: nn.Module) -> nn.Module:
    """Set the steps of every quantised layer to their starting values for its present weight."""
    for layer in quantized_layers(model).values():
        layer.quantizer.start(layer.weight)
    return model
