"""Batches of sequences of different lengths, without padding.

`pack` lays the steps of all sequences one after the other; `through` sends them through a net whose neurons know which
steps belong to which sequence. Layers without state (linear, convolution, batch norm, pooling) see valid steps only, so
padded ones neither count in any statistic nor cost time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.state import Stateful


@dataclass(frozen=True, eq=False)
class Packing:
    """Which rows of packed data belong to which sequence and step: time first, in every step the longest sequence
    first (the layout of `torch.nn.utils.rnn.PackedSequence`).

    Attributes:
        lengths: steps of every sequence, `[B]`, int64 on the CPU, in the order in which they were given.
    """

    lengths: Tensor
    counts: Tensor = field(init=False)  # [T]: how many sequences have a step t
    order: Tensor = field(init=False)  # [B]: the sequences from long to short
    batch: int = field(init=False)
    total: int = field(init=False)
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        order = torch.argsort(self.lengths, descending=True, stable=True)
        steps = int(self.lengths.max())
        shorter = torch.bincount(self.lengths, minlength=steps + 1).cumsum(0)[:steps]  # sequences of at most t steps
        values = {"counts": len(self.lengths) - shorter, "order": order, "batch": len(self.lengths), "steps": steps}
        for name, value in {**values, "total": int(self.lengths.sum())}.items():
            object.__setattr__(self, name, value)

    @cached_property
    def inverse(self) -> Tensor:
        """Where each given sequence stands among the sorted ones, `[B]`."""
        return torch.argsort(self.order)

    @cached_property
    def sequence(self) -> Tensor:
        """The sequence that each row belongs to, `[total]`."""
        return torch.cat([self.order[:count] for count in self.counts.tolist()])

    @cached_property
    def step(self) -> Tensor:
        """The step that each row is, `[total]`."""
        return torch.repeat_interleave(torch.arange(self.steps), self.counts)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """`(steps, sequences)` of the stretches of time over which the same sequences run."""
        sizes, steps = torch.unique_consecutive(self.counts, return_counts=True)
        return tuple(zip(steps.tolist(), sizes.tolist(), strict=True))

    def running_at_every(self, steps: int) -> int:
        """How many sequences run at step `steps`, 2·`steps`, ..., summed."""
        return int(self.counts[steps::steps].sum())


class Packed:
    """A packed batch: `data` is `[total, ...]`, the valid steps of all sequences, and `packing` says whose they are.

    Made by `pack` and `through`.
    """

    def __init__(self, data: Tensor, packing: Packing) -> None:
        if data.dim() < 1 or data.shape[0] != packing.total:
            raise ShapeError(f"data must be [{packing.total}, ...], one row a valid step, got {tuple(data.shape)}")
        self.data, self.packing = data, packing

    @property
    def lengths(self) -> Tensor:
        """Steps of every sequence, `[B]`."""
        return self.packing.lengths

    @property
    def sequence(self) -> Tensor:
        """The sequence that each row of `data` belongs to, `[total]`, on the device of `data`: `y[batch.sequence]`
        gives every step the label of its sequence."""
        return self.packing.sequence.to(self.data.device)

    def through(self, net: nn.Module) -> Packed:
        """The output of `net`, which takes `[T, B, ...]` and returns `[T, B, ...]`.

        The net sees all valid steps as one sequence of `total` samples; its neurons run each sequence by itself, from
        the initial state, or inside `ranvier.carry` from the carried one (`[B, ...]`, in the order of `lengths`).
        Raises `StateError` for a net with parts that need all steps at once (`PSN`, `HDLIF`) or cannot tell sequences
        apart. A layer of one's own that mixes steps without being `Stateful` would mix sequences. A compiled net runs
        eagerly here.
        """
        with sequences_apart(net, self.packing), _eager():
            out = net(self.data.unsqueeze(0))
        if not isinstance(out, Tensor) or tuple(out.shape[:2]) != (1, self.packing.total):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ShapeError(
                f"the net must keep the time and batch axes [1, {self.packing.total}] of packed input, got {got}"
            )
        return Packed(out.squeeze(0), self.packing)  # indexing would fill a whole gradient with zeros

    def sequences(self) -> list[Tensor]:
        """The sequences `[T_i, ...]`, in the order in which they were given."""
        rows = torch.argsort(self.packing.sequence, stable=True).to(self.data.device)
        return list(self.data.index_select(0, rows).split(self.lengths.tolist()))

    def padded(self, fill: float = 0.0) -> Tensor:
        """`[T, B, ...]`, with `fill` after the end of a sequence."""
        out = self.data.new_full((self.packing.steps, self.packing.batch, *self.data.shape[1:]), fill)
        step = self.packing.step.to(self.data.device)
        return out.index_put((step, self.sequence), self.data)

    def sum(self) -> Tensor:
        """The sum over each sequence's own steps, `[B, ...]`."""
        out = self.data.new_zeros(self.packing.batch, *self.data.shape[1:])
        return out.index_add(0, self.sequence, self.data)

    def mean(self) -> Tensor:
        """The mean over each sequence's own steps, `[B, ...]`: the readout of a classifier."""
        lengths = self.lengths.to(self.data.device, self.data.dtype)
        return self.sum() / lengths.view(-1, *[1] * (self.data.dim() - 1))

    def last(self) -> Tensor:
        """The last step of each sequence, `[B, ...]`."""
        first = self.packing.counts.cumsum(0) - self.packing.counts
        rows = first[self.lengths - 1] + self.packing.inverse
        return self.data.index_select(0, rows.to(self.data.device))

    def to(self, *args: object, **kwargs: object) -> Packed:
        """The same with `data.to(...)`."""
        return Packed(self.data.to(*args, **kwargs), self.packing)  # pyright: ignore

    def __repr__(self) -> str:
        p = self.packing
        return f"Packed({p.batch} sequences of up to {p.steps} steps, {p.total} in all, data {tuple(self.data.shape)})"


def pack(x: Tensor | Sequence[Tensor] | PackedSequence, lengths: Tensor | Sequence[int] | None = None) -> Packed:
    """A batch of sequences of different lengths.

    Args:
        x: sequences `[T_i, ...]` that differ in nothing but T; or one padded tensor `[T, B, ...]`; or a
            `torch.nn.utils.rnn.PackedSequence`.
        lengths: steps of every sequence of a padded tensor, 1..T; whatever stands behind them is not looked at.

    Raises `ArgumentError` for lengths out of range and `ShapeError` for sequences that do not fit together.
    """
    if isinstance(x, PackedSequence):
        return _from_torch(x, lengths)
    if isinstance(x, Tensor):
        return _from_padded(x, lengths)
    if lengths is not None:
        raise ArgumentError("lengths belong to one padded tensor; sequences bring theirs with them")
    sequences = list(x)
    if not sequences or not all(isinstance(s, Tensor) and s.dim() >= 1 for s in sequences):
        raise ArgumentError("pack needs at least one sequence [T, ...], a padded tensor or a PackedSequence")
    if len({s.shape[1:] for s in sequences}) > 1 or any(len(s) == 0 for s in sequences):
        shapes = ", ".join(str(tuple(s.shape)) for s in sequences[:4])
        raise ShapeError(f"sequences must be [T, ...] with T >= 1 and differ in nothing else, got {shapes}, ...")
    packing = Packing(torch.tensor([len(s) for s in sequences]))
    begin = torch.cat([packing.lengths.new_zeros(1), packing.lengths.cumsum(0)[:-1]])
    rows = begin[packing.sequence] + packing.step
    together = torch.cat(sequences)
    return Packed(together.index_select(0, rows.to(together.device)), packing)


def _from_padded(x: Tensor, lengths: Tensor | Sequence[int] | None) -> Packed:
    if lengths is None or x.dim() < 2:
        raise ArgumentError("a padded tensor [T, B, ...] needs lengths, one for every sequence")
    given = torch.as_tensor(lengths).cpu()
    if given.is_floating_point() or given.dtype == torch.bool or given.shape != (x.shape[1],):
        raise ArgumentError(f"lengths must be {x.shape[1]} integers, one a sequence, got {given.tolist()!r}")
    if given.numel() == 0 or given.min() < 1 or given.max() > x.shape[0]:
        raise ArgumentError(f"lengths must be in 1..{x.shape[0]}, got {given.tolist()!r}")
    packing = Packing(given.long().clone())
    rows = packing.step * x.shape[1] + packing.sequence
    return Packed(x.flatten(0, 1).index_select(0, rows.to(x.device)), packing)


def _from_torch(x: PackedSequence, lengths: object) -> Packed:
    if lengths is not None:
        raise ArgumentError("a PackedSequence brings its lengths with it")
    counts = x.batch_sizes.cpu()
    sorted_lengths = (counts[:, None] > torch.arange(int(counts[0]))).sum(0)
    order = torch.arange(int(counts[0])) if x.sorted_indices is None else x.sorted_indices.cpu()
    packing = Packing(torch.empty_like(sorted_lengths).index_put((order,), sorted_lengths))
    object.__setattr__(packing, "order", order)  # equal lengths may stand in another order than ours
    return Packed(x.data, packing)


def _eager() -> AbstractContextManager[None]:
    """Every batch would be compiled anew. Nothing to do (and nothing to import) where no net was ever compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def sequences_apart(net: nn.Module, packing: Packing) -> Iterator[None]:
    """Inside the block, `[1, total, ...]` means packed data to every stateful module of `net`."""
    modules = [(name, module) for name, module in net.named_modules() if isinstance(module, Stateful)]
    for name, module in modules:
        if not module.packs:
            raise StateError(
                f"{name or 'the net'} ({type(module).__name__}) cannot take sequences of different lengths in one "
                "batch; run them one by one"
            )
    before = [module._packing for _, module in modules]
    for _, module in modules:
        module._packing = packing
    try:
        yield
    finally:
        for (_, module), previous in zip(modules, before, strict=True):
            module._packing = previous
