"""The world as an environment of Gymnasium and of PettingZoo, and R-MAE in three dimensions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse import SparseTensor
from ranvier.loop.envs.gym_nav import LidarNavEnv
from ranvier.loop.envs.parallel_nav import LidarNavParallel
from ranvier.loop.multi import message_bits
from ranvier.loop.predict.r_mae import RMAE, radial_voxel_mask


def test_gymnasium_accepts_it() -> None:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = LidarNavEnv(render_mode="rgb_array")
        check_env(env, skip_render_check=False)
    observed, _ = env.reset(seed=1)
    assert env.observation_space.contains(observed) and not env.observation_space.contains({})


def test_rewards_are_the_sum_of_their_terms() -> None:
    env = LidarNavEnv(energy_weight=0.5, max_ticks=40)
    seen, _ = env.reset(seed=3)
    assert seen["sensed"].all() and seen["ranges"].shape == (120,)
    sectors = np.zeros(30, np.int8)
    sectors[:3] = 1
    ticks, ended, cut = 0, False, False
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


def team(**changes: object) -> dict[str, object]:
    sectors = np.zeros(30, np.int8)
    sectors[4:8] = 1
    still = {"velocity": np.zeros(2, np.float32), "sectors": sectors, "gate": np.array([8.0]), "share": 1}
    return {**still, **changes}


def test_agents_together_hear_what_was_shared() -> None:
    env = LidarNavParallel(3, max_ticks=30)
    seen, infos = env.reset(seed=5)
    assert env.agents == ["agent_0", "agent_1", "agent_2"] and infos["agent_1"] == {"world": 5}
    assert all(env.observation_space(name).contains(part) for name, part in seen.items())
    assert not seen["agent_0"]["heard"].any()
    seen, rewards, ended, cut, infos = env.step({
        "agent_0": team(), "agent_1": team(share=0), "agent_2": team(sectors=np.ones(30, np.int8)),
    })  # fmt: skip
    assert all(env.observation_space(name).contains(part) for name, part in seen.items())
    bits = message_bits(4)
    assert infos["agent_0"]["bits"] == bits and infos["agent_1"]["bits"] == 0
    assert infos["agent_0"]["energy_nj"] == 16 * 600_000 + 50 * bits
    assert rewards["agent_1"] == pytest.approx(-0.001 - 0.001 * 16 / 120)
    assert not any(ended.values()) and not any(cut.values())
    first, second = seen["agent_1"]["heard"]  # from agents 0 and 2
    place = env.world.position[0].numpy()
    np.testing.assert_allclose(first[1:3], place[0] - place[1], rtol=1e-6)
    sensed = seen["agent_0"]["sensed"] > 0
    np.testing.assert_allclose(first[3:][sensed], seen["agent_0"]["ranges"][sensed], atol=0.016)
    assert not first[3:][~sensed].any() and (second[3:] > 0).all()
    assert not seen["agent_0"]["heard"][0].any()  # agent 1 was silent
    assert env.render().shape == (200, 200, 3) and env.state().dtype == np.float32


def test_a_lossy_link_and_the_end_of_agents() -> None:
    env = LidarNavParallel(2, loss=0.5, max_ticks=60)
    arrived: list[float] = []
    seen, _ = env.reset(seed=1)
    for _ in range(59):
        seen, *_ = env.step({name: team() for name in env.agents})
        arrived += [seen[name]["heard"][0, 0] for name in env.agents]
    assert 0.3 < np.mean(arrived) < 0.7
    again = LidarNavParallel(2, loss=0.5, max_ticks=60)
    repeated, _ = again.reset(seed=1)
    for _ in range(59):
        repeated, *_ = again.step({name: team() for name in again.agents})
    np.testing.assert_array_equal(repeated["agent_0"]["ranges"], seen["agent_0"]["ranges"])
    env.world.position[0, 0] = env.world.goal[0, 0]
    _, rewards, ended, cut, _ = env.step({name: team() for name in env.agents})
    assert ended == {"agent_0": True, "agent_1": False} and cut == {"agent_0": False, "agent_1": True}
    assert rewards["agent_0"] > 0.9 and env.agents == [] and env.num_agents == 0
    silent = LidarNavParallel(2, loss=1.0)
    silent.reset(seed=1)
    seen, *_ = silent.step({name: team() for name in silent.agents})
    assert not seen["agent_0"]["heard"].any()
    with pytest.raises(ArgumentError, match="agent_1 has none"):
        silent.step({"agent_0": team()})
    with pytest.raises(ArgumentError, match="num_agents"):
        LidarNavParallel(1)


def test_pettingzoo_accepts_it() -> None:
    check = pytest.importorskip("pettingzoo.test")
    check.parallel_api_test(LidarNavParallel(3, loss=0.2, max_ticks=40), num_cycles=60)


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
