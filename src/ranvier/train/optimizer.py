"""The optimizer of a recipe, and which parameters it decays."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase

from ranvier.errors import ArgumentError, ConfigError, nearest
from ranvier.neurons import Neuron
from ranvier.train.recipe import GroupSection, TrainSection
from ranvier.train.schedule import first_beta, learning_rate

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def build_optimizer(net: nn.Module, train: TrainSection, within: str = "") -> optim.Optimizer:
    """The optimizer of a recipe over the parameters of `net` that train, in groups with and without weight decay.

    `within` is what their names begin with when the model itself is a part of `net`; `train.groups` leave it out.
    """
    decayed, spared = split_decay(net, train.decay_norm)
    if not decayed and not spared:
        raise ConfigError("the model has no parameter to train")
    groups = _own_groups(net, train, {id(p) for p in spared}, within)
    apart = {id(p) for group in groups for p in group["params"]}
    common: list[dict[str, Any]] = [
        {"params": [p for p in params if id(p) not in apart], "weight_decay": decay}
        for params, decay in ((decayed, train.weight_decay), (spared, 0.0))
    ]
    groups = [group for group in common if group["params"]] + groups
    if train.optimizer == "sgd":
        return optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=train.nesterov)
    if train.optimizer in ("spam", "stable_spam"):
        return _spam(net, groups, train)
    if train.optimizer == "lamb":
        from ranvier.optim import LAMB

        return LAMB(groups, lr=train.lr, betas=train.betas, eps=train.eps, trust_clip=train.trust_clip)
    kind = optim.AdamW if train.optimizer == "adamw" else optim.Adam
    return kind(groups, lr=train.lr, betas=train.betas, eps=train.eps)


def _own_groups(net: nn.Module, train: TrainSection, spared: set[int], within: str) -> list[dict[str, Any]]:
    """A group for each of `train.groups`, which carries the schedule of its own under "train"; decay and no decay are
    apart unless the group says."""
    found: dict[tuple[int, float], list[nn.Parameter]] = {}
    matched: set[int] = set()
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        for number, group in enumerate(train.groups):
            if fnmatchcase(name.removeprefix(within), group.match):
                usual = 0.0 if id(parameter) in spared else train.weight_decay
                decay = usual if group.weight_decay is None else group.weight_decay
                found.setdefault((number, decay), []).append(parameter)
                matched.add(number)
                break
    for number, group in enumerate(train.groups):
        if number not in matched:
            names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
            raise ConfigError(
                f"train.groups: no trained parameter matches {group.match!r}{nearest(group.match, names)}"
            )
    return [
        {"params": params, "weight_decay": decay, "train": _with_group(train, train.groups[number])}
        for (number, decay), params in found.items()
    ]


def _with_group(train: TrainSection, group: GroupSection) -> TrainSection:
    """The section as it holds for a group."""
    own = {"lr": group.lr, "schedule": group.schedule}
    return train.model_copy(update={key: value for key, value in own.items() if value is not None})


def set_rates(
    optimizer: optim.Optimizer, train: TrainSection, step: int, total_steps: int, steps_per_epoch: int
) -> float:
    """Set the rate (and the first beta) of every group for update number `step`; returns that of the recipe itself."""
    rate = learning_rate(train, step, total_steps, steps_per_epoch)
    for group in optimizer.param_groups:
        own: TrainSection = group.get("train", train)
        group["lr"] = rate if own is train else learning_rate(own, step, total_steps, steps_per_epoch)
        if train.cycle_momentum and own.schedule == "onecycle":
            group["betas"] = (first_beta(own, step, total_steps, steps_per_epoch), group["betas"][1])
    return rate


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
    ask for it with `no_weight_decay = True` (layer scales, quantiser steps) or for some of theirs by name with
    `undecayed = ("delay",)`."""
    spared_ids = {
        id(parameter)
        for module in net.modules()
        if isinstance(module, (Neuron, *_NORMS)) or getattr(module, "no_weight_decay", False) is True
        for parameter in module.parameters()
    }
    spared_ids |= {id(getattr(module, name)) for module in net.modules() for name in getattr(module, "undecayed", ())}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        bias = name.rpartition(".")[2].endswith("bias")
        target = spared if not decay_norm and (bias or id(parameter) in spared_ids) else decayed
        target.append(parameter)
    return decayed, spared
