"""Average pool, max-pool and convolution as token mixers, with the controls of Max-Former's claim; gratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Figure, Metric, Order, Outcome, Scale, Trial
from ranvier.claims.figure import bars

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.claims.table import Table

PAPER = "Y. Fang et al. (2025), Spiking Neural Networks Need High-Frequency Information, NeurIPS 2025"
NET = {"embed_dim": 64, "depths": [1, 1, 1], "mlp_ratio": 2.0, "num_heads": 2, "T": 2}
RELU: dict[str, Any] = {"neuron": "relu", "attn_threshold": None, "T": 1}
ORIG, MAX = ["orig", "orig", "orig"], ["orig", "max", "max"]


def run(trial: Trial) -> Outcome:
    """Train one arm; how much of the energy of its last feature map lies at high spatial frequencies."""
    from ranvier.claims.small_cifar import percent, recipe, trained
    from ranvier.measure.spectrum import high_frequency_ratio

    assert trial.arm is not None
    arguments = {**NET, **trial.arm.settings}
    with trained(recipe("max_former_cifar", arguments, trial.settings, trial.seed)) as (net, result, test):
        x, _ = test.batch(range(250))
        maps: list[Tensor] = []
        handle = net.get_submodule("backbone").register_forward_hook(lambda _m, _i, out: maps.append(out.detach()))
        net(x)
        handle.remove()
    return Outcome(
        {"accuracy": percent(result), "high": 100 * high_frequency_ratio(maps[0])}
    )  # fmt: skip


def _figures(table: Table) -> Sequence[Figure]:
    return (bars(table, "accuracy"), bars(table, "high"))


def _arm(name: str, description: str, mixer: str, embeds: list[str], **more: Any) -> Arm:
    return Arm(name, description, {"embeds": embeds, "mixers": [mixer] * 3, **more})


MIXERS = Claim(
    name="max_former_mixers",
    title="Max-pooling beats averaging as a token mixer, in spiking nets and in others",
    system="max_former",
    paper=PAPER + ", figure 1 and the ablation on CIFAR-100",
    statement="Spiking neurons lose high frequencies, so that spiking transformers, unlike conventional ones, want "
    "mixers that keep them: max-pooling instead of averaging gains 2.4 points on CIFAR-100.",
    question="Is it the spiking neuron? The paper's grid has neither a shortcut around the pools, which in the "
    "conventional PoolFormer is always there, nor a net with ReLU. Both are here.",
    data="CIFAR-10 averaged to 16 x 16, 3,840 training and 2,000 test images; three stages of one block, up to width "
    "64; LIF with two steps, or ReLU.",
    arms=(
        _arm("avg", "average pool, no shortcut", "avg", ORIG),
        _arm("max", "max-pool, no shortcut", "max", ORIG),
        _arm("id", "no mixer", "id", ORIG),
        _arm("avg_shortcut", "average pool with a shortcut", "avg+", ORIG),
        _arm("max_shortcut", "max-pool with a shortcut", "max+", ORIG),
        _arm("max_embed", "no mixer, max-pools in the embeddings", "id", MAX),
        _arm("relu_avg", "ReLU: average pool, no shortcut", "avg", ORIG, **RELU),
        _arm("relu_max", "ReLU: max-pool, no shortcut", "max", ORIG, **RELU),
        _arm("relu_id", "ReLU: no mixer", "id", ORIG, **RELU),
        _arm("relu_max_embed", "ReLU: no mixer, max-pools in the embeddings", "id", MAX, **RELU),
    ),
    metrics=(
        Metric("accuracy", "Test accuracy", "%", digits=1),
        Metric("high", "Energy at high spatial frequencies, last feature map", "%", None, digits=1),
    ),
    rules=(
        Order("accuracy", ("avg", "max"), margin=2),
        Order("accuracy", ("id", "max_embed"), margin=2),
        Order("high", ("avg", "max")),
        Order("accuracy", ("avg_shortcut", "max_shortcut"), margin=2, essential=False),
        Order("accuracy", ("relu_avg", "relu_max"), margin=2, essential=False),
        Order("accuracy", ("relu_id", "relu_max_embed"), margin=2, essential=False),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2), minutes=10),
        "full": Scale(
            seeds=(0, 1, 2), minutes=900, settings={"train": 50_000, "test": 10_000, "epochs": 20},
            note="all of CIFAR-10 at 16 x 16",
        ),
    },
    run=run,
    figures=_figures,
    comment="The essential rules are the paper's observations. Whether they speak about *spiking* nets is decided by "
    "the three others: where they hold too, max-pooling helps or an average without a shortcut hurts, in any net.",
)  # fmt: skip

ORIENTATIONS, LOW, HIGH = 4, 2, 7


def gratings(count: int, seed: int, size: int = 16, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """`count` gratings `[1, 16, 16]` in [0, 1] of 4 orientations and 2 or 7 periods a side, random phase, with noise.

    Classes 0 to 3 have the low frequency, 4 to 7 the high one.
    """
    import math

    import torch

    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(2 * ORIENTATIONS, (count,), generator=draw)
    angle = (y % ORIENTATIONS) * math.pi / ORIENTATIONS
    periods = torch.where(y < ORIENTATIONS, LOW, HIGH).float()
    phase = 2 * math.pi * torch.rand(count, generator=draw)
    axis = torch.arange(size) / size
    along = angle.cos()[:, None, None] * axis + angle.sin()[:, None, None] * axis[:, None]
    wave = torch.cos(2 * math.pi * periods[:, None, None] * along + phase[:, None, None])
    x = 0.5 + 0.2 * wave + 0.2 * noise * torch.randn(count, size, size, generator=draw)
    return x.clamp(0, 1)[:, None], y


def run_gratings(trial: Trial) -> Outcome:
    """Train one arm on fresh gratings; accuracy on the low and on the high half of the classes."""
    import torch
    import torch.nn.functional as F

    from ranvier.models import create_model

    assert trial.arm is not None
    s = trial.settings
    torch.manual_seed(trial.seed)
    net = create_model(
        "max_former_cifar", in_channels=1, img_size=16, num_classes=8, T=2, embed_dim=16, embeds=["orig"],
        depths=[2], num_heads=2, mlp_ratio=2.0, **trial.arm.settings,
    ).train()  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), s["lr"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s["lr"], total_steps=s["steps"])
    for step in range(s["steps"]):
        x, y = gratings(64, seed=1_000_000 * (trial.seed + 1) + step)
        loss = F.cross_entropy(net(x).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    x, y = gratings(1000, seed=trial.seed)
    with torch.no_grad():
        right = (net(x).mean(0).argmax(-1) == y).float()
    low = y < ORIENTATIONS
    return Outcome(
        {"low": 100 * float(right[low].mean()), "high": 100 * float(right[~low].mean())}
    )  # fmt: skip


GRATINGS = Claim(
    name="max_former_gratings",
    title="An average as the only mixer loses fine gratings",
    system="max_former",
    paper=PAPER + ", the section on spatial frequencies",
    statement="An average pool is a low-pass filter in space, so that a net that mixes with nothing else loses what is "
    "fine; a max-pool or a depth-wise convolution keeps it.",
    question="On a task whose answer is known: four orientations of coarse (2 periods) and fine (7 periods) gratings "
    "with random phase in noise, where no embedding shrinks the image.",
    data="Generated: the frequency that matters must be known. Fresh samples at every step, 1,000 for the test.",
    arms=(
        Arm("avg", "average pool, no shortcut", {"mixers": ["avg"]}),
        Arm("avg_shortcut", "average pool with a shortcut", {"mixers": ["avg+"]}),
        Arm("max", "max-pool, no shortcut", {"mixers": ["max"]}),
        Arm("dwc3", "depth-wise convolution 3x3", {"mixers": ["dwc3"]}),
        Arm("id", "no mixer", {"mixers": ["id"]}),
    ),
    metrics=(
        Metric("high", "Accuracy on fine gratings", "%", digits=1),
        Metric("low", "Accuracy on coarse gratings", "%", digits=1),
    ),
    rules=(
        Order("high", ("avg", "max"), margin=2),
        Order("high", ("avg", "dwc3"), margin=2),
        Order("high", ("avg", "id"), essential=False),
        Order("high", ("avg", "avg_shortcut"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=3, settings={"steps": 120, "lr": 4e-3})},
    run=run_gratings,
)  # fmt: skip

CLAIMS = (MIXERS, GRATINGS)
