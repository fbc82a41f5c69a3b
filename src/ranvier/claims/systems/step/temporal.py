"""Where only time tells: a bar that sweeps in one of four directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Metric, Order, Outcome, Scale, Trial

if TYPE_CHECKING:
    from torch import Tensor

SIDE, STEPS = 8, 10


def bars(count: int, seed: int, shuffled: bool = False) -> tuple[Tensor, Tensor]:
    """`count` sequences `[10, count, 1, 8, 8]` of a bar that sweeps right, left, down or up, and the direction.

    The bar is cyclic with a random start; pixels are flipped with probability 0.05. Bars of opposite directions show
    the same pictures in another order; `shuffled` puts the steps in random order, the same for no two samples.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (count,), generator=draw)
    start = torch.randint(SIDE, (count,), generator=draw)
    sign = torch.where(y % 2 == 0, 1, -1)
    steps = torch.arange(STEPS).expand(count, -1)
    if shuffled:
        steps = torch.rand(count, STEPS, generator=draw).argsort(1)
    place = (start[:, None] + sign[:, None] * steps) % SIDE  # [count, T]
    line = torch.nn.functional.one_hot(place, SIDE).float()  # [count, T, 8]
    upright = line[:, :, None, :].expand(-1, -1, SIDE, -1)
    flat = line[:, :, :, None].expand(-1, -1, -1, SIDE)
    x = torch.where((y < 2)[:, None, None, None], upright, flat)
    noise = torch.rand(x.shape, generator=draw) < 0.05
    return torch.where(noise, 1 - x, x).transpose(0, 1).unsqueeze(2), y


def run(trial: Trial) -> Outcome:
    """Train one arm on fresh bars; accuracy on ordered ones, and on steps in random order (trained on those, too)."""
    import torch
    import torch.nn.functional as F

    from ranvier.models import create_model

    assert trial.arm is not None
    torch.set_num_threads(1)
    s = trial.settings
    found: dict[str, float] = {}
    for name, shuffled in (("accuracy", False), ("shuffled", True)):
        torch.manual_seed(trial.seed)
        net = create_model(
            "spikformer", in_channels=1, img_size=SIDE, num_classes=4, T=STEPS, embed_dim=32, depth=1, num_heads=2,
            pools="0001", mlp_ratio=2.0, stem="conv1", **trial.arm.settings,
        ).train()  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), s["lr"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s["lr"], total_steps=s["steps"])
        for step in range(s["steps"]):
            x, y = bars(64, 1_000_000 * (trial.seed + 1) + step, shuffled)
            loss = F.cross_entropy(net(x).mean(0), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        x, y = bars(1000, trial.seed, shuffled)
        with torch.no_grad():
            found[name] = 100 * float((net(x).mean(0).argmax(-1) == y).float().mean())
    return Outcome(found)


MEMORYLESS = {"neuron": {"type": "lif", "tau": 1.0}}

TEMPORAL = Claim(
    name="step_temporal",
    title="Temporal attention helps where only time tells",
    system="step",
    paper="S. Shen et al. (2024), TIM, IJCAI 2024; D. Lee et al. (2025), Spiking Transformer with Spatial-Temporal "
    "Attention, CVPR 2025",
    statement="Carrying queries from step to step (TIM), or attending over blocks of steps (STAtten), lets a spiking "
    "transformer use time that the attention within a step cannot see.",
    question="Neurons remember as well. On a task that pictures alone cannot solve (a bar sweeps one way or the "
    "other), "
    "what do the two add to the memory of the LIF neurons, and what is left without that memory (τ = 1)? With the "
    "steps "
    "in random order nothing but the orientation of the bar can be told.",
    data="Generated: time must be all that matters. Fresh samples at every step, 1,000 for the test; 8 x 8 pixels, ten "
    "steps, four directions.",
    arms=(
        Arm("lif", "attention within a step, LIF", {}),
        Arm("tim", "TIM, LIF", {"attention": "tim"}),
        Arm("statten", "STAtten, chunks of 5 steps, LIF",
            {"attention": "statten", "attention_options": {"chunk": 5, "scale": 0.025}}),
        Arm("memoryless", "attention within a step, neurons without memory", MEMORYLESS),
        Arm("memoryless_tim", "TIM, neurons without memory", {"attention": "tim", **MEMORYLESS}),
        Arm("memoryless_statten", "STAtten, neurons without memory",
            {"attention": "statten", "attention_options": {"chunk": 5, "scale": 0.025}, **MEMORYLESS}),
    ),
    metrics=(
        Metric("accuracy", "Accuracy", "%", digits=1),
        Metric("shuffled", "Accuracy with the steps in random order", "%", None, digits=1),
    ),
    rules=(
        Order("accuracy", ("lif", "tim")),
        Order("accuracy", ("lif", "statten")),
        Order("accuracy", ("memoryless", "lif"), margin=5, essential=False),
        Order("accuracy", ("memoryless", "memoryless_tim"), margin=5, essential=False),
        Order("accuracy", ("memoryless", "memoryless_statten"), margin=5, essential=False),
        Bound("accuracy", "memoryless", at_most=55, essential=False),
        Bound("shuffled", "lif", at_most=55, essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=6, settings={"steps": 200, "lr": 4e-3})},
    run=run,
    comment="Orientation alone gives 50 %. The product of STAtten grows with its chunk, so its scale is a fifth of "
    "that "
    "of plain attention.",
)  # fmt: skip
