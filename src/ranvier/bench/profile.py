"""What the measuring room says of a trained net, in the words of the result file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.bench.result import Energy, EnergyEstimate, Latency, LayerSpikes, NeuronRate
from ranvier.measure import audit, count, latency, neurobench
from ranvier.measure.energy import Estimate, all_models, as_built, paper

LATENCY_BATCHES = (1, 64)

TWIN_BITS = 4
"""Width of the quantised twin of `bit_serial`."""


@dataclass(frozen=True)
class Profile:
    """Operations, energies, rates and latency of one net."""

    layers: dict[str, LayerSpikes]
    rates: list[NeuronRate]
    energy: Energy
    latency: list[Latency]
    spike_driven: bool
    violations: list[str]
    neurobench: dict[str, Any]
    neurobench_ext: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def profile(net: nn.Module, x: Tensor, *, time_first: bool = False) -> Profile:
    """Measure `net` on the batch `x` (`[T, B, ...]` with `time_first`); counts and energies are means per sample."""
    report = count(net, x, time_first=time_first, activation_bits=TWIN_BITS)
    metrics = neurobench(net, x, report=report, time_first=time_first).to_dict()
    audited = audit(net, report)
    entering = {row.name: row.entering for row in audited.rows}
    violations = [f"{name}: {entering[name]}" for name in audited.violations]
    notes = [f"audit: {note}" for note in audited.notes]
    notes += [f"audit: nothing entered {name} on the measured samples" for name in audited.silent]
    return Profile(
        layers={
            row.name: LayerSpikes(
                input_class=row.entering, rate=row.density, synops=row.synops, macs=row.macs_dense
            )
            for row in report.rows
        },
        rates=[
            NeuronRate(layer=row.name, rate=row.mean_count, neurons=max(1, round(row.neurons)))
            for row in report.neurons
        ],
        energy=Energy(
            as_built=_estimate(as_built(report)), paper=_estimate(paper(report)),
            models={name: _estimate(estimate) for name, estimate in all_models(report, bits=TWIN_BITS).items()},
        ),
        latency=[_latency(net, x, int(time_first), size) for size in LATENCY_BATCHES],
        spike_driven=audited.spike_driven,
        violations=violations,
        neurobench=metrics["neurobench"],
        neurobench_ext=metrics["neurobench_ext"],
        notes=notes,
    )  # fmt: skip


def _estimate(energy: Estimate) -> EnergyEstimate:
    return EnergyEstimate(
        total_pj=energy.total_pj, breakdown=energy.breakdown, constants=energy.constants,
        assumptions=list(energy.assumptions),
    )  # fmt: skip


def _latency(net: nn.Module, x: Tensor, batch_axis: int, size: int) -> Latency:
    # a batch larger than the input repeats it: time does not depend on which sample it is
    at = torch.arange(size) % x.shape[batch_axis]
    batch = x.index_select(batch_axis, at)
    timed = latency(net, batch, runs=20 if size == 1 else 8, warmup=2, time_first=batch_axis == 1)
    return Latency(
        batch=timed.batch, median_ms=timed.median_ms, p10_ms=timed.p10_ms, p90_ms=timed.p90_ms, runs=timed.runs,
        threads=timed.threads,
    )  # fmt: skip
