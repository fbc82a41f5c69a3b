"""The optimizer of a recipe, and which parameters it decays."""

from __future__ import annotations

from typing import Any

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase

from ranvier.errors import ArgumentError, ConfigError
from ranvier.neurons import Neuron
from ranvier.train.recipe import TrainSection

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def build_optimizer(net: nn.Module, train: TrainSection) -> optim.Optimizer:
    """The optimizer of a recipe over the parameters of `net` that train, in groups with and without weight decay."""
    decayed, spared = split_decay(net, train.decay_norm)
    if not decayed and not spared:
        raise ConfigError("the model has no parameter to train")
    groups: list[dict[str, Any]] = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, train.weight_decay), (spared, 0.0))
        if params
    ]
    if train.optimizer == "sgd":
        return optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=train.nesterov)
    if train.optimizer in ("spam", "stable_spam"):
        return _spam(net, groups, train)
    if train.optimizer == "lamb":
        from ranvier.optim import LAMB

        return LAMB(groups, lr=train.lr, betas=train.betas, eps=train.eps, trust_clip=train.trust_clip)
    kind = optim.AdamW if train.optimizer == "adamw" else optim.Adam
    return kind(groups, lr=train.lr, betas=train.betas, eps=train.eps)


def _spam(net: nn.Module, groups: list[dict[str, Any]], train: TrainSection) -> optim.Optimizer:
    """SPAM or Stable-SPAM with the options of `train.spam`; sparse layers get groups of their own."""
    from ranvier.optim import SPAM, StableSPAM, sparse_param_groups

    options = train.spam.model_dump(exclude_none=True)
    include = options.pop("include")
    stable = {key: options.pop(key) for key in ("gamma1", "gamma2", "gamma3", "total_steps") if key in options}
    if train.optimizer == "stable_spam":
        kept = {key: options[key] for key in ("reset_interval", "eps", "compat") if key in options}
        return StableSPAM(groups, lr=train.lr, betas=train.betas, **stable, **kept)
    density = options.pop("density")
    if density < 1 and include:
        try:
            sparse = {id(p) for p in sparse_param_groups(net, density, include)[0]["params"]}
        except ArgumentError as error:
            raise ConfigError(f"train.spam.{error}") from error
        groups = [
            {"params": members, "weight_decay": group["weight_decay"], "density": share}
            for group in groups
            for share in (density, 1.0)
            if (members := [p for p in group["params"] if (id(p) in sparse) == (share < 1)])
        ]
    elif density < 1:
        options["density"] = density
    return SPAM(groups, lr=train.lr, betas=train.betas, **options)


def split_decay(net: nn.Module, decay_norm: bool = False) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """`(decayed, spared)`: spared are biases and the parameters of normalisation and of neurons, and of modules that
    ask for it with `no_weight_decay = True` (layer scales, quantiser steps)."""
    spared_ids = {
        id(parameter)
        for module in net.modules()
        if isinstance(module, (Neuron, *_NORMS)) or getattr(module, "no_weight_decay", False) is True
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
