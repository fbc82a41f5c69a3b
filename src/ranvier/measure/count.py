"""Count what a net does on real input: who receives what, and how many synaptic operations follow."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch import nn

from ranvier.errors import ArgumentError
from ranvier.measure.batches import Batches, PackedBatches, each_or_packed, extent
from ranvier.measure.bits import check_bits
from ranvier.measure.counter import Counter
from ranvier.measure.report import Report
from ranvier.measure.values import MAX_COUNT
from ranvier.packing import Packed
from ranvier.state import Stateful, carry


def count(
    model: nn.Module,
    x: Batches | PackedBatches,
    *,
    T: int | None = None,
    samples: int | None = None,
    time_first: bool | None = None,
    max_batches: int | None = None,
    max_count: int = MAX_COUNT,
    activation_bits: int | None = None,
) -> Report:
    """Run `model` on `x` in eval mode and count its synaptic operations, dense work and spikes, layer by layer.

    Matrix products and convolutions are seen where they are computed (aten level), so attention and functional calls
    count like modules; a compiled net runs eagerly here. The net, its state, its mode and the random generators are
    left as they were.

    Args:
        model: any module; neurons are `ranvier.neurons.Neuron`s or modules with `is_spiking_neuron = True`.
        x: a batch `[B, C, H, W]` or `[T, B, C, H, W]`, or an iterable of batches (or of tuples that start with one). Of
            packed batches (`ranvier.pack`) only valid steps count, and all figures are those of one step.
        T: time steps of a pass; default `x.shape[0]` of a sequence, else `model.T`, else 1.
        samples: samples in one batch, where it is not the size of its batch axis.
        time_first: whether `x` is `[T, B, ...]`; None: when it has five axes.
        max_batches: stop after that many batches.
        max_count: largest count of values that are a constant scale times an integer (see `Report`).
        activation_bits: also measure the share of one-bits in what enters each layer, its mean over time quantised to
            so many bits (`Operand.one_bits`): what the bit-serial twin of `ranvier.measure.energy.bit_serial` works on.

    Raises `ArgumentError` for input that is empty, not finite, or changes its number of steps between batches.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if max_batches is not None and max_batches < 1:
        raise ArgumentError(f"max_batches must be positive or None, got {max_batches!r}")
    if activation_bits is not None:
        check_bits(activation_bits, "activation_bits")
    counter: Counter | None = None
    total = 0
    with undisturbed(model), contextlib.ExitStack() as hooks:
        for number, batch in enumerate(each_or_packed(x)):
            if number == max_batches:
                break
            size = extent(model, batch, time_first, samples, T)
            if counter is None:
                counter = Counter(model, size.T, max_count, activation_bits)
                counter.watch(hooks)
            elif counter.T != size.T:
                raise ArgumentError(f"batch {number} has {size.T} time steps, the batches before it {counter.T}")
            total += size.samples
            counter.begin([batch.data if isinstance(batch, Packed) else batch], size.samples)
            with isolated(model), _eager(), counter:
                _ = batch.through(model) if isinstance(batch, Packed) else model(batch)
    assert counter is not None  # `each` raises when there is no batch
    return Report(
        rows=tuple(tally.finish(total) for tally in counter.synapses.values()),
        neurons=tuple(tally.finish(total) for tally in counter.neurons.values()),
        norms=tuple(tally.finish(total) for tally in counter.norms.values()),
        elementwise={name: elements / total for name, elements in counter.elementwise.items()},
        unseen=tuple(counter.unseen),
        samples=total,
        T=counter.T,
    )


@contextlib.contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Keep a stream that is carried around us out of the passes inside: each starts from the initial state."""
    carried = any(isinstance(m, Stateful) and m._carried is not None for m in model.modules())
    with carry(model) if carried else contextlib.nullcontext():
        yield


def _eager() -> contextlib.AbstractContextManager[None]:
    """Run compiled nets op by op; nothing to do (and nothing to import) where no net was ever compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; modes and random generators are restored."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {t.device.index for t in (*model.parameters(), *model.buffers()) if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
