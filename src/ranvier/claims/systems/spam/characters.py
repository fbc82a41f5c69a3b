"""SPAM on a small character transformer: with corrupted gradients, and over learning rates without."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Check, Claim, Close, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.systems.spam.arms import (
    ADAM,
    CLIP_ONLY,
    CLIPPED,
    PUBLISHED,
    RESET_ONLY,
    RESTART,
    STABLE,
    cosine,
    stepper,
)
from ranvier.claims.systems.spam.quadratics import PAPER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.claims.rules import Holds
    from ranvier.claims.table import Table

CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 48, 48, 3, 2, 12
DATA = "the English documentation inside Python's library (pydoc_data.topics): first 90 % training, rest validation"
RATES = (5e-4, 1e-3, 2e-3, 4e-3)


def _text() -> tuple[Tensor, Tensor, int]:
    """Training and validation ids, and the number of characters."""
    import pydoc_data.topics

    import torch

    from ranvier.data.text import CharTokenizer

    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    tokenizer = CharTokenizer(text)
    ids = torch.from_numpy(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], tokenizer.vocab_size


def _transformer(vocab: int) -> nn.Module:
    from torch import nn

    from ranvier.claims.controls.transformer import CausalTransformer

    net = CausalTransformer(vocab, LAYERS, WIDTH, HEADS, CONTEXT)
    assert isinstance(net, nn.Module)
    return net


def train(trial: Trial, arm: dict[str, Any], lr: float, corrupt: float) -> tuple[float, list[tuple[float, float]]]:
    """Validation cross-entropy in nats after the run, and the training curve."""
    import torch
    import torch.nn.functional as F

    steps = trial.settings["steps"]
    training, validation, vocab = _text()
    torch.manual_seed(trial.seed)
    net = _transformer(vocab)
    optimizer, step = stepper(net.parameters(), arm, lr, trial.settings["interval"], trial.settings["warmup"])
    generator = torch.Generator().manual_seed(trial.seed)
    harm = torch.Generator().manual_seed(5000 + trial.seed)
    curve: list[tuple[float, float]] = []

    def batch(text: Tensor, source: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - CONTEXT - 1, (count,), generator=source)
        windows = torch.stack([text[s : s + CONTEXT + 1] for s in starts], 1)
        return windows[:-1], windows[1:]

    for t in range(steps):
        x, y = batch(training, generator, BATCH)
        loss = F.cross_entropy(net(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        if float(torch.rand(1, generator=harm)) < corrupt:
            for p in net.parameters():
                if p.grad is not None and float(torch.rand(1, generator=harm)) < 0.5:
                    p.grad = 1000 * p.grad[torch.randperm(len(p), generator=harm)]
        cosine(optimizer, lr, t, steps)
        step()
        if t % 10 == 0:
            curve.append((float(t), loss.item()))
    net.eval()
    with torch.no_grad():
        x, y = batch(validation, torch.Generator().manual_seed(0), 256)
        end = F.cross_entropy(net(x).flatten(0, 1), y.flatten()).item()
    return (end if math.isfinite(end) else 1e3), [(a, b if math.isfinite(b) else 1e3) for a, b in curve]


def run(trial: Trial) -> Outcome:
    """Once with sound gradients, once with corrupted ones."""
    assert trial.arm is not None
    arm = dict(trial.arm.settings)
    clean, _ = train(trial, arm, 2e-3, 0.0)
    corrupted, curve = train(trial, arm, 2e-3, 0.03)
    return Outcome({"corrupted": corrupted, "clean": clean}, {"training loss, corrupted": curve})


CORRUPTED = Claim(
    name="spam_characters",
    title="SPAM trains a transformer whose gradients are corrupted",
    system="spam",
    paper=PAPER,
    statement="Spike-aware clipping and momentum reset make training robust to gradient spikes, each of them helping.",
    question="A transformer of two layers on characters; in 3 % of the steps half of the tensors get gradients with shuffled rows, 1000 times too large. Validation cross-entropy, each part of SPAM on its own, and Adam with norm clipping.",  # noqa: E501
    data=DATA,
    arms=(ADAM, CLIPPED, CLIP_ONLY, RESET_ONLY, RESTART, PUBLISHED, STABLE),
    metrics=(
        Metric("corrupted", "Validation cross-entropy after training on corrupted gradients", "nats", False, 3),
        Metric("clean", "The same with sound gradients", "nats", False, 3),
    ),
    rules=(
        Order("corrupted", ("adam", "clip_only", "reset_only", "spam"), falling=True),
        Close("clean", "spam", "adam", within=0.03),
        Order("corrupted", ("spam", "adam_norm_clip"), falling=True, essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 5, {"steps": 300, "interval": 75, "warmup": 25}),
        "full": Scale((0, 1, 2, 3, 4), 80, {"steps": 3000, "interval": 500, "warmup": 150}),
    },
    run=run,
    comment="Where whole tensors are hit, the norm is dominated by the spike, and norm clipping does better than SPAM.",
)


def run_rates(trial: Trial) -> Outcome:
    """All learning rates of one optimiser, with sound gradients."""
    assert trial.arm is not None
    losses = [train(trial, dict(trial.arm.settings), lr, 0.0)[0] for lr in RATES]
    best = min(range(len(RATES)), key=lambda i: losses[i])
    return Outcome(
        {"best": losses[best], "rate": math.log2(RATES[best] / RATES[0]), "at_1e-3": losses[1]},
        {"validation loss": list(zip(RATES, losses, strict=True))},
    )


def _optimum_moves(table: Table) -> tuple[Holds, str]:
    gap = table.difference("rate", "adam", "spam_published")
    error = gap.standard_error
    if error is None:
        return "undecided", f"Adam's best rate is 2^{gap.mean:.2f} times the published SPAM's"
    holds: Holds = (
        "holds" if gap.mean - error >= 0 and gap.mean > 0 else "fails" if gap.mean + error < 0 else "undecided"
    )
    return holds, f"Adam's best rate is 2^({gap.mean:.2f} ± {error:.2f}) times the published SPAM's"


SWEEP: tuple[Arm, ...] = (ADAM, RESTART, PUBLISHED)
SWEPT = Claim(
    name="spam_rates",
    title="Part of SPAM's gain without spikes is a larger step",
    system="spam",
    paper=PAPER,
    statement="SPAM lowers the loss also where no spike is injected.",
    question="The published rule does not restart Adam's bias correction with the moments, which makes its steps 1.9 times the nominal rate on average. Over four learning rates each, is anything left of the gain?",  # noqa: E501
    data=DATA,
    arms=SWEEP,
    metrics=(
        Metric("best", "Validation cross-entropy at the best of four rates", "nats", False, 3),
        Metric("rate", "Best rate, as doublings of 0.0005", "log2", None, 2),
        Metric("at_1e-3", "Validation cross-entropy at rate 0.001", "nats", False, 3),
    ),
    rules=(
        Close("best", "spam_published", "adam", within=0.06),
        Close("best", "spam", "adam", within=0.06),
        Order("at_1e-3", ("adam", "spam_published"), falling=True),
        Check("the best rate of published SPAM is not above Adam's", _optimum_moves),
    ),
    scales={
        "quick": Scale((0, 1, 2), 5, {"steps": 300, "interval": 75, "warmup": 25}),
        "full": Scale((0, 1, 2, 3, 4), 80, {"steps": 3000, "interval": 500, "warmup": 150}),
    },
    run=run_rates,
)
