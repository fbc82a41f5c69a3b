"""Simulated time: order, delays, overruns, exact books."""

from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.loop import Clock, EnergyModel, EventQueue, LatencyModel, Ledger
from ranvier.loop.clock import Outcome, PeriodicTask, pipeline
from ranvier.loop.ledger import LedgerError
from ranvier.loop.timing import Cycles


def test_events_come_in_order_of_time_priority_and_insertion() -> None:
    queue, seen = EventQueue(), []
    for time, priority, name in ((5, 0, "c"), (3, 1, "b"), (3, 0, "a"), (5, 0, "d"), (9, 0, "late")):
        queue.push(time, lambda name=name: seen.append(name), priority)
    assert queue.run_until(8) == 4
    assert seen == ["a", "b", "c", "d"] and queue.clock.now_us == 8
    with pytest.raises(ArgumentError, match="before now"):
        queue.push(7, lambda: None)
    with pytest.raises(ArgumentError, match="whole"):
        Clock(1.5)  # pyright: ignore[reportArgumentType]


def stage(duration: int, energy: int):
    return lambda value: Outcome(value + 1, duration, energy)


def test_the_delay_of_an_action_is_the_sum_of_its_stages() -> None:
    queue, done = EventQueue(), []
    pipeline(
        queue, 10, [stage(7, 1), stage(20, 2), stage(3, 3)], 0, lambda *what: done.append((queue.clock.now_us, *what))
    )
    queue.run_until(1000)
    assert done == [(40, 3, 30, 6)]


@pytest.mark.parametrize(
    ("overrun", "finished", "skipped"), [("skip", [15, 35, 55, 75], 4), ("queue", [15 * i for i in range(1, 9)], 0)]
)
def test_overruns(overrun: str, finished: list[int], skipped: int) -> None:
    queue, done = EventQueue(), []
    task = PeriodicTask(queue, 10, [stage(15, 0)], lambda *_: done.append(queue.clock.now_us), overrun)
    task.start(lambda at: at, 8)
    queue.run_until(1000)
    assert done == finished and task.skipped == skipped


def test_cycles_hold_the_old_command_until_the_new_one_is_ready() -> None:
    cycles = Cycles(2, "skip")
    ready = cycles.ready(0, 100)
    cycles.start(0, ready, torch.tensor([40, 250]), torch.ones(2, 2).double())
    ((at, velocity),) = cycles.switches(0, 100)
    assert at.tolist() == [40, -1] and velocity.shape == (2, 2)
    assert cycles.ready(100, 100).tolist() == [True, False]
    cycles.start(100, torch.tensor([True, False]), torch.tensor([40, 250]), torch.zeros(2, 2).double())
    assert [s[0].tolist() for s in cycles.switches(100, 100)] == [[40, -1]]
    assert [s[0].tolist() for s in cycles.switches(200, 100)] == [[-1, 50]]
    assert cycles.skipped.tolist() == [0, 1]
    late = Cycles(1, "queue")
    for tick in range(3):
        assert late.ready(tick * 100, 100).item()
        late.start(tick * 100, torch.tensor([True]), torch.tensor([150]), torch.full((1, 2), float(tick)).double())
    assert late.busy_until.item() == 450 and late.latency.item() == 250


def test_ledger_sums_are_exact_and_checked() -> None:
    ledger = Ledger(3)
    for t in range(50):
        ledger.charge("lidar", t, energy_nj=torch.tensor([2**53 + t, 1, 0]), beams=4)
        ledger.charge("network", t, macs=torch.arange(3))
    assert ledger.total("energy_nj", "lidar").tolist() == [50 * 2**53 + 1225, 50, 0]
    assert int(ledger.total().sum()) == int(
        sum(e.amounts["energy_nj"].sum() for e in ledger.trace if "energy_nj" in e.amounts)
    )
    ledger.check()
    ledger.totals["lidar"]["beams"] += 1
    with pytest.raises(LedgerError, match="beams of lidar"):
        ledger.check()
    with pytest.raises(ArgumentError, match="whole"):
        ledger.charge("lidar", 0, energy_nj=torch.tensor([0.5, 1, 1]))
    with pytest.raises(ArgumentError, match="knows"):
        ledger.charge("lidar", 0, calories=torch.tensor([1, 1, 1]))


def test_energy_laws() -> None:
    model = EnergyModel()
    full = model.beams(torch.tensor(120), torch.tensor(8.0), 8.0)
    assert full.item() == 72_000_000
    half = model.beams(torch.tensor(120), torch.tensor(4.0), 8.0)
    assert half.item() == round(72e6 * (0.9 / 16 + 0.1))
    assert model.beams(torch.tensor(0), torch.tensor(8.0), 8.0).item() == 0
    assert model.camera(torch.tensor(10.0), 100_000).item() == 500_005
    assert model.network(torch.tensor(1000.0), torch.tensor(1000.0)).item() == 6  # 0.9 + 4.6 nJ, rounded up
    assert model.radio(torch.tensor(128)).item() == 6400
    latency = LatencyModel()
    assert latency.beams(torch.tensor(12)).item() == 240
    assert latency.compute(torch.tensor(10_001.0)).item() == 2
    assert latency.radio(torch.tensor([0, 128])).tolist() == [0, 2128]
    assert LatencyModel.zero().radio(torch.tensor([128])).item() <= 1
    with pytest.raises(ArgumentError, match="beam_floor"):
        EnergyModel(beam_floor=2)
