"""Early exit by confidence: is it faster by the clock, at equal accuracy?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Outcome, Scale, Trial
from ranvier.claims.figure import bars
from ranvier.claims.systems.dynamic_confidence import PAPER, T_CONVERTED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.claims.table import Table
    from ranvier.infer.early_exit import Criterion

NET = {"layers": [48, "A", 96, "A", 128], "hidden": 256, "levels": 4, "start": 2.0}
CHUNKS = (1, 2, 4)


def run(trial: Trial) -> Mapping[str, Outcome]:
    """One net; every arm in turns with fixed steps on the same test samples."""
    from ranvier.claims import exit_study
    from ranvier.infer import convert_ann
    from ranvier.infer.early_exit import evaluate_exit, fixed_steps

    s = trial.settings
    with exit_study.trained("cifar10", "vgg16_qcfs", NET, s, trial.seed) as made:
        snn = convert_ann(made.net, steps=T_CONVERTED).net
        held, test = exit_study.recorded(snn, made.held_out), exit_study.recorded(snn, made.test)
        tried = made.held_out.batch(range(s["tried"]))[0]
        shown = {arm.name: made.test.batch(range(s[arm.settings["samples"]]))[0] for arm in trial.arms}
    criterion = exit_study.chosen("confidence", *held)
    enough = exit_study.sufficient(*held)
    found = evaluate_exit(*test, criterion)
    fixed = fixed_steps(*test)
    outcomes: dict[str, Outcome] = {}
    for arm in trial.arms:
        timed = measure(snn, criterion, enough, tried, shown[arm.name], arm.settings, s["rounds"])
        outcomes[arm.name] = Outcome(
            {
                **timed, "mean_steps": found.mean_steps, "fixed_steps": float(enough),
                "accuracy": 100 * found.accuracy, "gain": 100 * (found.accuracy - fixed[enough - 1]),
            },
            notes=(f"seed {trial.seed}: all {T_CONVERTED} steps reach {100 * fixed[-1]:.1f} %",)
            if arm is trial.arms[0] else (),
        )  # fmt: skip
    return outcomes


def measure(
    net: nn.Module, criterion: Criterion, enough: int, tried: Tensor, x: Tensor, how: Mapping[str, Any], rounds: int
) -> dict[str, float]:
    """Wall-clock ratios of early exit and fixed steps; the chunk of both is the fastest on other samples (`tried`)."""
    from statistics import median

    from ranvier.infer import compile
    from ranvier.infer.early_exit import EarlyExitRunner, FixedSteps, take_turns

    batch, refill = how["batch"], how["mode"] == "throughput"
    engine = compile(net, tried[:1]) if how["compiled"] else None
    size = batch if batch < len(x) else None

    def leaving(chunk: int) -> EarlyExitRunner:
        return EarlyExitRunner(net, criterion, T_CONVERTED, how["mode"], chunk, slots=batch, engine=engine)

    def staying(steps: int, chunk: int) -> EarlyExitRunner:
        return EarlyExitRunner(net, FixedSteps(steps), steps, "latency", chunk, engine=engine)

    def in_batches(run: EarlyExitRunner) -> Any:
        return (lambda part: [run(p) for p in part.split(batch)]) if refill else run

    few = tried[: max(batch, 24) * (3 if refill else 1)]
    ways = {f"exit {c}": leaving(c) for c in CHUNKS} | {
        f"fixed {c}": in_batches(staying(enough, c)) for c in (*CHUNKS, enough) if c <= enough
    }
    first = take_turns(ways, few, None if refill else size, 2)
    best = {
        kind: int(min((min(t), n.split()[1]) for n, t in first.items() if n.startswith(kind))[1])
        for kind in ("exit", "fixed")
    }
    full = min(best["fixed"], T_CONVERTED) if best["fixed"] in CHUNKS else T_CONVERTED
    spent = take_turns(
        {
            "exit": leaving(best["exit"]), "fixed": in_batches(staying(enough, best["fixed"])),
            "full": in_batches(staying(T_CONVERTED, full)),
        },
        x, None if refill else size, rounds,
    )  # fmt: skip
    one = leaving(best["exit"])
    runs = [one(part) for part in (x.split(batch) if not refill else [x])]
    decided = sum(float(r.steps.double().sum()) for r in runs) / len(x)

    def over(name: str) -> float:
        return median(a / b for a, b in zip(spent[name], spent["exit"], strict=True))

    return {
        "speedup": over("fixed"), "speedup_full": over("full"), "share": over("full") / (T_CONVERTED / decided),
        "computed": sum(r.row_steps for r in runs) / len(x), "chunk": float(best["exit"]),
        "fixed_chunk": float(best["fixed"]), "ms": 1e3 * median(spent["exit"]) / len(x),
    }  # fmt: skip


def _figures(table: Table) -> Sequence[Figure]:
    return bars(table, "speedup"), bars(table, "speedup_full"), bars(table, "computed")


def _arm(name: str, batch: int, mode: str, samples: str, words: str, compiled: bool = False) -> Arm:
    return Arm(name, words, {"batch": batch, "mode": mode, "samples": samples, "compiled": compiled})


CLAIM = Claim(
    name="dynamic_confidence_clock",
    title="Early exit by the clock: faster than fixed steps at equal accuracy, on a CPU",
    system="dynamic_confidence",
    paper=PAPER + "; its demo takes 451 s instead of 1,027 s for 10,000 images, one at a time, on a V100",
    statement="Fewer steps are less time: early exit makes inference more than twice as fast as all steps, for single "
    "images.",
    question="Is it faster than the smallest fixed number of steps that is as accurate (within 0.2 points on held-out "
    "samples), also for batches of 64 and 256, where finished rows have to be dropped or replaced? Both sides have the "
    "first layer computed once (in PyTorch) and the chunk of steps that was fastest on held-out samples; they take "
    "turns batch by batch, so that what else the machine does hits both. Single images run on the engine, fixed steps "
    "too; through PyTorch the way to a layer costs more than the layer, and many steps at once hide it.",
    data="CIFAR-10 averaged to 16 x 16, 6,000 training, 1,000 held-out and 1,024 test images; three convolutions and "
    f"two hidden layers with QCFS activations (L = 4), converted, up to {T_CONVERTED} steps.",
    arms=(
        _arm("batch_1", 1, "latency", "few", "one image at a time, on the compiled net", compiled=True),
        _arm("batch_1_graph", 1, "latency", "few", "one image at a time, through PyTorch"),
        _arm("batch_64", 64, "latency", "many", "batches of 64, finished rows dropped"),
        _arm("batch_256", 256, "latency", "many", "batches of 256, finished rows dropped"),
        _arm("refill_64", 64, "throughput", "many", "64 rows that are kept busy: waiting samples take free places"),
    ),
    metrics=(
        Metric("speedup", "Time of the smallest sufficient fixed steps over that of early exit", digits=2),
        Metric("speedup_full", "Time of all steps over that of early exit", digits=2),
        Metric("share", "That, over all steps / mean steps: 1 when no time is lost", digits=2),
        Metric("gain", "Accuracy above that of the fixed steps", "points", digits=2),
        Metric("mean_steps", "Mean steps decided", higher_is_better=False, digits=2),
        Metric("computed", "Row-steps computed a sample", higher_is_better=False, digits=2),
        Metric("fixed_steps", "Smallest sufficient fixed steps", higher_is_better=None, digits=1),
        Metric("accuracy", "Test accuracy with early exit", "%", digits=2),
        Metric("ms", "Time of early exit", "ms a sample", higher_is_better=False, digits=3),
        Metric("chunk", "Steps computed at once by early exit", higher_is_better=None, digits=1),
        Metric("fixed_chunk", "Steps computed at once by fixed steps", higher_is_better=None, digits=1),
    ),
    rules=(
        *(Bound("speedup", name, at_least=1.3) for name in ("batch_1", "batch_64", "batch_256", "refill_64")),
        Bound("share", "refill_64", at_least=0.8),
        Bound("gain", "batch_1", at_least=-0.5),
        *(Bound("speedup_full", name, at_least=1.3, essential=False) for name in ("batch_1", "batch_64", "batch_256")),
        Bound("speedup", "batch_1_graph", at_least=1.3, essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=10,
            settings={
                "train": 6000, "held_out": 1000, "test": 1024, "epochs": 4, "tried": 512, "few": 64, "many": 512,
                "rounds": 2,
            },
        )
    },
    run=run,
    joint=True,
    figures=_figures,
    comment="Times are ratios within one process on a shared machine; threads as the result says.",
)  # fmt: skip
