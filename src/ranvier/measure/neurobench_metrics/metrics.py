"""The workload metrics of NeuroBench 2.3.0 on batches of input, and what its hooks cannot see beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.measure.batches import Batches, each, extent
from ranvier.measure.count import count, isolated, undisturbed
from ranvier.measure.neurobench_metrics.layers import STATELESS, activations, connections, is_snntorch
from ranvier.measure.neurobench_metrics.static import connection_sparsity, footprint
from ranvier.measure.neurobench_metrics.synapses import Operations
from ranvier.measure.report import Report
from ranvier.neurons import Neuron

VERSION = "2.3.0"


@dataclass(frozen=True)
class NeuroBenchReport:
    """`metrics` under NeuroBench's own names; `extension` holds what its hooks do not see (see `neurobench`)."""

    metrics: dict[str, Any]
    extension: dict[str, Any]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The blocks `neurobench` and `neurobench_ext`, ready for JSON."""
        return {
            "neurobench": dict(self.metrics),
            "neurobench_ext": {**self.extension, "notes": list(self.notes), "neurobench_version": VERSION},
        }


@dataclass
class _Activity:
    """Outputs of one activation module: all and non-zero ones, of the batch and of the run; membrane updates."""

    elements: int = 0
    nonzero: int = 0
    all_elements: int = 0
    all_nonzero: int = 0
    calls: int = 0
    updates: int = 0
    before: Tensor | None = None


@dataclass
class _Run:
    """Running sums over the batches."""

    layers: dict[str, Operations] = field(default_factory=dict)
    activity: dict[str, _Activity] = field(default_factory=dict)
    own_updates: int = 0
    samples: int = 0
    sparsity: float = 0.0
    correct: int = 0
    unseen: dict[str, None] = field(default_factory=dict)


def neurobench(
    model: nn.Module,
    x: Batches,
    y: Tensor | Iterable[Tensor] | None = None,
    *,
    run: Callable[[nn.Module, Tensor], Tensor] | None = None,
    report: Report | None = None,
    time_first: bool | None = None,
) -> NeuroBenchReport:
    """The metrics of NeuroBench 2.3.0 of `model` on `x`, in eval mode, without storing any input.

    `metrics` are Footprint (bytes of parameters and buffers), ParameterCount, ConnectionSparsity, ActivationSparsity
    (zeros among the outputs of ReLU, sigmoid and spiking modules), SynapticOperations (a sample: Effective_MACs,
    Effective_ACs, Dense) and MembraneUpdates (a sample, of snnTorch neurons), and ClassificationAccuracy where `y` is
    given. They equal what NeuroBench itself finds for `to_neurobench(model)`, with its conventions: a whole call of a
    layer is accumulations when all of its input is -1, 0 or 1; only modules are seen; a bias is no operation.

    `extension` has what escapes those conventions, a sample: operations decided element by element, products of two
    activations (attention), counts unrolled into spikes, membrane updates of Ranvier's neurons (v_t ≠ v_{t-1}), batch
    norms that do not fold, elementwise operations, firing rates by layer and step, sparsity by layer.

    Args:
        model: any module.
        x: a batch or an iterable of batches (or of tuples that start with one).
        y: labels of the one batch, or of each of the batches.
        run: how a batch goes through the model, to outputs `[T, B, classes]` or `[B, classes]`; default `model(x)`.
        report: of `ranvier.measure.count` on the same input, where it was made already.
        time_first: whether `x` is `[T, B, ...]`; None: as the model says, or when it has five axes.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    batches = list(each(x))
    labels = _labels(y, len(batches))
    sums = _Run()
    forward = run or (lambda net, batch: net(batch))
    steps = 1
    found = _static(model)  # before a run: it may leave state in buffers
    with undisturbed(model), ExitStack() as hooks:
        _watch(model, sums, hooks)
        for number, batch in enumerate(batches):
            size = extent(model, batch, time_first, None, None)
            steps = size.T
            for seen in sums.activity.values():
                seen.elements = seen.nonzero = seen.calls = 0
                seen.before = None
            with isolated(model):
                output = forward(model, batch)
            sums.samples += size.samples
            elements = sum(seen.elements for seen in sums.activity.values())
            nonzero = sum(seen.nonzero for seen in sums.activity.values())
            sums.sparsity += size.samples * ((elements - nonzero) / elements if elements else 0.0)
            if labels is not None:
                scores = output.mean(0) if output.dim() == 3 else output
                sums.correct += int((scores.argmax(-1) == labels[number].to(scores.device)).sum())
    if report is None and run is None:
        report = count(model, batches, time_first=time_first)
    found |= _workload(sums, labels is not None)
    return NeuroBenchReport(found, _extension(sums, report, steps), _notes(sums))


def _labels(y: Tensor | Iterable[Tensor] | None, batches: int) -> list[Tensor] | None:
    if y is None:
        return None
    labels = [y] if isinstance(y, Tensor) else list(y)
    if len(labels) != batches:
        raise ArgumentError(f"y must hold labels for each batch, got {len(labels)} for {batches} batches")
    return labels


def _watch(model: nn.Module, sums: _Run, hooks: ExitStack) -> None:
    for name, module in connections(model):
        if isinstance(module, STATELESS):
            sums.layers.setdefault(name, Operations())
            hooks.callback(module.register_forward_pre_hook(_synapses(sums.layers[name])).remove)
        else:
            sums.unseen[f"{name}: {type(module).__name__} is not counted"] = None
    for name, module in activations(model):
        sums.activity[name] = _Activity()
        hooks.callback(module.register_forward_pre_hook(_before(sums, name)).remove)
        hooks.callback(module.register_forward_hook(_after(sums, name)).remove)


def _synapses(operations: Operations) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def seen(module: nn.Module, args: tuple[Any, ...]) -> None:
        entering = args[0]
        # a sparse tensor's layers see the rows of its places
        operations.add(module, (entering if isinstance(entering, Tensor) else entering.feats).detach())

    return seen


def _before(sums: _Run, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def entering(module: nn.Module, args: tuple[Any, ...]) -> None:
        if is_snntorch(module) and isinstance(mem := getattr(module, "mem", None), Tensor):
            sums.activity[name].before = mem.detach()
        if isinstance(module, Neuron) and args and isinstance(args[0], Tensor):
            sums.own_updates += membrane_updates(module, args[0])

    return entering


def _after(sums: _Run, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def left(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        seen = sums.activity[name]
        spikes = output[0] if isinstance(output, tuple | list) else output
        nonzero = int(torch.count_nonzero(spikes))
        seen.elements, seen.nonzero = seen.elements + spikes.numel(), seen.nonzero + nonzero
        seen.all_elements, seen.all_nonzero = seen.all_elements + spikes.numel(), seen.all_nonzero + nonzero
        mem = getattr(module, "mem", None)
        if is_snntorch(module) and isinstance(mem, Tensor):
            before = seen.before if seen.calls and seen.before is not None else None
            fresh = before is None or before.shape != mem.shape
            seen.updates += mem.numel() if fresh else int(torch.count_nonzero(mem != before))
        seen.calls += 1

    return left


def membrane_updates(neuron: Neuron, x: Tensor) -> int:
    """How often the membrane of `neuron` changes while it reads `x` `[T, B, ...]`; in the first step all count.

    0 for a neuron without steps of its own, such as a parallel one.
    """
    if not neuron.streams or not neuron.state_names or neuron._packing is not None:
        return 0
    at = neuron.state_names.index("v") if "v" in neuron.state_names else 0
    state = neuron.initial_state(x[0])
    updates = 0
    for t, x_t in enumerate(x.unbind(0)):
        before = state[at]
        _, state = neuron.step(x_t, state)
        updates += state[at].numel() if t == 0 else int(torch.count_nonzero(state[at] != before))
    return updates


def _static(model: nn.Module) -> dict[str, Any]:
    return {
        "Footprint": footprint(model),
        "ParameterCount": sum(p.numel() for p in model.parameters()),
        "ConnectionSparsity": connection_sparsity(model),
    }


def _workload(sums: _Run, labelled: bool) -> dict[str, Any]:
    def a_sample(value: int) -> float:
        return value / sums.samples

    found: dict[str, Any] = {
        "ActivationSparsity": sums.sparsity / sums.samples,
        "SynapticOperations": {
            "Effective_MACs": a_sample(sum(layer.macs for layer in sums.layers.values())),
            "Effective_ACs": a_sample(sum(layer.acs for layer in sums.layers.values())),
            "Dense": a_sample(sum(layer.dense for layer in sums.layers.values())),
        },
        "MembraneUpdates": a_sample(sum(seen.updates for seen in sums.activity.values())),
    }
    if labelled:
        found["ClassificationAccuracy"] = sums.correct / sums.samples
    return found


def _extension(sums: _Run, report: Report | None, steps: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "T": steps,
        "samples": sums.samples,
        "ElementwiseDecision": {
            "Effective_MACs": sum(layer.element_macs for layer in sums.layers.values()) / sums.samples,
            "Effective_ACs": sum(layer.element_acs for layer in sums.layers.values()) / sums.samples,
        },
        "MembraneUpdates": sums.own_updates / sums.samples,
        "ActivationSparsityByLayer": {
            name: 1 - seen.all_nonzero / seen.all_elements for name, seen in sums.activity.items() if seen.all_elements
        },
    }
    if report is None:
        return found
    products = [row for row in report.rows if row.other is not None]
    counted = [row for row in report.rows if row.other is None and row.input_class == "integer"]
    return found | {
        "ActivationProducts": {
            "Effective_ACs": sum(row.synops for row in products if row.additions_only),
            "Effective_MACs": sum(row.synops for row in products if not row.additions_only),
            "Dense": sum(row.macs_dense for row in products),
        },
        "GradedSpikes": {
            "Synops": sum(row.synops for row in counted),
            "Unrolled_ACs": sum(row.unrolled or 0.0 for row in counted),
        },
        "NormOperations": sum(norm.elements for norm in report.norms if not norm.folded),
        "ElementwiseOperations": dict(report.elementwise),
        "RatesByStep": {row.name: list(row.density) for row in report.neurons},
    }


def _notes(sums: _Run) -> tuple[str, ...]:
    idle = [name for name, layer in sums.layers.items() if layer.dense == 0]
    notes = list(sums.unseen)
    if idle:
        notes.append(f"layers whose weights are used without calling them have no operations here: {', '.join(idle)}")
    return tuple(notes)
