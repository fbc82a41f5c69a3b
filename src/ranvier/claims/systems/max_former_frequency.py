"""The low-pass behaviour of neurons in time, and fast and slow flicker (Max-Former)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.figure import bars, curves

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.claims.table import Table

STEPS, FAST, SLOW = 16, (2, 3), (8, 12)


def run(trial: Trial) -> Outcome:
    """Transfer from current to membrane below threshold, and flicker told apart by a small net of these neurons."""
    import torch

    from ranvier.measure import spectrum
    from ranvier.neurons import build

    assert trial.arm is not None
    spec = dict(trial.arm.settings)
    silent = build({**spec, "threshold": 1e9}).double()
    found = spectrum.response(spectrum.membrane(silent), steps=trial.settings["steps"], seed=trial.seed)
    inner = slice(1, None)  # an integrator has no finite gain at frequency zero
    gain = found.gain.abs()[inner]
    exact = spectrum.linear_response(silent, found.frequency[inner]).abs()
    error = float(((gain - exact).abs() / exact).mean())
    top = float(gain[-1] / gain[0])
    torch.manual_seed(trial.seed)
    accuracy = {name: _flicker(trial, spec, periods) for name, periods in (("fast", FAST), ("slow", SLOW))}
    relative = [(float(f), float(g / gain[0])) for f, g in zip(found.frequency[inner][::4], gain[::4], strict=True)]
    return Outcome(
        {"top": top, "error": 100 * error, **accuracy}, curves={"gain": relative}
    )  # fmt: skip


def flicker(count: int, periods: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Currents `[16, count, 1]`: square waves of one of two periods, random phase, equal means, with noise."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=draw)
    period = torch.tensor(periods)[y].float()
    phase = torch.rand(count, generator=draw) * period
    cycle = (torch.arange(STEPS)[:, None] + phase) / period % 1
    x = torch.where(cycle < 0.5, 1.0, -1.0)
    x = x - x.mean(0) + 0.5 * torch.randn(STEPS, count, generator=draw)
    return x[..., None], y


def _flicker(trial: Trial, spec: dict[str, object], periods: tuple[int, int]) -> float:
    """Test accuracy of linear → neuron → linear → neuron → linear, time mean."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ranvier.neurons import build

    first, second = nn.Linear(1, 64), nn.Linear(64, 64)
    net = nn.Sequential(first, build(spec), second, build(spec), nn.Linear(64, 2))
    with torch.no_grad():
        first.weight.mul_(2)
        second.weight.mul_(3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(trial.settings["updates"]):
        x, y = flicker(128, periods, seed=1_000_000 * (trial.seed + 1) + step)
        loss = F.cross_entropy(net(x).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = flicker(2000, periods, seed=trial.seed)
    with torch.no_grad():
        return 100 * float((net(x).mean(0).argmax(-1) == y).float().mean())


def _figures(table: Table) -> Sequence[Figure]:
    return (
        curves(table, "gain", "From current to membrane", "frequency, cycles a step", "gain over that at the lowest"),
        bars(table, "fast"),
        bars(table, "slow"),
    )


CLAIM = Claim(
    name="max_former_frequency",
    title="In time, a leaky neuron is a low-pass filter; less so the shorter its memory, and most so without a leak",
    system="max_former",
    paper="Y. Fang et al. (2025), Spiking Neural Networks Need High-Frequency Information, NeurIPS 2025, the theorem "
    "on the frequency response of spiking neurons",
    statement="Below threshold a LIF neuron filters its current with |H|² = (1−β)²/(1 − 2β cos ω + β²), β = 1 − 1/τ; a "
    "smaller τ keeps more of the high frequencies, and LIF keeps more than IF.",
    question="Does the membrane do what the formula says, and does it matter for telling fast flicker apart? This is "
    "about frequencies in time; it says nothing about those in an image, which is constant in time.",
    data="Generated: white noise, and square waves of 16 steps with periods of 2 or 3 (fast), 8 or 12 (slow) steps.",
    arms=(
        Arm("if", "IF, no leak", {"type": "if"}),
        Arm("tau_4", "LIF, τ = 4", {"type": "lif", "tau": 4.0}),
        Arm("tau_2", "LIF, τ = 2, as in all the models", {"type": "lif", "tau": 2.0}),
        Arm("tau_1_5", "LIF, τ = 1.5", {"type": "lif", "tau": 1.5}),
        Arm("tau_1_1", "LIF, τ = 1.1", {"type": "lif", "tau": 1.1}),
    ),
    metrics=(
        Metric("top", "Gain at the highest frequency over that at the lowest", digits=3),
        Metric("error", "Mean deviation from the formula", "%", higher_is_better=False, digits=2),
        Metric("fast", "Accuracy on fast flicker", "%", digits=1),
        Metric("slow", "Accuracy on slow flicker", "%", digits=1),
    ),
    rules=(
        Order("top", ("if", "tau_4", "tau_2", "tau_1_5", "tau_1_1")),
        Bound("error", "tau_2", at_most=1),
        Order("fast", ("if", "tau_2"), essential=False),
        Order("fast", ("tau_4", "tau_1_5"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=2, settings={"steps": 4096, "updates": 120})},
    run=run,
    figures=_figures,
)  # fmt: skip
