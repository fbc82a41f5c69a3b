"""SPAM on a spiking net in half precision: silent neurons have gradients of exactly zero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.systems.spam.arms import ADAM, CLIPPED, RESTART, STABLE, stepper
from ranvier.claims.systems.spam.quadratics import PAPER

if TYPE_CHECKING:
    from torch import Tensor, nn

UNGUARDED = Arm(
    "spam_unguarded", "SPAM without its guard of silent coordinates, as published",
    {"kind": "spam", "bias_correction": "restart", "guard": False},
)  # fmt: skip
STEPS = 50


def _digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits as one spike a pixel, the earlier the brighter: training `[T, N, 64]`, labels, test, labels."""
    import torch

    from ranvier import data

    bundle = data.load("digits")
    parts: list[Tensor] = []
    for samples in (bundle.train, bundle.test):
        x, y = samples.batch(range(len(samples)))
        bright = x.flatten(1)
        times = ((1 - bright) * (STEPS - 1)).round().long()
        spikes = torch.zeros(STEPS, *bright.shape).scatter_(0, times.unsqueeze(0), 1.0)
        parts += [spikes * (bright > 0), y]
    return parts[0], parts[1], parts[2], parts[3]


def _net() -> nn.Module:
    from torch import nn

    from ranvier.neurons import LIF

    def neuron() -> nn.Module:
        return LIF(tau=4.0, decay_input=False, surrogate={"type": "rectangle", "width": 1.0})

    layers = [nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)]
    for layer, spread in zip(layers, (0.3, 0.3, 0.5), strict=True):
        nn.init.normal_(layer.weight, 0, spread)  # some neurons fire for no digit
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], neuron(), layers[1], neuron(), layers[2])


def run(trial: Trial) -> Outcome:
    """Accuracy with and without injected spikes, and how many weights never moved."""
    import torch
    import torch.nn.functional as F

    assert trial.arm is not None
    x, y, test_x, test_y = (t.to(torch.bfloat16) if t.is_floating_point() else t for t in _digits(trial.seed))
    found: dict[str, float] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for key, share in (("clean", 0.0), ("spiked", 0.03)):
        torch.manual_seed(trial.seed)
        net = _net().to(torch.bfloat16)
        start = [p.detach().clone() for p in net.parameters()]
        optimizer, step = stepper(net.parameters(), trial.arm.settings, 5e-3, 100, 30)
        generator = torch.Generator().manual_seed(trial.seed)
        harm = torch.Generator().manual_seed(9000 + trial.seed)
        for t in range(trial.settings["steps"]):
            chosen = torch.randint(len(y), (32,), generator=generator)
            rates = net(x[:, chosen]).float().mean(0)
            loss = F.cross_entropy(rates, y[chosen])
            optimizer.zero_grad()
            loss.backward()
            if float(torch.rand(1, generator=harm)) < share:
                for p in net.parameters():
                    assert p.grad is not None
                    hit = torch.rand(p.shape, generator=harm) < 0.05
                    p.grad = torch.where(hit, 1000 * p.grad.abs().max() * torch.randn(p.shape, generator=harm).sign(),
                                         p.grad).to(p.dtype)  # fmt: skip
            step()
            if t == 20 and key == "clean":
                moments = [s["exp_avg_sq"] for s in optimizer.state.values() if "exp_avg_sq" in s]
                zero = sum(int((v == 0).sum()) for v in moments)
                found["silent"] = 100 * zero / sum(v.numel() for v in moments)
            if t % 20 == 0:
                curves.setdefault(f"training loss, {key}", []).append((float(t), loss.item()))
        still = sum(int((p.detach() == s).sum()) for p, s in zip(net.parameters(), start, strict=True))
        found[f"{key}_still"] = 100 * still / sum(s.numel() for s in start)
        with torch.no_grad():
            right = net(test_x).float().mean(0).argmax(1) == test_y
        found[key] = 100 * float(right.double().mean())
    return Outcome({name: value if math.isfinite(value) else 0.0 for name, value in found.items()}, curves)


CLAIM = Claim(
    name="spam_silent",
    title="Weights of silent neurons need a guard in SPAM",
    system="spam",
    paper=PAPER,
    statement="The published rule clips wherever g² exceeds 5000 v, which is also true where v is 0.",
    question="A spiking net of three layers in bfloat16 whose surrogate is zero away from the threshold: how many weights see no gradient in the first 20 steps, how many never move, and what does it cost, with and without injected spikes?",  # noqa: E501
    data="scikit-learn's digits (real, 8x8), a spike a pixel, the earlier the brighter, 50 steps",
    arms=(ADAM, CLIPPED, RESTART, UNGUARDED, STABLE),
    metrics=(
        Metric("clean", "Test accuracy", "%", True, 1),
        Metric("spiked", "Test accuracy, gradient spikes in 3 % of the steps", "%", True, 1),
        Metric("silent", "Weights without any gradient in 20 steps", "%", None, 1),
        Metric("clean_still", "Weights that never moved", "%", False, 1),
        Metric("spiked_still", "Weights that never moved, with spikes", "%", False, 1),
    ),
    rules=(
        Bound("silent", "spam", at_least=1.0),
        Order("clean_still", ("spam", "spam_unguarded"), margin=0.5),
        Order("spiked", ("adam", "spam")),
        Order("clean", ("spam_unguarded", "spam")),
    ),
    scales={
        "quick": Scale((0, 1, 2), 5, {"steps": 200}),
        "full": Scale((0, 1, 2, 3, 4), 30, {"steps": 1000}),
    },
    run=run,
)
