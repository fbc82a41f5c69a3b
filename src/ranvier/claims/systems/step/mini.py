"""The small Spikformer on small images that STEP's findings are tested on."""

from __future__ import annotations

from typing import Any

from ranvier.claims import Metric, Outcome, Scale, Trial

PAPER = (
    "S. Shen et al. (2025), STEP: A Unified Spiking Transformer Evaluation Platform, NeurIPS 2025 (arXiv:2505.11151)"
)
NET: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 4, "T": 4, "pools": "0011", "stem": "wide4"}
RELU: dict[str, Any] = {"neuron": "relu", "attn_threshold": None, "T": 1}
DATA = (
    "CIFAR-10 averaged to 16 x 16, 1,600 training and 1,500 test images, five epochs; a Spikformer of two blocks of "
    "width 48 with 4 x 4 tokens. The last weights count; nothing is selected."
)
SETTINGS: dict[str, Any] = {"train": 1600, "test": 1500, "epochs": 5, "lr": 2e-3, "batch_size": 64}
FULL = Scale(
    seeds=(0, 1, 2), minutes=2400,
    settings={"train": 50_000, "test": 10_000, "epochs": 30, "lr": 2e-3, "batch_size": 64},
    note="all of CIFAR-10 at 16 x 16; meant for a GPU",
)  # fmt: skip
ACCURACY = Metric("accuracy", "Test accuracy", "%", digits=1)
RATE = Metric("rate", "Mean firing rate of the neurons", "%", None, digits=1)


def run(trial: Trial) -> Outcome:
    """Train the arm's Spikformer with the recipe of all arms; test accuracy and mean firing rate."""
    from ranvier.claims.small_cifar import percent, recipe, trained
    from ranvier.measure import count

    assert trial.arm is not None
    arguments = {**NET, **trial.arm.settings}
    with trained(recipe("spikformer", arguments, trial.settings, trial.seed)) as (net, result, test):
        x, _ = test.batch(range(100))
        rows = count(net, x).neurons
    neurons = sum(row.neurons for row in rows)
    rate = sum(row.rate * row.neurons for row in rows) / neurons if neurons else 0.0
    return Outcome({"accuracy": percent(result), "rate": 100 * rate})
