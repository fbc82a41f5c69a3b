"""What the measuring room says of a trained net, in the words of the result file."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ranvier.bench.result import Energy, EnergyEstimate, Latency, LayerSpikes, NeuronRate
from ranvier.measure import audit, count, latency
from ranvier.measure.energy import AsBuiltEnergy, PaperEnergy, as_built, paper

LATENCY_BATCHES = (1, 64)


@dataclass(frozen=True)
class Profile:
    """Operations, energies, rates and latency of one net."""

    layers: dict[str, LayerSpikes]
    rates: list[NeuronRate]
    energy: Energy
    latency: list[Latency]
    spike_driven: bool
    violations: list[str]
    notes: list[str] = field(default_factory=list)


def profile(net: nn.Module, x: Tensor, *, time_first: bool = False) -> Profile:
    """Measure `net` on the batch `x` (`[T, B, ...]` with `time_first`); counts and energies are means per sample."""
    report = count(net, x, time_first=time_first)
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
        energy=Energy(as_built=_estimate(as_built(report)), paper=_estimate(paper(report))),
        latency=[_latency(net, x, int(time_first), size) for size in LATENCY_BATCHES],
        spike_driven=audited.spike_driven,
        violations=violations,
        notes=notes,
    )  # fmt: skip


def _estimate(energy: AsBuiltEnergy | PaperEnergy) -> EnergyEstimate:
    return EnergyEstimate(
        total_pj=energy.total_pj, breakdown=energy.breakdown, constants=energy.constants,
        assumptions=list(energy.assumptions),
    )  # fmt: skip


def _latency(net: nn.Module, x: Tensor, batch_axis: int, size: int) -> Latency:
    # a batch larger than the input repeats it: time does not depend on which sample it is
    at = torch.arange(size) % x.shape[batch_axis]
    timed = latency(net, x.index_select(batch_axis, at), runs=20 if size == 1 else 8, warmup=2)
    return Latency(
        batch=timed.batch, median_ms=timed.median_ms, p10_ms=timed.p10_ms, p90_ms=timed.p90_ms, runs=timed.runs,
        threads=timed.threads,
    )  # fmt: skip
