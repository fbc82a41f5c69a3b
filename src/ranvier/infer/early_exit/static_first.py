"""The first layer of a static image gives the same at every step, so it is computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ranvier.state import Stateful

_FOLDED = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5, nn.Linear: 2}  # axes of an input with time in the batch
_SYNAPSES = tuple(_FOLDED)


class StaticFirst:
    """For the block, the first convolution or linear layer of `model` keeps its result in the cache that is in use.

    It must come before any module with state, or its input may differ from step to step; otherwise nothing is cached.
    Which module is first is seen in the first forward pass.
    """

    def __init__(self, model: nn.Module, enabled: bool) -> None:
        self.model, self.enabled = model, enabled
        self.module: nn.Module | None = None
        self._cache: dict[str, Tensor] | None = None
        self._form = (0, 0)
        self._watching: list[Any] = []

    def __enter__(self) -> StaticFirst:
        if self.enabled:
            for module in self.model.modules():
                if isinstance(module, (*_SYNAPSES, Stateful)):
                    self._watching.append(module.register_forward_pre_hook(self._seen))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_watching()
        if self.module is not None:
            del self.module.forward  # the class's own again
            self.module = None

    def _stop_watching(self) -> None:
        for hook in self._watching:
            hook.remove()
        self._watching = []

    def _seen(self, module: nn.Module, _: Any) -> None:
        self._stop_watching()
        if isinstance(module, Stateful) or "forward" in vars(module):
            return
        self.module, plain = module, module.forward

        def forward(x: Tensor) -> Tensor:
            found = None if self._cache is None else self._cache.get("first")
            if found is None:
                return self._keep(x, plain(x))
            size, rows = self._form
            if self._in_time(module, x):
                return found.expand(size, *found.shape)
            if x.shape[0] != size * rows:
                return plain(x)
            return found if size == 1 else found.expand(size, *found.shape).flatten(0, 1)

        module.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
        # the call that is under way has looked up its forward already, so its result is taken as it leaves
        seen = module.register_forward_hook(lambda _, inputs, output: (seen.remove(), self._keep(inputs[0], output))[1])

    def _keep(self, x: Tensor, output: Tensor) -> Tensor:
        size, rows = self._form
        if self._cache is not None and self.module is not None and self._in_time(self.module, x):
            self._cache["first"] = output[0]
        elif self._cache is not None and x.shape[0] == size * rows:
            self._cache["first"] = output[:rows]
        return output

    def _in_time(self, module: nn.Module, x: Tensor) -> bool:
        """Whether `x` is `[T, B, ...]` for this layer; with one row of one channel, its shape alone would not tell."""
        folded = next((axes for kind, axes in _FOLDED.items() if isinstance(module, kind)), 0)
        return x.dim() != folded and tuple(x.shape[:2]) == self._form

    @contextlib.contextmanager
    def using(self, cache: dict[str, Tensor], size: int, rows: int) -> Iterator[None]:
        """Calls in the block are for `rows` rows and `size` steps, with this cache."""
        self._cache, self._form = cache, (size, rows)
        try:
            yield
        finally:
            self._cache = None
