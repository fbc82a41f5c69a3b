"""Early exit on events: the decision before the recording ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.figure import bars, curves
from ranvier.claims.systems.dynamic_confidence import PAPER

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.claims.table import Table

WINDOW_US, WINDOWS = 30_000, 10  # recordings last about 300 ms
HELD_OUT = 250


def frames(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Frames of fixed windows `[T, N, 2, 34, 34]` and labels; windows do not depend on where a recording ends."""
    import torch

    from ranvier.data import load, to_frames
    from ranvier.data.sets.nmnist import RecordingSamples

    bundle = load("nmnist", in_memory=False)
    part = bundle.train if split == "train" else bundle.test
    assert isinstance(part, RecordingSamples)
    chosen = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:count].tolist()
    made: list[Tensor] = []
    for index in chosen:
        events = part.events(index)
        start = int(events.t[0])
        made.append(to_frames(events, WINDOWS, (34, 34), window=(start, start + WINDOWS * WINDOW_US), values="binary"))
    return torch.stack(made, 1), part.labels[chosen]


def run(trial: Trial) -> Mapping[str, Outcome]:
    """Train on frames, calibrate on held-out recordings, decide on the test recordings."""
    import torch

    from ranvier.claims import exit_study
    from ranvier.infer import early_exit as room
    from ranvier.models import create_model
    from ranvier.train import tet

    x, y = frames("train", trial.settings["train"] + HELD_OUT)
    test_x, test_y = frames("test", trial.settings["test"])
    held_x, held_y, x, y = x[:, :HELD_OUT], y[:HELD_OUT], x[:, HELD_OUT:], y[HELD_OUT:]
    net = create_model(
        "spiking_conv_net", in_channels=2, img_size=34, T=WINDOWS, channels=(8, 16), hidden=64, neuron="lif"
    )
    updates = trial.settings["epochs"] * -(-len(y) // 32)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, updates)
    for _ in range(trial.settings["epochs"]):
        for part in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            tet(net(x[:, part]), y[part], lam=1e-3).backward()
            optimizer.step()
            schedule.step()

    def logits(of: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.arange(len(labels)).split(32)
        return room.record(net, ((of[:, part], labels[part]) for part in parts))

    held, test = logits(held_x, held_y), logits(test_x, test_y)
    fixed = [100 * share for share in room.fixed_steps(*test)]
    enough = exit_study.sufficient(*held)
    points = {"full": (fixed[-1], float(WINDOWS)), "fixed": (fixed[enough - 1], float(enough))}
    for name in ("confidence", "entropy"):
        found = room.evaluate_exit(*test, exit_study.chosen(name, *held))
        points[name] = 100 * found.accuracy, found.mean_steps
        if name == "confidence":
            draws = [room.evaluate_exit(*test, room.RandomLike(found.histogram, draw)) for draw in range(5)]
            points["random"] = sum(100 * d.accuracy for d in draws) / 5, sum(d.mean_steps for d in draws) / 5
    milliseconds = WINDOW_US / 1000
    return {
        name: Outcome(
            {"accuracy": right, "ms": steps * milliseconds, "lost": fixed[-1] - right},
            curves={"accuracy": [((t + 1) * milliseconds, share) for t, share in enumerate(fixed)]}
            if name == "full" else {},
        )
        for name, (right, steps) in points.items()
    }  # fmt: skip


def _figures(table: Table) -> Sequence[Figure]:
    return (
        curves(table, "accuracy", "Accuracy when every recording is cut off", "ms seen", "test accuracy, %"),
        bars(table, "ms"),
        bars(table, "accuracy"),
    )


CLAIM = Claim(
    name="dynamic_confidence_events",
    title="Early exit on events: decided before the recording ends",
    system="dynamic_confidence",
    paper=PAPER + "; the paper has static images only, the comparison with time is ours",
    statement="Stopping once the accumulated output is confident saves about 40 % of the steps at equal accuracy.",
    question="For a recording of an event camera, time saved is events that never have to be seen. How much of a "
    "recording is needed at the accuracy of all of it, when the threshold is chosen on held-out recordings?",
    data="N-MNIST, 750 training, 250 held-out and 100 test recordings of about 300 ms, cut into windows of 30 ms; two "
    "spiking convolutions and a hidden layer, trained with TET.",
    arms=(
        Arm("full", "300 ms of every recording"),
        Arm("fixed", "the smallest fixed time within 0.2 points of all, on held-out recordings"),
        Arm("confidence", "Dynamic Confidence, calibrated on held-out recordings"),
        Arm("entropy", "entropy, calibrated likewise"),
        Arm("random", "control: random times with the histogram of Dynamic Confidence"),
    ),
    metrics=(
        Metric("accuracy", "Test accuracy", "%", digits=1),
        Metric("ms", "Mean time seen", "ms", higher_is_better=False, digits=0),
        Metric("lost", "Accuracy lost against all of the recording", "points", higher_is_better=False, digits=1),
    ),
    rules=(
        Bound("ms", "confidence", at_most=180),
        Bound("lost", "confidence", at_most=1.5),
        Order("accuracy", ("random", "confidence")),
        Order("ms", ("confidence", "fixed"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=8, settings={"train": 750, "test": 100, "epochs": 8})},
    run=run,
    joint=True,
    figures=_figures,
    comment="100 test recordings resolve one point of accuracy at best.",
)
