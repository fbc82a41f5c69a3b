"""The closed loop: sense, infer, act, and let the controller's intent decide what is sensed next."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.control.gap_follow import Command
from ranvier.loop.costs import EnergyModel, LatencyModel
from ranvier.loop.envs.geometry import BEAMS, PER_SECTOR, SECTORS
from ranvier.loop.envs.lidar_nav import LidarNav2D
from ranvier.loop.guard import Guard, StageFault
from ranvier.loop.ledger import Ledger
from ranvier.loop.predict.persistence import Belief, Work
from ranvier.loop.randomness import Randomness
from ranvier.loop.report import Episode, Report
from ranvier.loop.sensing.policies import Decision, View
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents
from ranvier.loop.tick import Sensors, Tick, ignorance, measured
from ranvier.loop.timing import Cycles
from ranvier.loop.trust.verdict import MODES, NOMINAL, Observation, Verdict


class SenseActLoop:
    """Sensor, perception, prediction, policy, action, and back to the sensor's settings, in simulated time.

    Every stage can be replaced by an object with the same methods. A stage that raises, stalls, is late or gives NaN
    costs its agents a safe action (stop, or a full scan at low speed), is reported, and the loop goes on.

    Per tick: memory, prediction, sensing decision (from the state of the tick before), sensing, trust, fusion with
    messages, controller, actuation when all that has been computed; energy and time of every stage are booked.

    Args:
        env: the world.
        sensors: `Sensors`; None for the published ones.
        predictor: `PersistenceMap`, `SpikingRadialMAE`, ...
        policy: what to sense.
        controller: what to do.
        monitor: a trust monitor; None trusts everything.
        comms: messages between agents; None for silence.
        energy, latency: what stages cost.
        overrun: "skip" or "queue", see `Cycles`.
        compensate: predict the image for the place where the command will take effect.
        stage_faults: failures to inject.
        strict: let exceptions of stages through.
        trace: keep every charge in the ledger.
    """

    def __init__(
        self,
        env: LidarNav2D,
        sensors: Sensors | None,
        predictor: Any,
        policy: Any,
        controller: Any,
        monitor: Any = None,
        comms: Any = None,
        *,
        energy: EnergyModel | None = None,
        latency: LatencyModel | None = None,
        overrun: str = "skip",
        compensate: bool = False,
        stage_faults: Sequence[StageFault] = (),
        strict: bool = False,
        trace: bool = False,
        energy_weight: float = 0.1,
    ) -> None:
        for name, stage, methods in (
            ("predictor", predictor, ("reset", "predict", "update")), ("policy", policy, ("reset", "decide")),
            ("controller", controller, ("reset", "act")),
        ):  # fmt: skip
            missing = [m for m in methods if not callable(getattr(stage, m, None))]
            if missing:
                raise ArgumentError(
                    f"{name} must have {', '.join(methods)}; {type(stage).__name__} has no {missing[0]}"
                )
        if monitor is not None and not callable(getattr(monitor, "assess", None)):
            raise ArgumentError(f"monitor must have assess, {type(monitor).__name__} has not")
        if comms is not None and not callable(getattr(comms, "exchange", None)):
            raise ArgumentError(f"comms must have exchange, {type(comms).__name__} has not")
        self.env, self.sensors = env, sensors or Sensors.default()
        self.predictor, self.policy, self.controller, self.monitor, self.comms = (
            predictor, policy, controller, monitor, comms,
        )  # fmt: skip
        self.energy, self.latency = energy or EnergyModel(), latency or LatencyModel()
        self.overrun, self.compensate, self.stage_faults = overrun, compensate, tuple(stage_faults)
        self.strict, self.trace, self.energy_weight = strict, trace, energy_weight
        self.guard = Guard(self.stage_faults, strict)
        Cycles(1, overrun)

    @torch.no_grad()
    def run(
        self,
        episodes: int = 1,
        seed: int = 0,
        *,
        noise_seed: int = 0,
        on_tick: Callable[[SenseActLoop, Tick], Any] | None = None,
        on_batch: Callable[[SenseActLoop], Any] | None = None,
    ) -> Report:
        """Run the worlds `seed` to `seed + episodes − 1`, each until its agents have finished.

        Args:
            noise_seed: of everything random but the worlds.
            on_tick: called after every tick; on_batch: after the reset of every batch.

        The same arguments give the same run, bit for bit; `Report.digest` is a hash over all of it.
        """
        if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
            raise ArgumentError(f"episodes must be a positive integer, got {episodes!r}")
        started = time.perf_counter()
        self.guard = Guard(self.stage_faults, self.strict)
        digest = hashlib.sha256()
        found: list[Episode] = []
        for first in range(0, episodes, self.env.num_worlds):
            seeds = range(seed + first, seed + min(first + self.env.num_worlds, episodes))
            self._begin(seeds, noise_seed)
            if on_batch is not None:
                on_batch(self)
            while bool(self.env.active.any()):
                tick = self.step()
                digest.update(self.env.position.numpy().tobytes())
                digest.update(tick.scan.ranges.numpy().tobytes())
                if on_tick is not None:
                    on_tick(self, tick)
            found += self._episodes()
            for _, total in self.ledger.stages():
                digest.update(total.numpy().tobytes())
        return Report(
            found, float(self.energy.beams(torch.tensor(BEAMS), torch.tensor(self.sensors.lidar.max_range),
                                           self.sensors.lidar.max_range)),
            self.energy_weight, tuple(self.guard.incidents), dict(self.guard.counts), digest.hexdigest(),
            time.perf_counter() - started,
        )  # fmt: skip

    def _begin(self, seeds: Sequence[int], noise_seed: int) -> None:
        env = self.env
        env.reset(seeds)
        rows, agents = env.rows, env.num_agents
        self.random = Randomness(seeds, agents, noise_seed)
        self.guard.reset(rows, self.random)
        self.ledger = Ledger(rows, self.trace)
        self.cycles = Cycles(rows, self.overrun)
        distance, albedo = env.cast()
        self.sensors.ring.reset(distance, albedo, self.random.normal("ring", BEAMS))
        for fault in self.sensors.faults:
            fault.reset()
        if self.comms is not None:
            self.predictor.reset(rows, shared=True)
            self.comms.reset(rows, agents, self.random)
        else:
            self.predictor.reset(rows)
        self.policy.reset(rows)
        self.controller.reset(rows)
        if self.monitor is not None:
            self.monitor.reset(rows)
        goal = env.flat(env.goal - env.position)
        self._heading = torch.atan2(goal[:, 1], goal[:, 0])
        self._clearance = torch.full((rows,), self.sensors.lidar.max_range, dtype=torch.float64)
        self._age = torch.full((rows, SECTORS), 40, dtype=torch.int64)
        self._ring = torch.zeros(rows, BEAMS, dtype=torch.float64)
        self._distrust = torch.zeros(rows, dtype=torch.float64)
        self._full_scan = torch.zeros(rows, dtype=torch.bool)
        self._discount = torch.ones(rows, SECTORS, dtype=torch.float64)
        self._bodies = torch.full((rows, 1), 1e9, dtype=torch.float64)
        self._sectors = torch.zeros(rows, dtype=torch.int64)
        self._latency_sum = torch.zeros(rows, dtype=torch.int64)
        self._modes = torch.zeros(rows, len(MODES), dtype=torch.int64)
        self._mode = torch.zeros(rows, dtype=torch.int64)
        self._alarms = torch.zeros(rows, dtype=torch.int64)
        self._first_alarm = torch.full((rows,), -1, dtype=torch.int64)

    def step(self) -> Tick:
        """One tick of the batch that `run` (or `begin`) has started."""
        env, guard, rows = self.env, self.guard, self.env.rows
        now, active = env.tick * env.tick_us, env.active
        ready = self.cycles.ready(now, env.tick_us) & active
        position, velocity, goal = (env.flat(t) for t in (env.position, env.velocity, env.goal))
        to_goal = goal - position
        bearing, distance = torch.atan2(to_goal[:, 1], to_goal[:, 0]), to_goal.norm(dim=-1)
        speed = velocity.norm(dim=-1)
        stop = torch.zeros(rows, dtype=torch.bool)
        late = torch.zeros(rows, dtype=torch.int64)

        truth, albedo = env.cast()
        ring = self.sensors.ring.step(truth, albedo)
        predicted, failed, delay = guard.call(
            "predict", now, lambda: self.predictor.predict(position, env.tick), lambda: ignorance(rows), active
        )
        stop |= failed
        late += delay
        view = View(
            env.tick, speed, self._heading, bearing, predicted.ranges, predicted.known, predicted.std, self._age,
            self._ring, self._distrust, self._clearance, self._discount, self.random.uniform("policy", SECTORS),
        )  # fmt: skip
        decision, cautious, delay = guard.call(
            "policy", now, lambda: self.policy.decide(view),
            lambda: Decision(torch.ones(rows, SECTORS, dtype=torch.bool),
                             torch.full((rows,), self.sensors.lidar.max_range, dtype=torch.float64)), active,
        )  # fmt: skip
        late += delay
        decision = Decision(
            (decision.sectors | self._full_scan[:, None]) & ready[:, None],
            torch.where(self._full_scan, self.sensors.lidar.max_range, decision.gate),
        )
        (raw, seen_ring), blind, delay = guard.call(
            "sense", now, lambda: self._sense(truth, decision, ring, now),
            lambda: (Scan.blind(rows), RingEvents.none(rows)), active,
        )  # fmt: skip
        stop |= blind
        late += delay
        self._age = torch.where(decision.sectors, 0, self._age + 1)
        self._ring = seen_ring.on + seen_ring.off
        expected = self.sensors.ring.expected_rate(predicted.ranges, speed)
        verdict, unjudged, delay = guard.call(
            "monitor", now, lambda: self._judge(raw, seen_ring, predicted, expected, speed, position, ready),
            lambda: Verdict.trusting(raw), active,
        )  # fmt: skip
        late += delay
        scan = verdict.scan
        (belief, work), lost, delay = guard.call(
            "update", now, lambda: self.predictor.update(scan, seen_ring, position),
            lambda: (measured(scan), Work.none(rows)), active,
        )  # fmt: skip
        stop |= lost
        late += delay
        if bool(lost.any()) and callable(getattr(self.predictor, "forget", None)):
            self.predictor.forget(lost)
        bits, radio_us = self._talk(now, position, raw, scan, decision, verdict, late, active)
        ranges = belief.ranges
        if self.compensate:
            ranges = self._ahead(position, velocity, belief, scan)
        ranges = torch.minimum(torch.minimum(ranges, verdict.ranges), self._bodies)
        cap = torch.minimum(verdict.speed_cap, torch.where(cautious | unjudged, 0.4, 100.0).double())
        command, uncontrolled, delay = guard.call(
            "control", now, lambda: self.controller.act(ranges, bearing, distance, self._heading, cap),
            lambda: Command(torch.zeros(rows, 2).double(), self._heading, torch.zeros(rows).double()), active,
        )  # fmt: skip
        stop |= uncontrolled
        late += delay
        command.velocity = torch.where(stop[:, None], 0.0, command.velocity)
        self._act(now, ready, decision, ring, work, bits, radio_us, late, command)
        self._note(now, active, ready, decision, verdict, command)
        tick = Tick(now, ready, decision, raw, scan, seen_ring, predicted, belief, command, verdict, truth, position,
                    expected)  # fmt: skip
        env.advance(self.cycles.switches(now, env.tick_us))
        return tick

    def _sense(self, truth: Tensor, decision: Decision, ring: RingEvents, now: int) -> tuple[Scan, RingEvents]:
        scan = self.sensors.lidar.sense(truth, decision.sectors, decision.gate, self.random.normal("lidar", BEAMS))
        for fault in self.sensors.faults:
            scan, ring = fault.apply(scan, ring, now, self.random)
        return scan, ring

    def _judge(self, raw: Scan, ring: RingEvents, predicted: Belief, expected: Tensor, speed: Tensor,
               position: Tensor, ready: Tensor) -> Verdict:  # fmt: skip
        ring_range = self.sensors.ring.follow(ring)
        if self.monitor is None:
            return Verdict.trusting(raw)
        return self.monitor.assess(
            Observation(
                raw,
                ring,
                predicted,
                ring_range,
                self.sensors.ring.contrast(raw.ranges),
                expected,
                speed,
                self._heading,
                position,
                self.env.tick,
                ready,
            )
        )

    def _talk(self, now: int, position: Tensor, raw: Scan, scan: Scan, decision: Decision, verdict: Verdict,
              late: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
        none = torch.zeros(len(position), dtype=torch.int64)
        comms = self.comms
        if comms is None:
            return none, none
        heard, failed, delay = self.guard.call(
            "link", now, lambda: comms.exchange(now, position, raw, scan, decision, verdict, self._age, active),
            lambda: None, active,
        )  # fmt: skip
        late += delay
        if heard is None or bool(failed.all()):
            self._discount = torch.ones_like(self._discount)
            self._bodies = torch.full_like(self._bodies, 1e9)
            return none, none
        stamp = torch.where(failed[:, None], -1, heard.stamp)
        self.predictor.insert(heard.points, stamp)
        self._discount = torch.where(failed[:, None], 1.0, heard.discount)
        self._bodies = torch.where(failed[:, None], 1e9, heard.bodies)
        return heard.bits, self.latency.radio(heard.bits)

    def _ahead(self, position: Tensor, velocity: Tensor, belief: Belief, scan: Scan) -> Tensor:
        foresee = getattr(self.predictor, "foresee", None)
        if foresee is None:
            return belief.ranges
        wait = self.cycles.latency
        ahead = foresee(position + velocity * (wait.double() * 1e-6)[:, None], wait)
        return torch.where((wait > 0)[:, None], ahead.ranges, belief.ranges)

    def _act(self, now: int, ready: Tensor, decision: Decision, ring: RingEvents, work: Work, bits: Tensor,
             radio_us: Tensor, late: Tensor, command: Command) -> None:  # fmt: skip
        """Book energy and time, and let the command take effect when its cycle is through."""
        latency, energy, active = self.latency, self.energy, self.env.active
        if command.work is not None:
            own = command.work
            work = Work(*(a + b.nan_to_num(0.0) for a, b in zip(work.parts, own.parts, strict=True)))
        beams = decision.sectors.sum(1) * PER_SECTOR
        sensed_us = latency.beams(beams) + int(latency.camera_us)
        computed_us = torch.where(ready, latency.compute(work.acs + work.macs), 0)
        acting_us = torch.where(ready, int(latency.actuation_us), 0)
        self.ledger.charge(
            "lidar", now, energy_nj=energy.beams(beams, decision.gate, self.sensors.lidar.max_range),
            busy_us=latency.beams(beams), beams=beams,
        )  # fmt: skip
        total = torch.where(active, ring.total, 0.0)
        self.ledger.charge(
            "camera", now, energy_nj=torch.where(active, energy.camera(total, self.env.tick_us), 0),
            busy_us=torch.where(active, int(latency.camera_us), 0), events=total.long(),
        )  # fmt: skip
        acs, macs, spikes = (torch.where(ready, t, 0.0) for t in (work.acs, work.macs, work.spikes))
        self.ledger.charge(
            "network", now, energy_nj=energy.network(acs, macs), busy_us=computed_us, acs=acs.long(),
            macs=macs.long(), spikes=spikes.long(),
        )  # fmt: skip
        bits = torch.where(ready, bits, 0)
        self.ledger.charge(
            "radio", now, energy_nj=energy.radio(bits), busy_us=torch.where(ready, radio_us, 0), bits=bits
        )
        self.ledger.charge("actuation", now, busy_us=acting_us)
        duration = sensed_us + computed_us + torch.where(ready, radio_us, 0) + acting_us + late
        self.cycles.start(now, ready, duration, command.velocity)

    def _note(self, now: int, active: Tensor, ready: Tensor, decision: Decision, verdict: Verdict,
              command: Command) -> None:  # fmt: skip
        moves = command.velocity.norm(dim=-1) > 1e-9
        self._heading = torch.where(ready & moves, command.heading, self._heading)
        self._clearance = torch.where(ready, command.clearance, self._clearance)
        self._distrust, self._full_scan = verdict.distrust, verdict.full_scan
        self._sectors += decision.sectors.sum(1)
        self._latency_sum += torch.where(ready, self.cycles.latency, 0)
        self._modes.scatter_add_(1, verdict.mode[:, None], active.long()[:, None])
        raised = (verdict.mode != NOMINAL) & (self._mode == NOMINAL) & active
        self._alarms += raised
        self._first_alarm = torch.where(raised & (self._first_alarm < 0), now, self._first_alarm)
        self._mode = verdict.mode

    def _episodes(self) -> list[Episode]:
        env, found = self.env, []
        status, finish = env.status.flatten().tolist(), env.finish_tick.flatten().tolist()
        length = env.path_length.flatten().tolist()
        tables = {
            quantity: {stage: total.tolist() for stage, total in self.ledger.stages(quantity)}
            for quantity in ("energy_nj", "busy_us", "bits", "beams", "spikes", "acs", "macs", "events")
        }
        for row in range(env.rows):
            ticks = finish[row]
            first = int(self._first_alarm[row])
            cycles = max(ticks - int(self.cycles.skipped[row]), 1)
            found.append(
                Episode(
                    env.seeds[row // env.num_agents], row % env.num_agents, status[row], ticks, length[row],
                    int(self._sectors[row]) / max(ticks, 1), int(self.cycles.skipped[row]),
                    int(self._latency_sum[row]) / cycles,
                    {stage: values[row] for stage, values in tables["energy_nj"].items()},
                    {
                        stage: {q: table[stage][row] for q, table in tables.items() if table[stage][row]}
                        for stage in tables["energy_nj"]
                    },
                    first if first >= 0 else None, int(self._alarms[row]),
                    dict(zip(MODES, self._modes[row].tolist(), strict=True)),
                )
            )  # fmt: skip
        return found


Loop = SenseActLoop
"""The short name."""
