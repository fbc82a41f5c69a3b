"""Compute alone against compute and memory: who wins, the spiking net or its quantised twin?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ranvier.claims import Arm, Claim, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.systems.step.mini import DATA, NET, PAPER, SETTINGS


def run(trial: Trial) -> Mapping[str, Outcome]:
    """Train one net a seed and charge it and its twins by every model, in nJ an image."""
    from ranvier.claims.small_cifar import recipe, trained
    from ranvier.measure import count
    from ranvier.measure.energy import as_built, bit_serial, lemaire2022, paper
    from ranvier.measure.energy.closed import break_even_rate

    with trained(recipe("spikformer", NET, trial.settings, trial.seed)) as (net, _, test):
        x, _ = test.batch(range(100))
        reports = {bits: count(net, x, activation_bits=bits) for bits in (4, 8)}
    report = reports[8]
    dense = sum(row.macs_dense for row in report.rows)
    synops = sum(row.synops for row in report.rows)
    rate = synops / dense  # share of the dense work of all T steps that a spike asks for
    none = {"published": 0.0, "lemaire": 0.0}

    def outcome(compute: float, memory: float, event: float, **more: float) -> Outcome:
        figures: dict[str, Any] = {"compute": compute, "memory": memory, "event": event, **none, **more}
        return Outcome({name: value / 1000 if name != "rate" else value for name, value in figures.items()})

    snn = {flow: as_built(report, memory="step", flow=flow).total_pj for flow in ("tiled", "event")}
    found = {
        "spiking": outcome(
            as_built(report).total_pj, snn["tiled"], snn["event"], rate=100 * rate,
            published=paper(report).total_pj, lemaire=lemaire2022(report).total_pj,
        )
    }  # fmt: skip
    for bits, counted in reports.items():
        twin = bit_serial(counted, bits)
        ones = twin.acs / (dense / report.T * bits)
        with_memory = bit_serial(counted, bits, memory="step").total_pj
        found[f"twin_{bits}"] = outcome(
            twin.total_pj, with_memory, with_memory, rate=100 * break_even_rate(report.T, bits, min(1.0, ones))
        )
    return found


ENERGY = Claim(
    name="step_energy",
    title="Once memory is charged, the spiking net can lose to its quantised twin",
    system="step",
    paper=PAPER + ", the section on energy (table 9 for 3.12 pJ a bit)",
    statement="Counting operations alone a spiking transformer needs less energy than a quantised conventional one; "
    "with "
    "memory traffic at 3.12 pJ a bit the advantage can vanish or turn around.",
    question="On one trained net, with every term explicit: operations alone, the ideal reuse of the tiled flow, every "
    "access of the event flow, the published recipe and the model of Lemaire et al. (2022), beside bit-serial twins "
    "of 4 "
    "and 8 bits. At which firing rate would operations alone break even?",
    data=DATA + " Energies are means over 100 test images, at 32-bit floating point.",
    arms=(
        Arm("spiking", "the spiking net", {}),
        Arm("twin_8", "bit-serial twin, 8 bits", {}),
        Arm("twin_4", "bit-serial twin, 4 bits", {}),
    ),
    metrics=(
        Metric("compute", "Operations alone", "nJ", False, digits=0),
        Metric("memory", "With memory, tiled flow", "nJ", False, digits=0),
        Metric("event", "With memory, event flow", "nJ", False, digits=0),
        Metric("published", "Recipe of publications (spiking net only)", "nJ", None, digits=0),
        Metric("lemaire", "Lemaire et al. 2022 (spiking net only)", "nJ", None, digits=0),
        Metric("rate", "Share of dense work that spikes ask for; of a twin: at break-even", "%", None, digits=1),
    ),
    rules=(
        Order("compute", ("twin_8", "spiking"), falling=True),
        Order("memory", ("spiking", "twin_8"), falling=True),
        Order("compute", ("twin_4", "spiking"), falling=True, essential=False),
        Order("memory", ("spiking", "twin_4"), falling=True, essential=False),
        Order("event", ("spiking", "twin_8"), falling=True, essential=False),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2), minutes=3, settings=SETTINGS),
        "full": Scale(
            seeds=(0, 1, 2), minutes=300,
            settings={"train": 50_000, "test": 10_000, "epochs": 30, "lr": 2e-3, "batch_size": 64},
            note="all of CIFAR-10 at 16 x 16; meant for a GPU",
        ),
    },
    run=run,
    joint=True,
)  # fmt: skip
