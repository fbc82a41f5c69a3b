"""Actions as events: real images moved along eight paths before a simulated event camera."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

PATHS = (
    "circle clockwise", "circle counter-clockwise", "horizontal", "vertical", "diagonal up", "diagonal down",
    "eight", "eight backwards",
)  # fmt: skip
SENSOR = 64


def action_clouds(
    images: Tensor, seed: int, points: int, noise: float = 0.2, frames: int = 32
) -> tuple[Tensor, Tensor]:
    """Clouds `[n, points, 3]` and paths of images `[n, 28, 28]` in [0, 1] that move on a 64 x 64 sensor.

    A pixel emits an event when the logarithm of its brightness has changed by 0.3 since the frame before; the events of
    a frame are spread evenly over its time. Phase, centre, radius (6 to 12 pixels) and 1 to 1.6 rounds are random; a
    share of `noise` of the points is uniform. Two pairs of paths differ in nothing but the direction of time.
    """
    import torch

    from ranvier.data.events import Events, to_cloud

    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(images)) % len(PATHS)
    clouds: list[Tensor] = []
    span = torch.linspace(0, 1, frames + 1)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        phase, rounds, radius, cx, cy = torch.rand(5, generator=g).tolist()
        angle = 2 * math.pi * (phase + (1 + 0.6 * rounds) * span)
        dx, dy = _path(label, angle)
        reach = 6 + 6 * radius
        left = (18 + 8 * (cx - 0.5) + reach * dx).round().long()
        top = (18 + 8 * (cy - 0.5) + reach * dy).round().long()
        before = torch.zeros(0)
        t, x, y = [], [], []
        log = (image + 0.1).log()
        for frame in range(frames + 1):
            sight = torch.full((SENSOR, SENSOR), math.log(0.1))
            sight[top[frame] : top[frame] + 28, left[frame] : left[frame] + 28] = log
            if frame:
                row, column = ((sight - before).abs() > 0.3).nonzero().unbind(1)
                t.append(((frame - 1 + torch.rand(len(row), generator=g)) * 30_000).long())
                x.append(column)
                y.append(row)
            before = sight
        times, order = torch.cat(t).sort()
        stream = Events(
            times.numpy(),
            torch.cat(x)[order].numpy(),
            torch.cat(y)[order].numpy(),
            torch.zeros(len(times)).byte().numpy(),
        )
        cloud = to_cloud(stream, points, (SENSOR, SENSOR), torch.Generator().manual_seed(seed * 100_003 + number))
        stray = torch.rand(points, generator=g) < noise
        cloud[stray] = torch.rand(int(stray.sum()), 3, generator=g)
        clouds.append(cloud)
    return torch.stack(clouds), labels


def _path(label: int, angle: Tensor) -> tuple[Tensor, Tensor]:
    sin, cos = angle.sin(), angle.cos()
    if label in (0, 1):
        return cos, sin if label == 0 else -sin
    if label in (6, 7):
        return sin if label == 6 else -sin, (2 * angle).sin()
    return ((sin, 0 * sin), (0 * sin, sin), (sin, -sin), (sin, sin))[label - 2]


def mirrored_pairs_right(predictions: Tensor, labels: Tensor) -> float:
    """Percent right among the clouds of the four paths that have a twin in reversed time."""
    twin = (labels < 2) | (labels > 5)
    return 100 * float((predictions[twin] == labels[twin]).float().mean())


def train_votes(net: nn.Module, x: Tensor, y: Tensor, steps: int, batch: int, lr: float, seed: int) -> None:
    """Adam, cosine to 0, squared error of the votes at every step; the last weights are the result."""
    import torch

    from ranvier.data.order import permutation
    from ranvier.train.loss import spike_mse

    optimizer = torch.optim.Adam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    done = 0
    while done < steps:
        order = torch.from_numpy(permutation(len(x), seed, done))
        for rows in order[: len(order) // batch * batch].view(-1, batch)[: steps - done]:
            loss = spike_mse(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
    net.eval()


def decisions(net: nn.Module, x: Tensor, batch: int = 50) -> Tensor:
    """The class with most votes over all steps, for every cloud."""
    import torch

    with torch.no_grad():
        return torch.cat([net(part).mean(0).argmax(1) for part in x.split(batch)])


def small_spikepoint(settings: dict[str, Any], points: int, classes: int, T: int) -> nn.Module:
    """Widths 16 to 128, by default 24 groups of 8 neighbours: 44 thousand parameters for eight classes."""
    from ranvier.models import create_model

    given: dict[str, Any] = {"widths": (16, 32, 64, 128), "num_groups": 24, "k": 8, **settings}
    return create_model("spikepoint_small", num_points=points, num_classes=classes, T=T, **given)
