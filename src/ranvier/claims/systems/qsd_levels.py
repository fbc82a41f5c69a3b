"""Integer levels against time steps at 4-bit weights, and the net as binary spikes (QSD-Transformer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Ratio, Scale, Trial
from ranvier.claims.figure import bars

if TYPE_CHECKING:
    from ranvier.claims.table import Table

NET = {"widths": [16, 32, 64], "blocks": [1, 1, 1], "spike_shortcut": True}


def run(trial: Trial) -> Outcome:
    """Train one arm, then convert the net to binary spikes and compare every decision on the test samples."""
    from ranvier import infer, measure
    from ranvier.claims.small_cifar import percent, recipe, trained

    assert trial.arm is not None
    parsed = recipe("ms_resnet18", {**NET, **trial.arm.settings}, trial.settings, trial.seed)
    with trained(parsed) as (net, result, test):
        x, _ = test.batch(range(len(test)))
        done = infer.convert(net, x[:8], verify=False)
        same = infer.verify_equivalence(net, done.net, list(x.split(250)))
        report = measure.count(done.net, x[:64])
        steps = parsed.train.epochs
        counts = [row.mean_count for row in report.neurons]
        return Outcome(
            {
                "accuracy": percent(result),
                "seconds": result.train_s / steps,
                "same": 100 * same.same_predictions / same.samples,
                "spikes": sum(counts) / len(counts) * report.T,
                "synops": sum(row.synops for row in report.rows) / 1e6,
            },
            notes=[f"not binary: {name} ({what})" for name, what in same.exempt] if trial.seed == 0 else (),
        )


def _figures(table: Table) -> Sequence[Figure]:
    return (bars(table, "accuracy"), bars(table, "seconds"), bars(table, "spikes"))


def _neuron(levels: int) -> dict[str, object]:
    return {"type": "ie_lif", "levels": levels}


CLAIM = Claim(
    name="qsd_levels",
    title="With 4-bit weights, integer levels beat time steps",
    system="qsd_transformer",
    paper="X. Qiu et al. (2025), Quantized Spike-driven Transformer, ICLR 2025, ablations of the integer neuron, the "
    "weight bits and the time steps",
    statement="A neuron that emits 0 to 4 in one step of training, and four binary steps afterwards, is more accurate "
    "than a LIF neuron with one or with four steps, and cheaper to train; 4-bit weights lose little.",
    question="Is it the number of levels, or is it the memoryless neuron with its straight-through gradient? A control "
    "that the paper does not have answers it: the same neuron with one level, which is binary.",
    data="CIFAR-10 averaged to 16 x 16, 3,840 training and 2,000 test images; residual net of widths 16, 32, 64 with "
    "membrane shortcuts, all weights of 4 bits where not said otherwise.",
    arms=(
        Arm("lif_t1", "LIF, one step", {"T": 1, "bits": 4}),
        Arm("lif_t4", "LIF, four steps", {"T": 4, "bits": 4}),
        Arm("levels_1", "integer neuron with 1 level: binary, one step", {"T": 1, "bits": 4, "neuron": _neuron(1)}),
        Arm("levels_2", "integer neuron, 2 levels", {"T": 1, "bits": 4, "neuron": _neuron(2)}),
        Arm("levels_4", "integer neuron, 4 levels", {"T": 1, "bits": 4, "neuron": _neuron(4)}),
        Arm("float_weights", "4 levels, float weights", {"T": 1, "neuron": _neuron(4)}),
        Arm("two_bits", "4 levels, 2-bit weights", {"T": 1, "bits": 2, "neuron": _neuron(4)}),
    ),
    metrics=(
        Metric("accuracy", "Test accuracy", "%", digits=1),
        Metric("seconds", "Training time of an epoch", "s", higher_is_better=False, digits=1),
        Metric("same", "Test decisions that stay the same as binary spikes", "%", digits=1),
        Metric("spikes", "Spikes a neuron and image", higher_is_better=False, digits=2),
        Metric("synops", "Synaptic operations an image", "million", higher_is_better=False, digits=2),
    ),
    rules=(
        Order("accuracy", ("lif_t1", "levels_4"), margin=4),
        Order("accuracy", ("lif_t4", "levels_4"), margin=1),
        Ratio("seconds", "lif_t4", "levels_4", at_least=2),
        Order("accuracy", ("float_weights", "levels_4"), margin=-2.5),
        Order("accuracy", ("two_bits", "levels_4")),
        Bound("same", "levels_4", at_least=100, exact=True),
        Order("accuracy", ("levels_1", "levels_4"), essential=False),
        Order("accuracy", ("lif_t1", "levels_1"), essential=False),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2), minutes=5),
        "full": Scale(
            seeds=(0, 1, 2, 3, 4), minutes=240, settings={"train": 50_000, "test": 10_000, "epochs": 20},
            note="all of CIFAR-10 at 16 x 16",
        ),
    },
    run=run,
    figures=_figures,
    comment="Read the two last rules first: how much of the gain the binary control has already is not what the "
    "paper attributes to the levels.",
)  # fmt: skip
