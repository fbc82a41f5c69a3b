"""Adaptive gain control in spiking neurons: what adaptation to an ensemble does to spikes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranvier.claims.claim import Arm, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.figure import Figure, bars, curves
from ranvier.claims.rules import Bound, Order
from ranvier.claims.systems.gain_control import PAPER
from ranvier.claims.table import Table

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.neurons import GainLIF

NEURONS, STEPS = 60, 60
TAU, THRESHOLD = 20.0, 0.5
RATE_SCALE = TAU * math.log(2)  # steps between two spikes of a neuron whose input is twice the threshold


def neurons(excitation: float, tau_gain: float) -> GainLIF:
    """Sixty LIF neurons tuned to orientation, with recurrent weights for an excitation above 0."""
    import torch

    from ranvier.circuits import TunedPopulation, orientation_weights
    from ranvier.neurons import GainLIF

    weights = orientation_weights(TunedPopulation(NEURONS), excitation) if excitation else torch.zeros(NEURONS, NEURONS)
    return GainLIF(
        TAU, threshold=THRESHOLD, alpha=1.0, gamma=0.1, tau_gain=tau_gain, tau_rate=100.0, rate_scale=RATE_SCALE,
        recurrent=RATE_SCALE * weights.float(),
    ).eval()  # fmt: skip


def run(trial: Trial) -> Outcome:
    """Adapt to the uniform ensemble, then to the biased one; present every orientation with either set of gains."""
    import torch

    from ranvier.circuits import TunedPopulation, orientation_ensemble, stimulus_grid, uniform_ensemble

    assert trial.arm is not None
    excitation = float(trial.arm.settings["excitation"])
    population = TunedPopulation(NEURONS)
    drive = population.drive(stimulus_grid()).float()
    uniform, biased = uniform_ensemble(), orientation_ensemble(0.35)
    generator = torch.Generator().manual_seed(trial.seed)
    gains = [
        _adapted(neurons(excitation, trial.settings["tau_gain"]), drive, p, trial.settings["shown"], generator)
        for p in (uniform, biased)
    ]
    counts = [_counts(neurons(excitation, math.inf), drive, g) for g in gains]
    mean = [(biased.float() @ c) for c in counts]
    even = uniform.float() @ counts[0]
    shift = _away(counts[1]) - _away(counts[0])
    adapter = NEURONS // 2
    preferred = population.preferred()
    return Outcome(
        {
            "spikes": 100 * float(mean[1].sum() / mean[0].sum() - 1),
            "variation_ratio": _variation(mean[1]) / _variation(mean[0]),
            "variation_uniform": _variation(even),
            "maximum_ratio": float(counts[1][:, adapter].max() / counts[0][:, adapter].max()),
            "shift": float(shift[adapter + 1 : adapter + 12].mean()),
        },
        {
            "before": [(float(a), float(b)) for a, b in zip(preferred, mean[0], strict=True)],
            "after": [(float(a), float(b)) for a, b in zip(preferred, mean[1], strict=True)],
        },
    )


def _adapted(net: GainLIF, drive: Tensor, p: Tensor, shown: int, generator: Tensor | object) -> Tensor:
    """Mean gains `[N]` of the last half of `shown` orientations drawn from `p`, 60 steps each, gains starting at 1."""
    import torch

    order = torch.multinomial(p, shown, replacement=True, generator=generator)  # pyright: ignore[reportArgumentType]
    state, total = net.initial_state(drive[:1]), torch.zeros(NEURONS)
    with torch.no_grad():
        for position, stimulus in enumerate(order.tolist()):
            _, state = net.scan(drive[stimulus].expand(STEPS, 1, NEURONS), state, keep_state=True)
            assert state is not None
            if position >= shown // 2:
                total += state[0][0]
    return total / (shown - shown // 2)


def _counts(net: GainLIF, drive: Tensor, gains: Tensor) -> Tensor:
    """Spikes in 60 steps from rest, `[stimuli, N]`, with these gains held."""
    import torch

    with torch.no_grad():
        state = net.initial_state(drive)
        state = (gains.expand_as(state[0]).clone(), *state[1:])
        spikes, _ = net.scan(drive.expand(STEPS, *drive.shape), state, keep_state=False)
    return spikes.sum(0)


def _variation(values: Tensor) -> float:
    return float(values.std(unbiased=False) / values.mean())


def _away(counts: Tensor) -> Tensor:
    """Preferred orientation by the vector average of the spike counts, degrees, for each neuron."""
    import torch

    from ranvier.circuits import stimulus_grid

    angle = 2 * torch.pi / 180 * stimulus_grid().float()
    return torch.atan2(angle.sin() @ counts, angle.cos() @ counts) * 90 / torch.pi


def _figures(table: Table) -> Sequence[Figure]:
    degrees = "preferred orientation less adapter, degrees"
    return (
        curves(table, "before", "Mean spikes a stimulus before", degrees, "spikes"),
        curves(table, "after", "Mean spikes a stimulus after", degrees, "spikes"),
        bars(table, "variation_ratio"),
        bars(table, "shift"),
    )


CLAIM = Claim(
    name="gain_control_spiking",
    title="The local gain rule does the same to spiking neurons, and repels only through recurrence",
    system="adaptive gain control",
    paper=PAPER,
    statement="Gains that follow the product of a neuron's own drive and response equalise mean responses under a "
    "biased ensemble and lower them at the adapter; where gain changes travel through recurrent weights, tuning moves "
    "away from the adapter. The paper is about rates.",
    question="Do 60 LIF neurons with the local rule show it in their spike counts?",
    data="orientation ensembles with an adapter as in Benucci et al. (2013), 60 steps a stimulus in random order",
    arms=(
        Arm("none", "no recurrent weights", {"excitation": 0.0}),
        Arm("weak", "recurrent weights, excitation 2", {"excitation": 2.0}),
        Arm("strong", "recurrent weights, excitation 4", {"excitation": 4.0}),
    ),
    metrics=(
        Metric("spikes", "Change of spikes a stimulus", "%", None, 1),
        Metric("variation_ratio", "Variation of mean counts, after over before", higher_is_better=None, digits=3),
        Metric("variation_uniform", "The same under the uniform ensemble", higher_is_better=None, digits=3),
        Metric("maximum_ratio", "Largest count at the adapter, after over before", higher_is_better=None, digits=3),
        Metric("shift", "Mean repulsion of the eleven neurons beside the adapter", "degrees", None, 2),
    ),
    rules=(
        Bound("spikes", "none", at_most=-8),
        Bound("spikes", "weak", at_most=-8),
        Bound("variation_ratio", "none", at_most=0.8),
        Bound("variation_ratio", "weak", at_most=0.8),
        Bound("variation_uniform", "none", at_most=0.03),
        Bound("variation_uniform", "weak", at_most=0.03),
        Bound("maximum_ratio", "none", at_most=0.9),
        Order("shift", ("none", "weak", "strong")),
    ),
    scales={"quick": Scale((0, 1, 2, 3, 4), 10, {"shown": 600, "tau_gain": 1000.0}, "600 stimuli an ensemble")},
    run=run,
    figures=_figures,
    comment="Bounds are those of a pilot with other random orders. Counts in 60 steps are whole numbers, so a tuning "
    "curve moves in small jumps even without recurrence.",
)  # fmt: skip
