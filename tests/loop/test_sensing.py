"""Sensing policies."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.loop.sensing import LearnedSectors, View, build, priority, reinforce
from ranvier.loop.sensing.policies import POLICIES, top


def view(rows: int = 4, tick: int = 0, **changes: object) -> View:
    plain = View(
        tick=tick, speed=torch.linspace(0, 1, rows).double(), heading=torch.zeros(rows).double(),
        goal_bearing=torch.full((rows,), 0.8).double(), ranges=torch.full((rows, 120), 8.0).double(),
        known=torch.ones(rows, 120, dtype=torch.bool), std=None, age=torch.full((rows, 30), 10),
        ring=torch.zeros(rows, 120).double(), distrust=torch.zeros(rows).double(),
        clearance=torch.full((rows,), 3.0).double(), discount=torch.ones(rows, 30).double(),
        noise=torch.rand(rows, 30).double(),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "count"), [("full", 30), ("random:3", 3), ("rotating:5", 5), ("priority:6", 6), ("info_gain:2", 2)]
)
def test_counts_and_gate(text: str, count: int) -> None:
    policy = build(text, gate=True)
    policy.reset(4)
    decision = policy.decide(view())
    assert (decision.sectors.sum(1) == count).all()
    assert torch.allclose(decision.gate, (2.2 + 2.2 * view().speed).clamp(max=8.0))
    assert (build(text).decide(view()).gate == 8.0).all()


def test_duty_and_rotation_cover_everything() -> None:
    duty = build("duty:10")
    assert [bool(duty.decide(view(tick=t)).sectors.all()) for t in range(12)] == [True] + [False] * 9 + [True, False]
    turning, seen = build("rotating:3"), torch.zeros(30)
    for tick in range(10):
        seen += turning.decide(view(tick=tick)).sectors[0]
    assert (seen == 1).all()


def test_priority_prefers_old_near_and_ahead() -> None:
    base = priority(view())
    assert base[0].argmax() in (0, 1, 2, 3, 29)
    near = torch.full((4, 120), 8.0).double()
    near[:, 60:64] = 0.4
    assert priority(view(ranges=near))[0, 15] > base[0, 15] * 3
    age = torch.full((4, 30), 0)
    age[:, 20] = 100
    assert (priority(view(age=age)).argmax(1) == 20).all()
    assert torch.allclose(priority(view(age=age))[0, 20], priority(view(age=age.clamp(max=40)))[0, 20])


def test_budgets_follow_the_risk_and_ties_go_to_the_lower_index() -> None:
    adaptive = build("priority:9", k_min=1, risk_0=1.0)
    spent = adaptive.decide(view(clearance=torch.tensor([3.0, 3.0, 0.5, 0.5]).double())).sectors.sum(1)
    assert spent[0] == 1 and spent[3] == 9
    wary = adaptive.decide(view(distrust=torch.ones(4).double())).sectors.sum(1)
    assert (wary == 9).all()
    assert top(torch.zeros(1, 30), 3)[0].nonzero().flatten().tolist() == [0, 1, 2]


def test_events_trigger() -> None:
    policy = build("event", events=4.0, error=10.0)
    policy.reset(4)
    ring = torch.zeros(4, 120).double()
    ring[:, 40] = 3.0
    assert not policy.decide(view(ring=ring)).sectors.any()
    assert policy.decide(view(ring=ring)).sectors.nonzero()[:, 1].tolist() == [10] * 4
    assert not policy.decide(view()).sectors.any()


def test_names_and_errors() -> None:
    assert set(POLICIES) >= {"full", "duty", "random", "rotating", "priority", "info_gain", "event"}
    with pytest.raises(UnknownNameError, match="priority"):
        build("priorty:3")
    with pytest.raises(ArgumentError, match="number"):
        build("priority:x")
    with pytest.raises(ArgumentError, match="k_min"):
        build("priority:3", k_min=5)
    with pytest.raises(ArgumentError, match="no argument"):
        build("full", k=3)


def test_a_learned_policy_starts_as_priority_and_learns() -> None:
    torch.manual_seed(0)
    policy = LearnedSectors(3)
    policy.reset(4)
    scene = view(noise=torch.rand(4, 30).double(), age=torch.randint(1, 40, (4, 30)))
    policy.net.leave.weight.data.zero_()
    assert torch.equal(policy.decide(scene).sectors, top(priority(scene), 3))
    start = policy.net.direct.item()

    def rollout(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        policy.reset(16)
        generator = torch.Generator().manual_seed(step)
        now = view(
            16,
            noise=torch.rand(16, 30, generator=generator).double(),
            age=torch.randint(1, 40, (16, 30), generator=generator),
        )
        chosen = policy.decide(now).sectors
        return chosen[:, 20:].sum(1).double(), torch.full((16,), 0.1).double()

    history = reinforce(policy, rollout, 40, budget=0.05, lr=0.05)
    assert history[-1]["multiplier"] > 0 and policy.net.direct.item() != start
    assert sum(h["return"] for h in history[-8:]) > sum(h["return"] for h in history[:8])


def test_a_policy_is_trained_on_the_task() -> None:
    from ranvier.loop import GapFollow, LidarNav2D, PersistenceMap, SenseActLoop
    from ranvier.loop.sensing import task_rollout

    policy = LearnedSectors(3, gate=True)
    loop = SenseActLoop(LidarNav2D(6, max_ticks=20), None, PersistenceMap(), policy, GapFollow(), strict=True)
    history = reinforce(policy, task_rollout(loop, 6, 10_000), 2, budget=0.01)
    assert history[1]["multiplier"] > history[0]["multiplier"] > 0
    assert not policy.explore
    with pytest.raises(ArgumentError, match="batch"):
        task_rollout(loop, 7, 0)
