"""Entropy of queries, keys and values, and matching them to those of a float teacher (QSD-Transformer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Figure, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.figure import bars

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.claims.table import Table

NET = {
    "embed_dim": 64, "embeds": ["orig", "max", "max"], "depths": [1, 1, 1], "mlp_ratio": 2.0, "num_heads": 2,
}  # fmt: skip
MIXERS = ["dwc3", "dwc3"]


def run_entropy(trial: Trial) -> Outcome:
    """Train one arm and measure what its queries, keys and values can tell."""
    from ranvier import measure
    from ranvier.claims.small_cifar import percent, recipe, trained

    assert trial.arm is not None
    arguments = {**NET, "mixers": [*MIXERS, "sdsa3"], "bits": 4, **trial.arm.settings}
    with trained(recipe("max_former_cifar", arguments, trial.settings, trial.seed)) as (net, result, test):
        x, _ = test.batch(range(500))
        bits = measure.attention_entropy(net, x)
    each = {name.rpartition(".")[2]: value for name, value in bits.items()}
    return Outcome(
        {"accuracy": percent(result), **each, "mean": sum(each.values()) / len(each)}
    )  # fmt: skip


def run_distillation(trial: Trial) -> Mapping[str, Outcome]:
    """One teacher and three students of a seed."""
    from ranvier.claims.small_cifar import percent, recipe, trained

    outcomes: dict[str, Outcome] = {}
    with TemporaryDirectory() as folder:
        guide = Path(folder) / "teacher"
        twin = {**NET, "mixers": [*MIXERS, "softmax"], "neuron": "relu", "attn_threshold": None, "T": 1}
        with trained(recipe("max_former_cifar", twin, trial.settings, trial.seed), guide) as (teacher, found, test):
            x, _ = test.batch(range(500))
            note = f"seed {trial.seed}: the teacher has {percent(found):.1f} %"
            for arm in trial.arms:
                student = {
                    **NET, "mixers": [*MIXERS, "sdsa3"], "bits": 4, "T": 1, "neuron": {"type": "ie_lif", "levels": 4},
                }  # fmt: skip
                section = {"teacher": str(guide), **arm.settings} if arm.settings else {}
                parsed = recipe("max_former_cifar", student, trial.settings, trial.seed, distill=section)
                with trained(parsed) as (net, result, _):
                    outcomes[arm.name] = Outcome(
                        {"accuracy": percent(result), "distance": _distance(teacher, net, x)},
                        notes=(note,) if arm.name == "none" else (),
                    )
    return outcomes


def _distance(teacher: nn.Module, student: nn.Module, x: Tensor) -> float:
    """Mean distance of the normalised similarities on held-out images, a head and tap."""
    import torch

    from ranvier.train import FineGrainedDistillation

    fgd = FineGrainedDistillation(teacher)
    with torch.no_grad(), fgd.watching(student):
        student(x)
    return float(fgd(x)) / (3 * 2)  # three taps, two heads, one block


def _figures(table: Table) -> Sequence[Figure]:
    return tuple(bars(table, name) for name in ("q", "k", "v"))


def _neuron(levels: int) -> dict[str, Any]:
    return {"type": "ie_lif", "levels": levels}


_DATA = (
    "CIFAR-10 averaged to 16 x 16, 3,840 training and 2,000 test images; three stages up to width 64, the last with "
    "spike-driven attention (SDSA-3) on 16 tokens, all weights of 4 bits"
)
_PAPER = "X. Qiu et al. (2025), Quantized Spike-driven Transformer, ICLR 2025"

ENTROPY = Claim(
    name="qsd_entropy",
    title="Integer levels raise the information in queries, keys and values",
    system="qsd_transformer",
    paper=_PAPER + ", the section on spike information distortion",
    statement="With quantised weights, binary queries, keys and values carry little information; integer levels raise "
    "it.",
    question="How many bits does a neuron's output carry in a trained net, counting the whole spike train of a LIF "
    "neuron as one word? The binary control (1 level) shows what the neuron without memory does by itself.",
    data=_DATA + "; entropy over 500 test images.",
    arms=(
        Arm("lif_t1", "LIF, one step", {"T": 1}),
        Arm("lif_t4", "LIF, four steps", {"T": 4}),
        Arm("levels_1", "integer neuron with 1 level: binary", {"T": 1, "neuron": _neuron(1)}),
        Arm("levels_4", "integer neuron, 4 levels", {"T": 1, "neuron": _neuron(4)}),
    ),
    metrics=(
        Metric("mean", "Entropy, mean of q, k and v", "bits a neuron", digits=2),
        Metric("q", "Entropy of queries", "bits a neuron", digits=2),
        Metric("k", "Entropy of keys", "bits a neuron", digits=2),
        Metric("v", "Entropy of values", "bits a neuron", digits=2),
        Metric("accuracy", "Test accuracy", "%", digits=1),
    ),
    rules=(
        Order("mean", ("lif_t1", "levels_4")),
        Order("mean", ("lif_t4", "levels_4")),
        Order("q", ("lif_t1", "levels_4")),
        Order("k", ("lif_t1", "levels_4")),
        Order("v", ("lif_t1", "levels_4")),
        Order("mean", ("levels_1", "levels_4"), essential=False),
        Order("mean", ("lif_t1", "levels_1"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=7)},
    run=run_entropy,
    figures=_figures,
)  # fmt: skip

DISTILLATION = Claim(
    name="qsd_distillation",
    title="Fine-grained distillation brings queries, keys and values closer to a teacher's",
    system="qsd_transformer",
    paper=_PAPER + ", figure on fine-grained distillation",
    statement="Matching the student's queries, keys and values to those of a float teacher, block by block, reduces "
    "the distortion and adds a little accuracy.",
    question="Does the distance between normalised similarities fall on images that neither has seen? The published "
    "loss is not public; two reconstructions are compared with none. The gain in accuracy is too small to be "
    "resolved at this size, so no rule rests on it.",
    data=_DATA + "; the teacher is its twin with ReLU, float weights and softmax attention, trained alike.",
    arms=(
        Arm("none", "no distillation"),
        Arm("gram", "normalised similarities matched", {"mode": "gram", "weight": 0.3}),
        Arm("mse", "standardised channels matched", {"mode": "mse", "weight": 0.3}),
    ),
    metrics=(
        Metric("distance", "Distance of similarities on test images", higher_is_better=False, digits=3),
        Metric("accuracy", "Test accuracy", "%", digits=1),
    ),
    rules=(
        Order("distance", ("gram", "none")),
        Order("distance", ("gram", "mse"), essential=False),
        Order("accuracy", ("none", "gram"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=6)},
    run=run_distillation,
    joint=True,
)  # fmt: skip

CLAIMS = (ENTROPY, DISTILLATION)
