"""Learned delays against fixed random ones and none, on spoken digits, at an equal number of parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ranvier.claims.claim import Arm, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.rules import Order

if TYPE_CHECKING:
    from ranvier.train.run import RunResult

CLASSES, TAUS = 10, (1.005, 5.0, 20.0)
SPEAKERS = ("theo", "jackson", "nicolas", "lucas", "yweweler", "george")


def parameters(inputs: int, width: int, each: int) -> int:
    """Of two hidden layers of `width` with batch norm and `each` learned values a synapse."""
    return each * (inputs * width + width * width + CLASSES * width) + 4 * width


def equal_width(inputs: int, width: int) -> int:
    """The width at which a net without learned delays has as many parameters as one of `width` with them."""
    total, b = parameters(inputs, width, 2), inputs + CLASSES + 4
    return round((math.sqrt(b * b + 4 * total) - b) / 2)


def recipe(settings: Any, arm: Any, seed: int, held_out: str | None, tau: float) -> dict[str, Any]:
    """The recipe of one training."""
    learned = arm["delays"] == "learned"
    width = settings["hidden"] if learned else equal_width(settings["channels"], settings["hidden"])
    model: dict[str, Any] = {
        "hidden": [width, width], "max_delay": 0 if arm["delays"] == "none" else settings["max_delay"], "tau": tau,
        "dropout": 0.25, "learn_delay": learned, "interpolation": "gauss" if learned else "max",
        "rounded": arm.get("rounded", 0.0),
    }  # fmt: skip
    options: dict[str, Any] = {"dt": settings["dt"], "T": settings["T"], "channels": settings["channels"]}
    if held_out is not None:
        options["held_out"] = held_out
    group = {"match": "*.delay", "lr": 0.1, "weight_decay": 0.0, "schedule": "cosine"}
    return {
        "name": "learned_delays", "seed": seed,
        "data": {"name": "fsdd-spikes", "batch_size": 64, "validation": 0.15, "options": options},
        "model": {"name": "delay_mlp_shd", "args": model},
        "train": {
            "epochs": settings["epochs"], "optimizer": "adam", "lr": 5e-3, "weight_decay": 1e-5,
            "schedule": "onecycle", "schedule_by": "epoch", "cycle_momentum": True, "readout": "softmax_sum",
            "groups": [group] if learned else [], "accelerator": "cpu", "checkpoint_epochs": 0,
        },
    }  # fmt: skip


def _train(trial: Trial, held_out: str | None, tau: float, folder: str) -> tuple[RunResult, float]:
    """A training's result, and its test accuracy with soft delays."""
    from ranvier.layers import integer_delays
    from ranvier.train import evaluate, fit, load_run, parse_recipe
    from ranvier.train.assemble import load_splits

    assert trial.arm is not None
    parsed = parse_recipe(recipe(trial.settings, trial.arm.settings, trial.seed, held_out, tau))
    result = fit(parsed, folder, progress=False)
    net, _ = load_run(folder)
    with integer_delays(net, integer=False):
        soft = evaluate(net, load_splits(parsed).test, readout="softmax_sum")
    assert soft.accuracy is not None
    return result, soft.accuracy


def run(trial: Trial) -> Outcome:
    """Train with known speakers and with one held out; a net without delays also chooses its time constant."""
    import tempfile

    from ranvier.train.files import RunError

    assert trial.arm is not None
    speaker = SPEAKERS[trial.seed % len(SPEAKERS)]
    taus = TAUS if trial.arm.settings["delays"] == "none" else TAUS[:1]
    metrics: dict[str, float] = {}
    notes: list[str] = []
    for name, held_out in (("known", None), ("held_out", speaker)):
        found: list[tuple[float, float, RunResult, float]] = []
        for tau in taus:
            with tempfile.TemporaryDirectory() as folder:
                result, soft = _train(trial, held_out, tau, folder)
            if result.validation is None:
                raise RunError("the training set nothing aside to select on")
            found.append((result.validation["accuracy"], tau, result, soft))
        _, tau, best, soft = max(found, key=lambda entry: entry[0])
        assert best.test.accuracy is not None
        metrics[name] = 100 * best.test.accuracy
        metrics["soft" if name == "known" else "soft_held_out"] = 100 * soft
        metrics["parameters"] = best.params
        notes.append(f"{name}{'' if held_out is None else f' ({held_out})'}: time constant {tau:g} steps")
    return Outcome(metrics, notes=notes)


CLAIM = Claim(
    name="learned_delays",
    title="Learned delays beat fixed random ones, which beat none",
    system="learned-delays",
    paper="I. Hammouamri, I. Khalfaoui-Hassani, T. Masquelier (ICLR 2024), Learning delays in spiking neural networks "
    "using dilated convolutions with learnable spacings, ablation study",
    statement="On spoken words, feed-forward spiking nets are better with fixed random delays than without delays, and "
    "better still when the delays are learned, at an equal number of parameters.",
    question="Does the order hold on other real recordings (spoken digits of six speakers, heard by a model ear), for "
    "speakers that the net has never heard, and against a net without delays that may choose its time constant?",
    data="Free Spoken Digit Dataset, 3,000 recordings, as spikes of 700 channels; take 0 to 4 of every speaker tested "
    "(known), or all takes of one speaker (held_out: another one with every seed)",
    arms=(
        Arm("none", "no delays; the time constant (1.005, 5 or 20 steps) is the best one on the validation part",
            {"delays": "none"}),
        Arm("fixed", "fixed random delays, layers widened to the same number of parameters", {"delays": "fixed"}),
        Arm("learned", "learned delays, as published", {"delays": "learned"}),
        Arm("learned_rounded", "learned delays; in the last quarter they are rounded and only weights learn",
            {"delays": "learned", "rounded": 0.25}),
    ),
    metrics=(
        Metric("known", "Accuracy, known speakers, whole-step delays", "%", digits=1),
        Metric("held_out", "Accuracy, a speaker never heard, whole-step delays", "%", digits=1),
        Metric("soft", "Accuracy, known speakers, delays not rounded", "%", digits=1),
        Metric("soft_held_out", "Accuracy, a speaker never heard, delays not rounded", "%", digits=1),
        Metric("parameters", "Trained parameters", higher_is_better=None, digits=0),
    ),
    rules=(
        Order("known", ("none", "fixed", "learned")),
        Order("held_out", ("none", "fixed", "learned")),
        Order("known", ("fixed", "learned_rounded"), essential=False),
        Order("held_out", ("fixed", "learned_rounded"), essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=15,
            settings={"hidden": 48, "epochs": 20, "dt": 20.0, "T": 50, "channels": 140, "max_delay": 12},
            note="two layers of 48, steps of 20 ms, delays up to 240 ms",
        ),
        "full": Scale(
            seeds=(0, 1, 2, 3, 4, 5), minutes=600,
            settings={"hidden": 256, "epochs": 150, "dt": 10.0, "T": 100, "channels": 140, "max_delay": 24},
            note="the published net and schedule",
        ),
    },
    run=run,
)  # fmt: skip
