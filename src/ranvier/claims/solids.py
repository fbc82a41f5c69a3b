"""Solids of ten kinds as clouds of surface points, and the small voxel nets and trainings of the E-3DSNN claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.models.e3dsnn import E3DSNNClassifier

KINDS = (
    "sphere", "box", "open cylinder", "cone", "torus", "double pyramid", "helix", "crossed planes", "wavy sheet",
    "hourglass",
)  # fmt: skip


def solids(count: int, seed: int, points: int, noise: float, outliers: float) -> tuple[Tensor, Tensor]:
    """Clouds `[count, points, 3]` in the unit sphere and their kinds: scaled, turned, tilted, noisy, with outliers."""
    import torch

    from ranvier.data.points import normalise_to_sphere

    g = torch.Generator().manual_seed(seed)
    clouds: list[Tensor] = []
    labels = torch.arange(count) % len(KINDS)
    for label in labels.tolist():
        u, v, w = torch.rand(3, points, generator=g)
        cloud = _surface(KINDS[label], u, v, w) * (0.7 + 0.6 * torch.rand(3, generator=g))
        turn, tilt = torch.rand(2, generator=g) * torch.tensor([2 * math.pi, 0.8]) - torch.tensor([0.0, 0.4])
        cloud = cloud @ _rotation(2, float(turn)) @ _rotation(0, float(tilt))
        cloud = normalise_to_sphere(cloud) + noise * torch.randn(points, 3, generator=g)
        stray = torch.rand(points, generator=g) < outliers
        cloud[stray] = torch.rand(int(stray.sum()), 3, generator=g) * 2 - 1
        clouds.append(normalise_to_sphere(cloud))
    return torch.stack(clouds), labels


def _surface(kind: str, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    import torch

    a, z = 2 * math.pi * u, 2 * v - 1
    one = torch.ones_like(u)
    if kind == "sphere":
        r = (1 - z * z).sqrt()
        return torch.stack([r * a.cos(), r * a.sin(), z], 1)
    if kind == "box":
        face = (w * 6).long().clamp_max(5)
        p = torch.stack([2 * u - 1, 2 * v - 1, one], 1) * torch.where(face < 3, 1.0, -1.0)[:, None]
        return torch.stack([torch.roll(row, int(f) % 3) for row, f in zip(p, face, strict=True)])
    if kind == "torus":
        b = 2 * math.pi * v
        return torch.stack([(1 + 0.4 * b.cos()) * a.cos(), (1 + 0.4 * b.cos()) * a.sin(), 0.4 * b.sin()], 1)
    if kind == "helix":
        b = 2 * math.pi * w
        c = 5 * math.pi * v
        return torch.stack([c.cos() + 0.15 * b.cos(), c.sin() + 0.15 * b.sin(), 2 * v - 1], 1)
    if kind == "crossed planes":
        flat = torch.stack([2 * u - 1, torch.zeros_like(u), z], 1)
        return torch.where((w < 0.5)[:, None], flat, flat[:, [1, 0, 2]])
    if kind == "wavy sheet":
        return torch.stack([2 * u - 1, z, 0.3 * (4 * (2 * u - 1)).sin()], 1)
    radius = {
        "open cylinder": one, "cone": (1 - z) / 2, "double pyramid": 1 - z.abs(), "hourglass": 0.2 + 0.8 * z * z,
    }[kind]  # fmt: skip
    if kind == "double pyramid":
        corner = (a / (math.pi / 2)).floor() * (math.pi / 2)
        share = (a - corner) / (math.pi / 2)
        x = corner.cos() * (1 - share) + (corner + math.pi / 2).cos() * share
        y = corner.sin() * (1 - share) + (corner + math.pi / 2).sin() * share
        return torch.stack([radius * x, radius * y, z], 1)
    return torch.stack([radius * a.cos(), radius * a.sin(), z], 1)


def _rotation(axis: int, angle: float) -> Tensor:
    import torch

    rows = torch.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rows[a, a] = rows[b, b] = math.cos(angle)
    rows[a, b], rows[b, a] = -math.sin(angle), math.sin(angle)
    return rows


def small_net(settings: dict[str, Any], **shape: Any) -> E3DSNNClassifier:
    """Stem of 8 channels, stages of 8, 16 and 32, one block each."""
    from ranvier.models import create_model

    net = create_model(
        "e3dsnn_t", embed=8, channels=(8, 16, 32), depths=(1, 1, 1), bn_momentum=0.1, **{**shape, **settings}
    )
    return net  # pyright: ignore[reportReturnType]


def train(net: E3DSNNClassifier, x: Tensor, y: Tensor, epochs: int, batch: int, lr: float, seed: int) -> None:
    """AdamW, one cycle, label smoothing 0.2; the last weights are the result: nothing is chosen."""
    import torch
    import torch.nn.functional as F

    from ranvier.data.order import permutation

    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    net.train()
    for epoch in range(epochs):
        order = torch.from_numpy(permutation(len(x), seed, epoch))
        for rows in order[: len(order) // batch * batch].view(-1, batch):
            loss = F.cross_entropy(net(x[rows]).mean(0), y[rows], label_smoothing=0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def accuracy(net: E3DSNNClassifier, x: Tensor, y: Tensor, batch: int = 50) -> float:
    """Percent of samples that the net names right."""
    import torch

    with torch.no_grad():
        right = sum(
            int((net(part).mean(0).argmax(1) == labels).sum())
            for part, labels in zip(x.split(batch), y.split(batch), strict=True)
        )
    return 100 * right / len(x)
