"""Early exit by confidence: fewer steps at equal accuracy, of converted and of directly trained nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Ratio, Scale, Trial
from ranvier.claims.figure import bars, curves

if TYPE_CHECKING:
    from ranvier.claims.table import Table

PAPER = (
    "C. Li, E. G. Jones, S. Furber (2023), Unleashing the Potential of Spiking Neural Networks with Dynamic "
    "Confidence, ICCV 2023"
)
SIZES = (100, 300, 1000, 3000)
T_CONVERTED, T_DIRECT = 16, 8

ARMS = (
    Arm("full", "every sample takes all steps"),
    Arm("fixed", "the smallest fixed number of steps within 0.2 points of all steps, on held-out samples"),
    Arm("confidence", "Dynamic Confidence, smoothing constant and threshold chosen together on held-out samples"),
    Arm("alpha_30", "Dynamic Confidence with the published smoothing constant 30, threshold chosen"),
    Arm("entropy", "entropy of the accumulated output, smoothing constant and threshold chosen likewise"),
    Arm("gap", "lead of the best class in accumulated logits, threshold chosen"),
    Arm("patience", "the prediction has been the same for so many steps, number chosen"),
    Arm("cutoff", "a bound of the lead for each step, so that those who leave reach the full accuracy"),
    Arm("random", "control: random steps with the histogram of Dynamic Confidence"),
    Arm("oracle", "bound: the first step that is right (all steps for those that never are)"),
)
METRICS = (
    Metric("accuracy", "Test accuracy", "%", digits=2),
    Metric("steps", "Mean steps", "", higher_is_better=False, digits=2),
    Metric("lost", "Accuracy lost against all steps", "points", higher_is_better=False, digits=2),
)
RULES = (
    Ratio("steps", "confidence", "full", at_most=0.6),
    Ratio("steps", "confidence", "fixed", at_most=0.65),
    Bound("lost", "confidence", at_most=0.5),
    Order("accuracy", ("random", "confidence")),
    Ratio("steps", "confidence", "entropy", at_most=1.05),
    Ratio("steps", "confidence", "gap", at_most=1.05, essential=False),
    Ratio("steps", "confidence", "alpha_30", at_most=1.0, essential=False),
)
_STATEMENT = (
    "Stopping each sample once max softmax(U/α) of the accumulated output exceeds a threshold needs about 40 % fewer "
    "steps at the same accuracy."
)
_QUESTION = (
    "Does the threshold that is chosen on samples held out of training save as much on the test set, against all "
    "steps and against the smallest fixed number of steps that would do? All criteria are calibrated alike, at no loss "
    "on the held-out samples."
)


def run_converted(trial: Trial) -> Mapping[str, Outcome]:
    """Train a QCFS net, convert it, record it, compare."""
    from ranvier.claims import exit_study
    from ranvier.infer import convert_ann
    from ranvier.infer.early_exit import fixed_steps

    data = trial.settings["data"]
    with exit_study.trained(data, "vgg16_qcfs", exit_study.QCFS[data], trial.settings, trial.seed) as made:
        snn = convert_ann(made.net, steps=T_CONVERTED).net
        held, test = exit_study.recorded(snn, made.held_out), exit_study.recorded(snn, made.test)
    by_step = [(float(t + 1), 100 * share) for t, share in enumerate(fixed_steps(*test))]
    found = exit_study.compared(held, test)
    return {
        name: Outcome(
            figures,
            curves={"accuracy": by_step if name == "full" else [(round(figures["steps"], 1), figures["accuracy"])]},
        )
        for name, figures in found.items()
    }  # fmt: skip


def run_direct(trial: Trial) -> Outcome:
    """Train a spiking net directly with one loss, calibrate, test."""
    from ranvier.claims import exit_study
    from ranvier.infer.early_exit import fixed_steps

    assert trial.arm is not None
    data, loss = trial.arm.settings["data"], trial.arm.settings["loss"]
    settings = {**trial.settings, **trial.settings[data]}
    arguments = {"T": T_DIRECT, "channels": settings["channels"], "hidden": 64}
    extra = {"loss": "tet", "tet_lambda": 1e-3} if loss == "tet" else {}
    with exit_study.trained(data, "spiking_conv_net", arguments, settings, trial.seed, **extra) as made:
        held, test = exit_study.recorded(made.net, made.held_out), exit_study.recorded(made.net, made.test)
    by_step = [100 * share for share in fixed_steps(*test)]
    found = exit_study.compared(held, test)
    steps = found["confidence"]["steps"]
    return Outcome(
        {
            "full": by_step[-1], "accuracy": found["confidence"]["accuracy"], "lost": found["confidence"]["lost"],
            "steps": steps, "of_full": steps / T_DIRECT, "of_fixed": steps / found["fixed"]["steps"],
            "entropy": found["entropy"]["steps"], "random": found["random"]["lost"] - found["confidence"]["lost"],
            "first": by_step[0],
        },
        curves={"accuracy": [(float(t + 1), share) for t, share in enumerate(by_step)]},
    )  # fmt: skip


def run_sizes(trial: Trial) -> Mapping[str, Outcome]:
    """Calibrate on 20 draws of each size from the held-out samples of one net."""
    import torch

    from ranvier.claims import exit_study
    from ranvier.infer import convert_ann
    from ranvier.infer.early_exit import DynamicConfidence, calibrate, evaluate_exit, fixed_steps

    arguments = exit_study.QCFS["cifar10"]
    with exit_study.trained("cifar10", "vgg16_qcfs", arguments, trial.settings, trial.seed) as made:
        snn = convert_ann(made.net, steps=trial.settings["steps"]).net
        held, test = exit_study.recorded(snn, made.held_out), exit_study.recorded(snn, made.test)
    full = 100 * fixed_steps(*test)[-1]
    draw = torch.Generator().manual_seed(trial.seed)
    outcomes: dict[str, Outcome] = {}
    for arm in trial.arms:
        size, lost, steps = arm.settings["size"], [], []
        for _ in range(20):
            part = torch.randint(len(held[1]), (size,), generator=draw)  # with replacement: a bootstrap
            criterion = DynamicConfidence(alpha=4.0)
            calibrate(held[0][:, part], held[1][part], criterion, margin=arm.settings["margin"])
            found = evaluate_exit(*test, criterion)
            lost.append(full - 100 * found.accuracy)
            steps.append(found.mean_steps)
        outcomes[arm.name] = Outcome({
            "lost": sum(lost) / 20, "worst": max(lost), "spread": float(torch.tensor(lost).std()),
            "steps": sum(steps) / 20, "steps_spread": float(torch.tensor(steps).std()),
        })  # fmt: skip
    return outcomes


def _figures(table: Table) -> Sequence[Figure]:
    return (
        curves(table, "accuracy", "Accuracy and mean steps", "mean steps", "test accuracy, %"),
        bars(table, "steps"),
        bars(table, "lost"),
    )


def _direct_figures(table: Table) -> Sequence[Figure]:
    return (curves(table, "accuracy", "Accuracy of fixed steps", "steps", "test accuracy, %"), bars(table, "of_fixed"))


def _converted(data: str, shown: str, settings: dict[str, int], minutes: float) -> Claim:
    return Claim(
        name=f"dynamic_confidence_{data}",
        title=f"Early exit of converted nets on {shown.partition(',')[0]}: fewer steps at equal accuracy",
        system="dynamic_confidence",
        paper=PAPER + ", table of latency and accuracy (eight settings)",
        statement=_STATEMENT,
        question=_QUESTION,
        data=f"{shown}; a net of three convolutions and two hidden linear layers with QCFS activations (L = 4), "
        f"converted and shown each image for up to {T_CONVERTED} steps.",
        arms=ARMS, metrics=METRICS, rules=RULES,
        scales={"quick": Scale(seeds=(0, 1, 2), minutes=minutes, settings={"data": data, **settings})},
        run=run_converted, joint=True, figures=_figures,
        comment="The baseline of all steps flatters any early exit; the smallest sufficient fixed number does not.",
    )  # fmt: skip


CIFAR10 = _converted(
    "cifar10", "CIFAR-10 averaged to 16 x 16, 7,000 training, 1,500 held-out and 2,000 test images",
    {"train": 7000, "held_out": 1500, "test": 2000, "epochs": 4}, 9,
)  # fmt: skip
MNIST = _converted(
    "mnist", "MNIST, 4,000 training, 1,500 held-out and 2,000 test images",
    {"train": 4000, "held_out": 1500, "test": 2000, "epochs": 3}, 8,
)  # fmt: skip
DIRECT = Claim(
    name="dynamic_confidence_direct",
    title="Early exit of directly trained spiking nets, and what the TET loss does for their first steps",
    system="dynamic_confidence",
    paper=PAPER + "; S. Deng et al. (2022), Temporal Efficient Training, ICLR 2022, for the loss",
    statement=_STATEMENT + " The method asks only for outputs that improve with time.",
    question="Does it hold for nets trained with surrogate gradients, by cross-entropy of the time mean and by TET, "
    "which asks every step to be right? TET must make the first step more accurate.",
    data=f"MNIST (2,000 training, 1,000 held-out, 2,000 test images) and CIFAR-10 averaged to 16 x 16 (3,000, 1,000, "
    f"2,000); two spiking convolutions and a hidden layer of LIF neurons, T = {T_DIRECT}.",
    arms=tuple(
        Arm(f"{data}_{loss}", f"{data}, {words}", {"data": data, "loss": loss})
        for data in ("mnist", "cifar10")
        for loss, words in (("mean", "cross-entropy of the mean over time"), ("tet", "TET: cross-entropy of each step"))
    ),
    metrics=(
        Metric("of_fixed", "Mean steps over the smallest sufficient fixed steps", higher_is_better=False, digits=3),
        Metric("of_full", "Mean steps over all steps", higher_is_better=False, digits=3),
        Metric("lost", "Accuracy lost against all steps", "points", higher_is_better=False, digits=2),
        Metric("steps", "Mean steps of Dynamic Confidence", higher_is_better=False, digits=2),
        Metric("entropy", "Mean steps of entropy", higher_is_better=False, digits=2),
        Metric("random", "Accuracy above that of random steps with the same histogram", "points", digits=2),
        Metric("accuracy", "Test accuracy with early exit", "%", digits=2),
        Metric("full", "Test accuracy with all steps", "%", digits=2),
        Metric("first", "Test accuracy after one step", "%", digits=2),
    ),
    rules=(
        *(Bound("of_full", f"{data}_{loss}", at_most=0.6) for data in ("mnist", "cifar10") for loss in ("mean", "tet")),
        *(Bound("lost", f"{data}_{loss}", at_most=0.5) for data in ("mnist", "cifar10") for loss in ("mean", "tet")),
        Order("first", ("mnist_mean", "mnist_tet")),
        Order("first", ("cifar10_mean", "cifar10_tet")),
        *(Bound("of_fixed", f"{data}_tet", at_most=0.65, essential=False) for data in ("mnist", "cifar10")),
        *(Bound("random", f"{data}_tet", at_least=0.0, essential=False) for data in ("mnist", "cifar10")),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=10,
            settings={
                "epochs": 3, "test": 2000, "held_out": 1000, "mnist": {"train": 2000, "channels": [8, 16]},
                "cifar10": {"train": 3000, "channels": [16, 32]},
            },
        )
    },
    run=run_direct,
    figures=_direct_figures,
)  # fmt: skip
SIZES_CLAIM = Claim(
    name="dynamic_confidence_calibration",
    title="How many held-out samples a threshold needs",
    system="dynamic_confidence",
    paper=PAPER + "; its demo calibrates on 100 images, which are test images",
    statement="A threshold chosen once on a small calibration set keeps the accuracy.",
    question="How much do accuracy and steps on the test set vary over 20 draws of a calibration set of 100 to 3,000 "
    "held-out samples? And when the threshold has to be better than all steps by a standard error of the paired "
    "difference, so that luck on the held-out samples does not choose it?",
    data="CIFAR-10 averaged to 16 x 16, 5,000 training, 3,000 held-out and 2,000 test images; the net of "
    "dynamic_confidence_cifar10, 12 steps, α = 4. Draws are with replacement.",
    arms=(
        *(Arm(f"of_{size}", f"{size} calibration samples", {"size": size, "margin": 0.0}) for size in SIZES),
        *(
            Arm(f"margin_{size}", f"{size}, and better by a standard error", {"size": size, "margin": 1.0})
            for size in SIZES
        ),
    ),
    metrics=(
        Metric("lost", "Accuracy lost against all steps, mean of 20 draws", "points", higher_is_better=False, digits=2),
        Metric("spread", "Its standard deviation over draws", "points", higher_is_better=False, digits=2),
        Metric("worst", "Largest loss of the 20 draws", "points", higher_is_better=False, digits=2),
        Metric("steps", "Mean steps", higher_is_better=False, digits=2),
        Metric("steps_spread", "Standard deviation of mean steps over draws", higher_is_better=False, digits=2),
    ),
    rules=(
        Bound("lost", "of_1000", at_most=0.5),
        Bound("worst", "of_1000", at_most=1.5),
        Order("steps_spread", ("of_3000", "of_100")),
        Order("worst", ("of_3000", "of_100"), essential=False),
        Bound("lost", "margin_1000", at_most=0.5, essential=False),
        Bound("worst", "margin_1000", at_most=1.5, essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=8,
            settings={"train": 5000, "held_out": 3000, "test": 2000, "epochs": 4, "steps": 12},
        )
    },
    run=run_sizes,
    joint=True,
    figures=lambda table: (bars(table, "steps_spread"), bars(table, "worst"), bars(table, "steps")),
)  # fmt: skip

CLAIMS = (CIFAR10, MNIST, DIRECT, SIZES_CLAIM)
