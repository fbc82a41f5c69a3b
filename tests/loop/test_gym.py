"""The world as a Gymnasium environment, and R-MAE in three dimensions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse import SparseTensor
from ranvier.loop.envs.gym_nav import LidarNavEnv
from ranvier.loop.predict.r_mae import RMAE, radial_voxel_mask


def test_gymnasium_accepts_it() -> None:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(LidarNavEnv(render_mode="rgb_array"), skip_render_check=False)


def test_rewards_are_the_sum_of_their_terms() -> None:
    env = LidarNavEnv(energy_weight=0.5, max_ticks=40)
    seen, _ = env.reset(seed=3)
    assert seen["sensed"].all() and seen["ranges"].shape == (120,)
    sectors = np.zeros(30, np.int8)
    sectors[:3] = 1
    ticks = 0
    while ticks < 40:
        ticks += 1
        seen, reward, ended, cut, info = env.step(
            {"velocity": np.zeros(2, np.float32), "sectors": sectors, "gate": np.array([8.0])}
        )
        assert reward == pytest.approx(-0.001 - 0.5 * 0.1 + info["terms"]["outcome"])
        assert info["energy_nj"] == 7_200_000 and seen["sensed"].sum() == 12
        if ended:
            break
    assert ended or (cut and ticks == 40)
    env.world.position = env.world.goal.clone()
    _, reward, ended, *_ = env.step({"velocity": np.array([5.0, 0.0]), "sectors": sectors * 0, "gate": np.array([8.0])})
    assert ended or reward < 0
    assert env.render().shape == (200, 200, 3)


def scene() -> SparseTensor:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randperm(41 * 32 * 32, generator=generator)[:600].sort().values
    parts = [cells // 1024, cells // 32 % 32, cells % 32]
    coords = torch.stack([torch.arange(600) // 300, *parts], 1).int()
    return SparseTensor(torch.randn(600, 4, generator=generator), coords, (41, 32, 32), 2)


def test_r_mae_parameters_shapes_and_learning() -> None:
    model = RMAE()
    assert sum(p.numel() for p in model.parameters()) == 829_672
    x = scene()
    assert model(x).shape == (2, 41, 32, 32)
    keep = radial_voxel_mask(x.coords, (16.0, 16.0), 0.8, 5.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(4):
        loss = model.loss(x, keep)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    with pytest.raises(ShapeError, match="grid"):
        model(SparseTensor(x.feats, x.coords, (41, 33, 32), 2))


def test_voxel_masks_are_about_the_sensor_and_per_sample() -> None:
    coords = torch.tensor([[b, 0, y, x] for b in range(2) for y in range(40) for x in range(40)])
    keep = radial_voxel_mask(coords, (20.0, 20.0), 0.8, 10.0, generator=torch.Generator().manual_seed(0)).view(
        2, 40, 40
    )
    assert not torch.equal(keep[0], keep[1])
    angle = torch.atan2(torch.arange(40)[:, None] + 0.5 - 20, torch.arange(40)[None] + 0.5 - 20)
    group = torch.floor((angle + torch.pi) / torch.pi * 18).long()
    for number in group.unique():  # a group is kept as a whole
        assert len(keep[0][group == number].unique()) == 1
    assert sum(bool(keep[0][group == g].all()) for g in group.unique()) == int(0.2 * len(group.unique()))
    ranged = radial_voxel_mask(coords, (20.0, 20.0), 0.8, 10.0, ranged=True)
    assert 0.09 < ranged.double().mean() < 0.2
    with pytest.raises(ArgumentError, match="ratio"):
        radial_voxel_mask(coords, (0.0, 0.0), 1.0)
