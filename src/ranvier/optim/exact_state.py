"""Loading an optimiser's state without changing a bit of it."""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class ExactState(Optimizer):
    """`torch.optim.Optimizer` casts loaded state to the parameter's dtype, which would round float32 moments of
    bfloat16 weights and ruin packed masks; here every tensor keeps its own.

    A subclass names in `counters` the entries of its groups that change with the steps, and in `options` its own
    attributes, which a copy takes along.
    """

    counters: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in self.options}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state and the groups of `state_dict`, tensors in the dtypes in which they were saved."""
        super().load_state_dict(state_dict)
        names = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for name, p in zip(names, parameters, strict=True):
            for key, value in state_dict["state"].get(name, {}).items():
                if isinstance(value, Tensor):
                    device = value.device if value.dim() == 0 and key == "step" else p.device
                    self.state[p][key] = value.detach().to(device, copy=True)
