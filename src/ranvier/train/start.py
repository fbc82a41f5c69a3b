"""Weights to begin with: those of another run."""

from __future__ import annotations

from torch import nn

from ranvier.errors import ConfigError, RanvierError


def start_from(net: nn.Module, run: str) -> list[str]:
    """Put the selected weights of the folder `run` into `net`; returns the tensors of the head that keep their own.

    The head may have another shape, since the classes may be others. Raises `ConfigError` when anything else differs.
    """
    from ranvier.train.run import load_run

    try:
        source = load_run(run)[0].state_dict()
    except RanvierError as error:
        raise ConfigError(f"train.start: {error}") from error
    head: str = getattr(net, "head_name", "head")
    own = net.state_dict()
    fits = {key: value for key, value in source.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fits]
    foreign = next((key for key in missing if not key.startswith(f"{head}.")), None)
    if foreign is not None:
        there = "is missing" if foreign not in source else f"has shape {tuple(source[foreign].shape)}"
        raise ConfigError(
            f"train.start: the run {run} does not fit this model: {foreign!r} {there} there, here it has shape "
            f"{tuple(own[foreign].shape)}"
        )
    net.load_state_dict({**own, **fits})
    return missing
