"""Images row by row: time as the sequence, STEP's repeated presentation, and a GRU of equal size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.systems.step.mini import PAPER

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS: dict[str, Any] = {"img_size": (1, 28), "pools": "0011", "embed_dim": 48, "depth": 1, "num_heads": 4, "T": 28}
WHOLE: dict[str, Any] = {"img_size": (1, 784), "pools": "1111", "embed_dim": 48, "depth": 1, "num_heads": 4, "T": 4}


def _net(settings: dict[str, Any]) -> tuple[nn.Module, str]:
    """The arm's net, and the form in which it takes an image: "rows" in time, or "whole" at every step."""
    import torch
    from torch import nn

    from ranvier.models import create_model

    class Rows(nn.Module):
        """A GRU over the rows; per-step logits."""

        def __init__(self, hidden: int) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(28, hidden), nn.Linear(hidden, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x.flatten(2))[0])

    given = dict(settings)
    if (hidden := given.pop("gru", None)) is not None:
        return Rows(hidden), "rows"
    form = given.pop("form", "rows")
    base: dict[str, Any] = ROWS if form == "rows" else WHOLE
    net = create_model("spikformer", in_channels=1, num_classes=10, **{**base, **given})
    assert isinstance(net, torch.nn.Module)
    return net, form


def _shaped(x: Tensor, form: str) -> Tensor:
    """Images `[B, 1, 28, 28]` as `[28, B, 1, 1, 28]`, or flattened to `[B, 1, 1, 784]`."""
    return x.permute(2, 0, 1, 3).unsqueeze(3) if form == "rows" else x.flatten(2).unsqueeze(2)


def run(trial: Trial) -> Outcome:
    """Train one arm on a part of MNIST; accuracy from the mean over all steps, and from the last step alone."""
    import torch
    import torch.nn.functional as F

    from ranvier.data import load
    from ranvier.data.order import permutation

    assert trial.arm is not None
    torch.set_num_threads(1)
    s = trial.settings
    images = load("mnist", train_size=s["train"], test_size=s["test"])
    torch.manual_seed(trial.seed)
    net, form = _net(dict(trial.arm.settings))
    batch = 64
    optimizer = torch.optim.AdamW(net.parameters(), s["lr"], weight_decay=0.01)
    steps = s["epochs"] * (len(images.train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s["lr"], total_steps=steps)
    net.train()
    for epoch in range(s["epochs"]):
        order = torch.from_numpy(permutation(len(images.train), trial.seed, epoch))
        for rows in order[: len(order) // batch * batch].view(-1, batch).tolist():
            x, y = images.train.batch(rows)
            loss = F.cross_entropy(net(_shaped(x, form)).mean(0), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    net.eval()
    right, last, seen = 0, 0, 0
    with torch.no_grad():
        for start in range(0, len(images.test), 250):
            x, y = images.test.batch(range(start, min(start + 250, len(images.test))))
            logits = net(_shaped(x, form))
            right += int((logits.mean(0).argmax(-1) == y).sum())
            last += int((logits[-1].argmax(-1) == y).sum())
            seen += len(y)
    params = sum(p.numel() for p in net.parameters())
    return Outcome({"accuracy": 100 * right / seen, "last": 100 * last / seen, "params": params / 1000})


SEQUENCES = Claim(
    name="step_sequences",
    title="Spiking transformers are weaker on serialised images",
    system="step",
    paper=PAPER + ", table of sequential tasks",
    statement="On serialised images spiking transformers stay behind a conventional net of the same shape: 98.8 "
    "against "
    "99.2 % on sequential MNIST.",
    question="The published protocol shows the whole sequence at every one of four steps, so nothing is processed in "
    "time. Here the rows of an image come one a step, and the same blocks are compared with that protocol and with a "
    "GRU of as many parameters; a memoryless neuron (τ = 1) tells what the memory of the LIF neurons is worth.",
    data="MNIST, 3,000 training and 2,000 test images, three epochs, 28 steps of one row or 784 pixels four times.",
    arms=(
        Arm("gru", "GRU over the rows, 130 units", {"gru": 130}),
        Arm("rows", "Spikformer, one row a step", {}),
        Arm("rows_tim", "Spikformer with TIM, one row a step", {"attention": "tim"}),
        Arm("rows_memoryless", "one row a step, neurons without memory", {"neuron": {"type": "lif", "tau": 1.0}}),
        Arm("whole", "Spikformer, all 784 pixels at each of 4 steps (as published)", {"form": "whole"}),
    ),
    metrics=(
        Metric("accuracy", "Test accuracy, mean over the steps", "%", digits=1),
        Metric("last", "Test accuracy, last step alone", "%", digits=1),
        Metric("params", "Parameters", "thousand", None, digits=0),
    ),
    rules=(
        Order("accuracy", ("whole", "gru")),
        Order("accuracy", ("rows", "gru")),
        Order("accuracy", ("rows_memoryless", "rows"), essential=False),
        Order("accuracy", ("rows", "rows_tim"), essential=False),
        Order("last", ("rows_memoryless", "rows"), essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=10, settings={"train": 3000, "test": 2000, "epochs": 3, "lr": 4e-3}
        ),
        "full": Scale(
            seeds=(0, 1, 2), minutes=900, settings={"train": 60_000, "test": 10_000, "epochs": 20, "lr": 4e-3},
            note="all of MNIST; meant for a GPU",
        ),
    },
    run=run,
)  # fmt: skip
