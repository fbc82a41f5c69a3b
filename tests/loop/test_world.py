"""The plane: casting in closed form, motion, judgement, worlds by seed alone."""

from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.loop import LidarNav2D
from ranvier.loop.envs.geometry import ANGLES, STEP, to_discs, to_walls
from ranvier.loop.envs.lidar_nav import COLLISION, SUCCESS, TIMEOUT


def test_distance_to_a_disc_and_to_walls() -> None:
    origin = torch.tensor([[3.0, 4.0]]).double()
    distance, which = to_discs(
        origin, torch.tensor([[[7.0, 4.0], [3.0, 9.0]]]).double(), torch.tensor([[1.0, 0.5]]).double()
    )
    assert abs(distance[0, 0].item() - 3.0) < 1e-9 and which[0, 0].item() == 0
    assert abs(distance[0, 30].item() - 4.5) < 1e-9 and which[0, 30].item() == 1
    angle = 2 * STEP
    expected = 4 * math.cos(angle) - math.sqrt(1 - (4 * math.sin(angle)) ** 2)
    assert abs(distance[0, 2].item() - expected) < 1e-9
    assert math.isinf(distance[0, 60].item())
    wall = to_walls(origin, 20.0)
    assert abs(wall[0, 0].item() - 17) < 1e-9 and abs(wall[0, 60].item() - 3) < 1e-9
    assert abs(wall[0, 15].item() - 16 / math.sin(ANGLES[15])) < 1e-9
    inside, _ = to_discs(
        torch.tensor([[7.0, 4.0]]).double(), torch.tensor([[[7.2, 4.0]]]).double(), torch.ones(1, 1).double()
    )
    assert (inside == 0).all()


def test_the_compiled_casting_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    origin, centre = torch.rand(40, 2).double() * 6, torch.rand(40, 5, 2).double() * 6
    radius = torch.rand(40, 5).double() - 0.2
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    expected = to_discs(origin, centre, radius)
    monkeypatch.setenv("RANVIER_BACKEND", "auto")
    found = to_discs(origin, centre, radius)
    hit = expected[0].isfinite()
    assert 0.2 < hit.double().mean() < 0.9 and (expected[0] == 0).any()
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-14)  # PyTorch's root may be off by a bit
    assert torch.equal(found[1][hit], expected[1][hit])


@pytest.mark.parametrize("turn", [1, 7, 60, 119])
def test_turning_the_world_rolls_the_image(turn: int) -> None:
    centre = torch.rand(1, 9, 2).double() * 10 - 5
    radius = torch.rand(1, 9).double() * 0.5 + 0.1
    origin = torch.zeros(1, 2).double()
    angle = turn * STEP
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    image, _ = to_discs(origin, centre, radius)
    turned, _ = to_discs(origin, centre @ rotation.T, radius)
    assert torch.allclose(turned, image.roll(turn, 1), atol=1e-9)


def test_a_world_depends_on_its_seed_alone() -> None:
    many, one = LidarNav2D(5, 2), LidarNav2D(1, 2)
    many.reset(range(3, 8))
    one.reset([6])
    for name in ("position", "goal", "centre", "radius", "drift", "albedo"):
        assert torch.equal(getattr(many, name)[3:4], getattr(one, name))
    gap = (many.centre[:, None] - many.position[:, :, None]).norm(dim=-1) - many.radius[:, None]
    assert gap.min() > 1.2
    assert ((many.drift != 0).any(-1).sum(1) == 5).all()


def test_motion_and_outcomes() -> None:
    env = LidarNav2D(3, discs=0, moving=0, max_ticks=4)
    env.reset(range(3))
    env.position[0] = env.goal[0] - torch.tensor([0.7, 0.0])
    env.position[1] = torch.tensor([0.3, 5.0])
    start = env.position.clone().flatten(0, 1)
    velocity = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]).double()
    env.advance([(torch.tensor([40_000, 0, -1]), velocity)])
    moved = env.flat(env.position) - start
    assert torch.allclose(moved, torch.tensor([[0.06, 0.0], [-0.1, 0.0], [0.0, 0.0]]).double(), atol=1e-12)
    assert env.status.flatten().tolist() == [0, COLLISION, 0]
    for _ in range(3):
        env.advance([(torch.zeros(3).long(), velocity)])
    assert env.status.flatten().tolist() == [SUCCESS, COLLISION, TIMEOUT]
    assert env.finish_tick.flatten().tolist() == [2, 1, 4]
    assert not env.active.any()


def test_moving_discs_reflect() -> None:
    env = LidarNav2D(1, discs=1, moving=1)
    env.reset([0])
    env.centre[0, 0], env.drift[0, 0] = torch.tensor([1.02, 10.0]).double(), torch.tensor([-0.5, 0.0]).double()
    env.advance()
    assert env.centre[0, 0, 0].item() == pytest.approx(1.03) and env.drift[0, 0, 0].item() == 0.5


def test_agents_are_obstacles_to_each_other() -> None:
    env = LidarNav2D(1, 2, discs=0, moving=0)
    env.reset([0])
    env.position[0] = torch.tensor([[5.0, 5.0], [8.0, 5.0]]).double()
    distance, _ = env.cast()
    assert distance[0, 0].item() == pytest.approx(2.75) and distance[1, 60].item() == pytest.approx(2.75)
    with pytest.raises(ArgumentError, match="num_agents"):
        LidarNav2D(1, 9)
    with pytest.raises(ArgumentError, match="seeds"):
        env.reset([1, 2])
