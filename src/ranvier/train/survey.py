"""One pass over a data set to measure a net: the same for every task, whatever is counted on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.data import loader
from ranvier.data.loader import Batches
from ranvier.train.rates import RateMeter

_RATE_BATCHES = 2  # enough to see how often neurons fire, without slowing the rest


class How(TypedDict, total=False):
    """The keywords of every measurement.

    `device`; `seed` of what is drawn (the global generators are left as they are); `autocast`, the precision; `rank` of
    `world` processes that share the work, and `reduce`, which sums a tensor over them.
    """

    device: str | torch.device
    seed: int
    autocast: Callable[[], AbstractContextManager[Any]]
    rank: int
    world: int
    reduce: Callable[[Tensor], Tensor] | None


class Survey:
    """A net on its device while it is measured: in eval mode, with generators of its own; see `How`."""

    def __init__(
        self,
        net: nn.Module,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        rank: int = 0,
        world: int = 1,
        reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self.net, self.device, self.seed = net, torch.device(device), seed
        self.rank, self.world, self.reduce = rank, world, reduce
        self._autocast, self._meter = autocast, RateMeter(net)
        self._double = next((p.dtype for p in net.parameters()), torch.float32) == torch.float64

    @contextmanager
    def batches(self, dataset: Dataset[Any], batch_size: int, whole: bool = False) -> Iterator[Batches]:
        """This process's share of `dataset`, or the `whole` of it."""
        training = self.net.training
        self.net.eval()
        rank, world = (0, 1) if whole else (self.rank, self.world)
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(self.seed)
                yield loader(dataset, batch_size, rank=rank, world=world, prefetch=1)
        finally:
            self.net.train(training)

    @contextmanager
    def watching(self, number: int) -> Iterator[None]:
        """Around the net's work on batch `number`: the precision, and firing rates over the first batches."""
        with ExitStack() as stack:
            stack.enter_context(self._meter.watching(number < _RATE_BATCHES))
            stack.enter_context(self._autocast())
            yield

    def shown(self, x: Tensor) -> Tensor:
        """The input of a batch as the net takes it."""
        return x.to(self.device, torch.float64 if self._double else None)

    def exact(self, y: Tensor) -> Tensor:
        """The output of a net in the precision that is counted in."""
        return y if self._double else y.float()

    def total(self, counted: Tensor) -> Tensor:
        """The sum of `counted` over the processes, on the CPU."""
        return counted if self.reduce is None else self.reduce(counted.to(self.device)).cpu()

    def rate(self) -> float | None:
        """Share of neuron outputs that were not zero."""
        return self._meter.take()

    def seconds(self) -> float:
        """Since the survey began."""
        return time.perf_counter() - self._started
