"""The optimizer of a recipe, and which parameters it decays."""

from __future__ import annotations

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase

from ranvier.errors import ConfigError
from ranvier.neurons import Neuron
from ranvier.train.recipe import TrainSection

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def build_optimizer(net: nn.Module, train: TrainSection) -> optim.Optimizer:
    """AdamW, Adam or SGD over the parameters of `net` that train, in two groups: with and without weight decay."""
    decayed, spared = split_decay(net, train.decay_norm)
    if not decayed and not spared:
        raise ConfigError("the model has no parameter to train")
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, train.weight_decay), (spared, 0.0))
        if params
    ]
    if train.optimizer == "sgd":
        return optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=train.nesterov)
    kind = optim.AdamW if train.optimizer == "adamw" else optim.Adam
    return kind(groups, lr=train.lr, betas=train.betas, eps=train.eps)


def split_decay(net: nn.Module, decay_norm: bool = False) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """`(decayed, spared)`: spared are biases and the parameters of normalisation and of neurons."""
    spared_ids = {
        id(parameter)
        for module in net.modules()
        if isinstance(module, (Neuron, *_NORMS))
        for parameter in module.parameters()
    }
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        bias = name.rpartition(".")[2].endswith("bias")
        target = spared if not decay_norm and (bias or id(parameter) in spared_ids) else decayed
        target.append(parameter)
    return decayed, spared
