"""Do images help a spiking net to read events? MNIST and N-MNIST with few recordings, cross-validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Figure, Metric, Order, Outcome, Scale, Trial, bars, curves

if TYPE_CHECKING:
    from ranvier.claims import Table

PAPER = (
    "X. He et al. (2024), An Efficient Knowledge Transfer Strategy for Spiking Neural Networks from Static to Event "
    "Domain, AAAI 2024"
)
FOLDS = 4
QUICK: dict[str, Any] = {
    "T": 4, "steps": 100, "batch": 20, "lr": 4e-3, "widths": [8, 16, 16], "pools": [0, 1, 2], "images": 6000,
}  # fmt: skip
FULL: dict[str, Any] = {
    "T": 10, "steps": 3000, "batch": 50, "lr": 2e-3, "widths": [32, 64, 128, 128], "pools": [0, 1, 3], "images": None,
}  # fmt: skip
NOTHING = {"coefficient": 0.0, "sliding": "none", "temporal": "none"}


def trained(settings: Mapping[str, Any], seed: int, count: int, arm: Mapping[str, Any]) -> float:
    """Test accuracy in percent on fold `seed` of all recordings, after training on `count` of the others."""
    from ranvier.train import fit, parse_recipe

    s = settings
    steps = s["steps"] * arm.get("longer", 1)

    def recipe(data: Mapping[str, Any], samples: int, **train: Any) -> Any:
        epochs = -(-steps // max(1, samples // s["batch"]))
        return parse_recipe({
            "name": "claim", "seed": seed,
            "data": {"validation": 0, "batch_size": s["batch"], "eval_batch_size": 100, **data},
            "model": {"name": "vgg_snn", "args": {"widths": s["widths"], "pools": s["pools"]}},
            "train": {
                "epochs": epochs, "max_steps": steps, "lr": s["lr"], "weight_decay": 0.01, "schedule": "onecycle",
                "loss": "tet", "tet_lambda": 1e-3, "tet_target": 0.5, "clip_norm": 1.0, "accelerator": "cpu",
                "checkpoint_epochs": 0, **train,
            },
        })  # fmt: skip

    events = {
        "name": "nmnist", "options": {"T": s["T"], "values": "count"}, "fold": [seed % FOLDS, FOLDS],
        "limit_train": count,
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        train: dict[str, Any] = {}
        if "transfer" in arm:
            train["transfer"] = {"data": "mnist", **arm["transfer"]}
        if arm.get("pretrain"):
            still = {"of": "mnist", "T": s["T"], "size": 34}
            images = {"name": "still_frames", "options": still, "limit_train": s["images"], "limit_test": 100}
            before = Path(folder) / "images"
            fit(recipe(images, s["images"] or 60_000), before, progress=False)
            train["start"] = str(before)
        result = fit(recipe(events, count, **train), Path(folder) / "events", progress=False)
    assert result.test.accuracy is not None
    return 100 * result.test.accuracy


def run_counts(trial: Trial) -> Outcome:
    """One arm with every number of recordings."""
    assert trial.arm is not None
    found = {n: trained(trial.settings, trial.seed, n, trial.arm.settings) for n in COUNTS}
    return Outcome({f"n{n}": value for n, value in found.items()}, curves={"accuracy": list(found.items())})


def run_parts(trial: Trial) -> Outcome:
    """One arm with 100 recordings."""
    assert trial.arm is not None
    return Outcome({"accuracy": trained(trial.settings, trial.seed, 100, trial.arm.settings)})


COUNTS = (50, 100, 300, 800)
DATA = (
    "The 1,100 recordings of N-MNIST that have their images in MNIST, in four folds: each seed tests on another fold "
    "of 275, so that every recording is tested once. Beside them MNIST's training images, without those of the test "
    "fold. Nothing is selected: the last weights count."
)
EVENTS = Arm("events", "recordings alone", {})
FULL_METHOD = Arm("transfer", "the whole method", {"transfer": {}})
SHUFFLED = Arm("shuffled", "the whole method, images of another class", {"transfer": {"pairing": "shuffled"}})


def _count_figures(table: Table) -> Sequence[Figure]:
    title, x, y = "Accuracy by the number of recordings", "recordings to learn from", "test accuracy, %"
    return (curves(table, "accuracy", title, x, y, log_x=True),)


COUNT_CLAIM = Claim(
    name="transfer_few_recordings",
    title="Images help where recordings are few",
    system="static_to_event",
    paper=PAPER + ", main table and the figure over the amount of event data",
    statement="Training one net on images and recordings together, aligned and with the images replaced step by step, "
    "gains 13 points on N-Caltech101 over recordings alone and 14 with a tenth of them, while fine-tuning a net "
    "trained on images gains nothing.",
    question="On another pair, without test images in the static set, with all arms at the same number of updates: "
    "does it help, does fine-tuning really not, and is it the classes of the images that help?",
    data=DATA,
    arms=(
        EVENTS,
        Arm("fine_tune", "trained on images, then on recordings (twice the updates)", {"pretrain": True}),
        FULL_METHOD,
        SHUFFLED,
    ),
    metrics=tuple(Metric(f"n{n}", f"Test accuracy with {n} recordings", "%", digits=1) for n in COUNTS),
    rules=(
        Order("n50", ("events", "transfer"), margin=2),
        Order("n100", ("events", "transfer"), margin=2),
        Order("n100", ("fine_tune", "transfer")),
        Order("n100", ("shuffled", "transfer")),
        Order("n300", ("events", "transfer"), essential=False),
        Order("n800", ("events", "transfer"), essential=False),
        Order("n50", ("fine_tune", "transfer"), essential=False),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2, 3), minutes=11, settings=QUICK, note="three convolutions, 100 updates"),
        "full": Scale(seeds=(0, 1, 2, 3), minutes=1500, settings=FULL, note="four convolutions, 3,000 updates"),
    },
    run=run_counts,
    figures=_count_figures,
    comment="An update of the transfer arms makes two passes, one a domain. Fine-tuning has as many updates on images "
    "before as on recordings afterwards.",
)  # fmt: skip


def _part_figures(table: Table) -> Sequence[Figure]:
    return (bars(table, "accuracy"),)


def _part(name: str, description: str, **transfer: Any) -> Arm:
    return Arm(name, description, {"transfer": transfer})


PART_CLAIM = Claim(
    name="transfer_parts",
    title="Which part of the transfer helps",
    system="static_to_event",
    paper=PAPER + ", ablations of the coefficients and of the sliding training",
    statement="Sliding replacement, alignment and learned coefficients each add to the accuracy: on N-Caltech101, "
    "learned coefficients give 92.6 %, fixed ones 84.1 to 89.4 %.",
    question="With 100 recordings of N-MNIST, every part taken out by itself, and two controls: twice the updates "
    "without any image, and images of wrong classes.",
    data=DATA,
    arms=(
        EVENTS,
        Arm("events_longer", "recordings alone, twice the updates", {"longer": 2}),
        FULL_METHOD,
        SHUFFLED,
        _part("joint", "both domains, without alignment, sliding and coefficients", **NOTHING),
        _part("no_alignment", "without alignment", coefficient=0.0, temporal="none"),
        _part("no_sliding", "images are never replaced", sliding="none"),
        _part("switch", "images until half of the training, then recordings", sliding="switch"),
        _part("fixed_0", "coefficients fixed at 0", temporal="fixed", temporal_value=0.0),
        _part("fixed_half", "coefficients fixed at 1/2", temporal="fixed", temporal_value=0.5),
        _part("debiased", "the unbiased estimate of the alignment", debiased=True),
    ),
    metrics=(Metric("accuracy", "Test accuracy with 100 recordings", "%", digits=1),),
    rules=(
        Order("accuracy", ("events_longer", "transfer"), margin=2),
        Order("accuracy", ("shuffled", "transfer")),
        Order("accuracy", ("no_alignment", "transfer")),
        Order("accuracy", ("no_sliding", "transfer")),
        Order("accuracy", ("fixed_0", "transfer")),
        Order("accuracy", ("switch", "transfer"), essential=False),
        Order("accuracy", ("fixed_half", "transfer"), essential=False),
        Order("accuracy", ("joint", "transfer"), essential=False),
        Order("accuracy", ("transfer", "debiased"), essential=False),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2, 3), minutes=9, settings=QUICK, note="three convolutions, 100 updates"),
        "full": Scale(seeds=(0, 1, 2, 3), minutes=700, settings=FULL, note="four convolutions, 3,000 updates"),
    },
    run=run_parts,
    figures=_part_figures,
)  # fmt: skip

CLAIMS = (COUNT_CLAIM, PART_CLAIM)
