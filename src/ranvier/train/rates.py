"""How often neurons fire, watched only while somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.neurons import Neuron


class RateMeter:
    """Counts the non-zero outputs of every neuron layer of `net`.

    Hooks exist only inside `with meter.watching():`, so that other passes cost nothing.
    """

    def __init__(self, net: nn.Module) -> None:
        self._layers = {name: module for name, module in net.named_modules() if isinstance(module, Neuron)}
        self._fired: dict[str, Tensor] = {}
        self._seen: dict[str, int] = {}

    @contextmanager
    def watching(self, watch: bool = True) -> Iterator[None]:
        """Count during the block (or not, when `watch` is false)."""
        if not watch:
            yield
            return
        handles = [module.register_forward_hook(self._hook(name)) for name, module in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> float | None:
        """Share of non-zero outputs over all layers since the last call (None where nothing was seen); starts anew."""
        rates = self.layers()
        total = sum(self._seen.values())
        fired = sum(rates[name] * seen for name, seen in self._seen.items())
        self._fired.clear()
        self._seen.clear()
        return fired / total if total else None

    def layers(self) -> dict[str, float]:
        """The same for each layer by its name."""
        return {name: float(fired) / self._seen[name] for name, fired in self._fired.items() if self._seen[name]}

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, out: self._count(name, out)

    @torch.no_grad()
    def _count(self, name: str, out: Tensor) -> None:
        count = torch.count_nonzero(out)
        self._fired[name] = self._fired[name] + count if name in self._fired else count
        self._seen[name] = self._seen.get(name, 0) + out.numel()
