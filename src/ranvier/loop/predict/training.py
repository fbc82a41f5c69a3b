"""Logs of drives, and the training of the radial predictor on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ranvier.errors import ArgumentError
from ranvier.loop.control.gap_follow import GapFollow
from ranvier.loop.envs.geometry import BEAMS, SECTORS
from ranvier.loop.envs.lidar_nav import LidarNav2D
from ranvier.loop.predict.persistence import PersistenceMap
from ranvier.loop.predict.radial_mae import frame
from ranvier.loop.predict.radial_net import RadialNet
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensing.policies import View, priority, top
from ranvier.loop.sensors.lidar import LidarBeams
from ranvier.loop.sensors.ring import RingDVS
from ranvier.state import carry

TRAIN_SEED, VALIDATION_SEED = 10_000, 20_000
"""First worlds of the splits; the test worlds are 0 to 199."""


@dataclass(frozen=True)
class Logs:
    """Drives as tensors: frames `[T, N, 7, 120]`, true inverse ranges `[T + 1, N, 120]`, sensed bool `[T, N, 120]`,
    the memory's ranges `[T, N, 120]`."""

    frames: Tensor
    truth: Tensor
    sensed: Tensor
    memory: Tensor

    def __len__(self) -> int:
        return self.frames.shape[1]


def drive(episodes: int, ticks: int = 100, *, seed: int = TRAIN_SEED, noise_seed: int = 0, on_policy: float = 0.5,
          ratio: tuple[float, float] = (0.70, 0.95), windows: int = 2) -> Logs:  # fmt: skip
    """Log `episodes` drives of `ticks` ticks in worlds from `seed` on.

    The agent follows gaps in the true ranges, so that every drive lasts; what the predictor gets to see is masked:
    sectors drawn anew at every tick, or, for a share `on_policy` of the drives, those of the priority policy. Each
    drive has its own mask ratio. A world gives `windows` logs one after the other.
    """
    if episodes < 1 or ticks < 1 or windows < 1:
        raise ArgumentError(f"episodes, ticks and windows must be positive, got {episodes}, {ticks}, {windows}")
    worlds = -(-episodes // windows)
    env = LidarNav2D(worlds, max_ticks=1 << 20)
    env.reset(range(seed, seed + worlds))
    random = Randomness(env.seeds, 1, noise_seed)
    lidar, ring, memory, controller = LidarBeams(), RingDVS(), PersistenceMap(), GapFollow()
    memory.reset(worlds)
    distance, albedo = env.cast()
    ring.reset(distance, albedo, random.normal("ring", BEAMS))
    share = random.uniform("ratio", 2)
    kept = ((1 - ratio[0] - (ratio[1] - ratio[0]) * share[:, 0]) * SECTORS).round().clamp_min(1).long()
    chooses = share[:, 1] < on_policy
    gated = random.uniform("gated", 1)[:, 0] < 0.5
    goal = env.flat(env.goal - env.position)
    heading = torch.atan2(goal[:, 1], goal[:, 0])
    age = torch.full((worlds, SECTORS), 40, dtype=torch.int64)
    collected: tuple[list[Tensor], ...] = ([], [], [], [])
    for tick in range(ticks * windows + 1):
        truth, albedo = env.cast()
        collected[1].append(1 / truth.clamp(0.3, lidar.max_range).float())
        if tick == ticks * windows:
            break
        events = ring.step(truth, albedo)
        position = env.flat(env.position)
        belief = memory.predict(position, tick)
        to_goal = env.flat(env.goal) - position
        bearing, left = torch.atan2(to_goal[:, 1], to_goal[:, 0]), to_goal.norm(dim=-1)
        speed = env.flat(env.velocity).norm(dim=-1)
        ones = torch.ones(worlds, SECTORS, dtype=torch.float64)
        view = View(tick, speed, heading, bearing, belief.ranges, belief.known, None, age, events.on, speed, left, ones,
                    ones)  # fmt: skip
        score = torch.where(chooses[:, None], priority(view), random.uniform("mask", SECTORS))
        sectors = top(score, kept)
        gate = torch.where(gated, (2.2 + 2.2 * speed).clamp(max=lidar.max_range), lidar.max_range)
        scan = lidar.sense(truth, sectors, gate, random.normal("lidar", BEAMS))
        collected[0].append(frame(scan, belief, events))
        collected[2].append(scan.sensed)
        collected[3].append(belief.ranges.float())
        memory.update(scan, events, position)
        age = torch.where(sectors, 0, age + 1)
        command = controller.act(truth.clamp(max=lidar.max_range), bearing, left, heading)
        heading = command.heading
        env.advance([(torch.zeros(worlds, dtype=torch.int64), command.velocity)])
        arrived = env.flat(env.position - env.goal).norm(dim=-1) < 1.0
        if bool(arrived.any()):  # turn back, so that the log goes on
            where = arrived.view(env.num_worlds, 1, 1)
            env.goal = torch.where(where, 20.0 - env.goal, env.goal)
        env.status.zero_()
        env.position = env.position.clamp(env.agent_radius + 0.01, env.size - env.agent_radius - 0.01)
    frames, truth, sensed, remembered = (torch.stack(parts) for parts in collected)

    def cut(t: Tensor, extra: int = 0) -> Tensor:
        return torch.cat([t[i * ticks : (i + 1) * ticks + extra] for i in range(windows)], 1)[:, :episodes]

    return Logs(cut(frames), cut(truth, 1), cut(sensed), cut(remembered))


def loss_of(out: Tensor, truth: Tensor, following: Tensor, sensed: Tensor) -> Tensor:
    """Weight 1 on unsensed and 0.2 on sensed beams: NLL of the inverse range + 0.5 BCE of "within 2 m" + 0.5 NLL of
    the next tick. All `[T, B, ...]`; `out` `[T, B, 4, 120]`."""
    weight = torch.where(sensed, 0.2, 1.0)
    mean, logvar, logit, ahead = out.unbind(2)
    now = 0.5 * ((truth - mean).square() * (-logvar).exp() + logvar)
    later = 0.5 * ((following - ahead).square() * (-logvar).exp() + logvar)
    near = F.binary_cross_entropy_with_logits(logit, (truth > 0.5).to(out.dtype), reduction="none")
    return ((now + 0.5 * near + 0.5 * later) * weight).sum() / weight.sum()


def fit(net: RadialNet, logs: Logs, *, epochs: int = 3, batch: int = 64, lr: float = 2e-3, span: int = 20,
        seed: int = 0, say: Callable[[str], None] | None = None) -> list[float]:  # fmt: skip
    """Train with truncated backpropagation through time (`span` ticks), AdamW, cosine; returns the loss by epoch.

    The mean firing rate above 0.15 costs 1e-3 times itself. The drives of a batch run through from their start with
    the state carried along.
    """
    if epochs < 1 or batch < 1 or span < 1 or not lr > 0:
        raise ArgumentError("epochs, batch, span and lr must be positive")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    ticks = logs.frames.shape[0]
    batches = -(-len(logs) // batch)
    total = epochs * batches * -(-ticks // span)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    history: list[float] = []
    net.train()
    for epoch in range(epochs):
        order = torch.randperm(len(logs), generator=generator)
        summed, count = 0.0, 0
        for rows in order.split(batch):
            with carry(net) as memory:
                for start in range(0, ticks, span):
                    stop = min(start + span, ticks)
                    x = logs.frames[start:stop, rows]
                    out, activity = net.trace(x)  # no hooks needed: every layer is called once a pass
                    loss = loss_of(
                        out, logs.truth[start:stop, rows], logs.truth[start + 1 : stop + 1, rows],
                        logs.sensed[start:stop, rows],
                    )  # fmt: skip
                    if net.kind != "ann":
                        fired = activity if net.kind == "spiking" else activity[:3]
                        rate = torch.stack([layer.mean() for layer in fired])
                        loss = loss + 1e-3 * (rate - 0.15).clamp_min(0).sum()
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    memory.detach()
                    summed, count = summed + float(loss.detach()), count + 1
        history.append(summed / count)
        if say is not None:
            say(f"epoch {epoch + 1}/{epochs}: loss {history[-1]:.4f}")
    net.eval()
    return history


@torch.no_grad()
def evaluate(net: RadialNet, logs: Logs, skip: int = 10) -> dict[str, float]:
    """On unsensed beams: mean absolute error of the inverse range, the memory's own, their ratio, and the AUROC of
    "occupied within 2 m". The first `skip` ticks are left out."""
    from ranvier.loop.trust.auroc import auroc

    net.eval()
    out = net(logs.frames)
    free = ~logs.sensed[skip:]
    truth = logs.truth[skip:-1]
    error = (out[skip:, :, 0].clamp(1 / 8, 1 / 0.3) - truth).abs()[free].mean()
    plain = (1 / logs.memory[skip:].clamp(0.3, 8.0) - truth).abs()[free].mean()
    occupied = (truth > 0.5)[free]
    return {
        "mae": float(error), "memory_mae": float(plain), "ratio": float(error / plain),
        "auroc": auroc(out[skip:, :, 2][free], occupied),
    }  # fmt: skip
