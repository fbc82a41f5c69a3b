"""Agents that share what they see over a radio that loses messages, and whom not to believe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.clock import EventQueue
from ranvier.loop.envs.geometry import ANGLES, BEAMS, PER_SECTOR, SECTORS, STEP, to_discs, wrap
from ranvier.loop.multi.message import RANGE_STEP, SECTOR_BITS, message_bits
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensing.policies import Decision
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.trust.verdict import SAFE_STOP, Verdict


@dataclass
class Heard:
    """What the messages of a tick brought, rows first: points `[N, K, 2]`, their ticks `[N, K]` (−1: none), the factor
    on each sector's priority `[N, 30]`, bits sent `[N]`, and how far along each beam to the bodies of senders that
    said lately where they are `[N, 120]` (1e9: nobody)."""

    points: Tensor
    stamp: Tensor
    discount: Tensor
    bits: Tensor
    bodies: Tensor


@dataclass
class _Packet:
    points: Tensor  # [B, M, 120, 2]
    echo: Tensor  # [B, M, 120]
    covered: Tensor  # [B, M, 30] sectors sensed
    place: Tensor  # [B, M, 2]
    delivered: Tensor  # [B, M receiver, M sender]
    tick: int


class SectorAuction:
    """A sector whose area a trusted neighbour has sensed within `fresh_s` is worth `factor` of its priority."""

    def __init__(self, factor: float = 0.25, fresh_s: float = 0.5, reach: float = 2.0) -> None:
        if not 0 <= factor <= 1 or not fresh_s > 0 or not reach > 0:
            raise ArgumentError("factor must be in [0, 1], fresh_s and reach positive")
        self.factor, self.fresh_s, self.reach = factor, fresh_s, reach

    def discount(self, place: Tensor, other: Tensor, covered: Tensor, trust: Tensor) -> Tensor:
        """Factors `[R, 30]` for agents at `place` `[R, 2]`.

        Args:
            other: neighbours' positions `[R, S, 2]`; covered: sectors they sensed lately `[R, S, 30]`; trust `[R, S]`.

        A sector counts as covered when the neighbour, from where it stands, has looked at the point `reach` metres out
        in the sector's middle, with at most 45 degrees between the two lines of sight or from within 2 m of the point.
        """
        middle = ANGLES.view(SECTORS, PER_SECTOR).mean(1)
        target = place[:, None] + self.reach * torch.stack([middle.cos(), middle.sin()], -1)  # [R, 30, 2]
        offset = target[:, None] - other[:, :, None]  # [R, S, 30, 2]
        bearing = torch.atan2(offset[..., 1], offset[..., 0])
        beam = torch.floor(bearing / STEP + 0.5).long() % BEAMS
        looked = covered.gather(2, beam // PER_SECTOR)
        aligned = (wrap(bearing - middle).abs() < math.pi / 4) | (offset.norm(dim=-1) < 2.0)
        taken = (looked & aligned & (trust > 0.5)[..., None]).any(1)
        return torch.where(taken, self.factor, 1.0).double()


class Comms:
    """Broadcasts of sensed sectors among the agents of a world.

    Receivers turn returns into points of the world, with their age, if they trust the sender: a sender whose points
    keep contradicting the receiver's own fresh returns (median test) loses trust, and its points are ignored. Points
    whose echo is an agent's own body are left out; where a trusted sender stood, its header says, and for half a second
    that is a disc of `body` metres in the receiver's way.

    Args:
        loss: probability that a message does not reach a receiver.
        reach: radio range in metres.
        delay_us: added to the flight of a message.
        auction: a `SectorAuction`; None shares points only.
        liars: agents that send ghosts: half of their returns moved to U[0.3, 1.5] m.
        distrust: whether receivers judge senders.
    """

    body, fresh_ticks = 0.25, 5

    def __init__(self, loss: float = 0.0, reach: float = 8.0, delay_us: int = 0, auction: SectorAuction | None = None,
                 liars: tuple[int, ...] = (), distrust: bool = True) -> None:  # fmt: skip
        if not 0 <= loss <= 1 or not reach > 0 or delay_us < 0:
            raise ArgumentError(f"loss must be in [0, 1], reach > 0, delay_us >= 0; got {loss}, {reach}, {delay_us}")
        self.loss, self.reach, self.delay_us = loss, reach, delay_us
        self.auction, self.liars, self.distrust = auction, liars, distrust
        self.tick_us = 100_000

    def reset(self, rows: int, agents: int, random: Randomness) -> None:
        """Begin a batch: everybody trusts everybody."""
        worlds = rows // agents
        self.shape = (worlds, agents)
        self.random = random
        self.trust = torch.ones(worlds, agents, agents, dtype=torch.float64)  # receiver, sender
        self._queue = EventQueue()
        self._arrived: list[_Packet] = []
        self._covered = torch.full((worlds, agents, agents, SECTORS), -1000, dtype=torch.int64)
        self._place = torch.zeros(worlds, agents, agents, 2, dtype=torch.float64)
        self._said = torch.full((worlds, agents, agents), -1000, dtype=torch.int64)
        self._own = torch.zeros(worlds, agents, BEAMS, dtype=torch.float64)
        self._own_when = torch.full((worlds, agents, BEAMS), -1000, dtype=torch.int64)

    def exchange(self, now_us: int, position: Tensor, raw: Scan, scan: Scan, decision: Decision, verdict: Verdict,
                 age: Tensor, active: Tensor) -> Heard:  # fmt: skip
        """Send this tick's returns, and hand out what has arrived."""
        worlds, agents = self.shape
        tick = now_us // self.tick_us
        here = position.view(worlds, agents, 2)
        on = active.view(worlds, agents)
        ranges, echo, fired = (
            t.view(worlds, agents, BEAMS) for t in (scan.ranges, scan.hit, scan.sensed)
        )  # what the sender itself trusts
        self._own = torch.where(fired, ranges, self._own)
        self._own_when = torch.where(fired, tick, self._own_when)
        sent = torch.round(ranges / RANGE_STEP).clamp(max=254) * RANGE_STEP
        draw = self.random.uniform("liar", 2, BEAMS).view(worlds, agents, 2, BEAMS)
        for liar in self.liars:
            if liar < agents:
                fake = fired[:, liar] & (draw[:, liar, 0] < 0.5)
                sent[:, liar] = torch.where(fake, 0.3 + 1.2 * draw[:, liar, 1], sent[:, liar])
                echo = echo.clone()
                echo[:, liar] |= fake
        lost = self.random.uniform("link", agents).view(worlds, agents, agents) < self.loss
        near = (here[:, :, None] - here[:, None]).norm(dim=-1) <= self.reach
        other = ~torch.eye(agents, dtype=torch.bool)
        delivered = near & other & ~lost & on[:, :, None] & on[:, None, :]
        sectors = decision.sectors.view(worlds, agents, SECTORS)
        talks = on & (verdict.mode.view(worlds, agents) != SAFE_STOP) & (near & other & on[:, None, :]).any(2)
        delivered = delivered & talks[:, None, :]
        heading = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)
        points = here[:, :, None] + sent[..., None] * heading
        body = (points[:, :, :, None] - here[:, None, None]).norm(dim=-1).min(-1).values < 0.4
        packet = _Packet(points, echo & ~body, sectors.clone(), here.clone(), delivered, tick)
        bits = torch.where(talks, message_bits(0) + SECTOR_BITS * sectors.sum(-1), 0)
        flight = 2000 + int(bits.max()) + self.delay_us
        self._queue.push(now_us + flight, lambda: self._arrived.append(packet))
        self._queue.run_until(now_us + self.tick_us - 1)
        return self._receive(here, tick, bits.flatten())

    def _receive(self, here: Tensor, tick: int, bits: Tensor) -> Heard:
        worlds, agents = self.shape
        points: list[Tensor] = []
        stamps: list[Tensor] = []
        for packet in self._arrived:
            if self.distrust:
                self._judge(packet, here, tick)
            believed = packet.delivered & (self.trust > 0.5)
            for sender in range(agents):
                good = believed[:, :, sender, None] & packet.echo[:, None, sender]
                points.append(packet.points[:, None, sender].expand(worlds, agents, BEAMS, 2))
                stamps.append(torch.where(good, packet.tick, -1))
            heard = packet.delivered[..., None] & packet.covered[:, None]
            self._covered = torch.where(heard, packet.tick, self._covered)
            self._place = torch.where(packet.delivered[..., None], packet.place[:, None], self._place)
            self._said = torch.where(packet.delivered, packet.tick, self._said)
        self._arrived.clear()
        rows = worlds * agents
        if points:
            stacked, stamp = torch.cat(points, 2).flatten(0, 1), torch.cat(stamps, 2).flatten(0, 1)
            order = torch.argsort(stamp, dim=1, descending=True, stable=True)[:, :BEAMS]
            stamp = stamp.gather(1, order)
            stacked = stacked.gather(1, order[..., None].expand(-1, -1, 2))
        else:
            stacked = torch.zeros(rows, 1, 2, dtype=torch.float64)
            stamp = torch.full((rows, 1), -1, dtype=torch.int64)
        discount = torch.ones(rows, SECTORS, dtype=torch.float64)
        if self.auction is not None:
            fresh = (tick - self._covered) * self.tick_us * 1e-6 <= self.auction.fresh_s
            discount = self.auction.discount(
                here.flatten(0, 1), self._place.flatten(0, 1), fresh.flatten(0, 1), self.trust.flatten(0, 1)
            )
        there = (tick - self._said <= self.fresh_ticks) & (self.trust > 0.5)
        size = torch.where(there, self.body, 0.0).double().flatten(0, 1)
        bodies = to_discs(here.flatten(0, 1), self._place.flatten(0, 1), size)[0].clamp(max=1e9)
        return Heard(stacked, stamp, discount, bits, bodies)

    def _judge(self, packet: _Packet, here: Tensor, tick: int) -> None:
        """Median test: where a sender's echoes fall into beams that the receiver has just looked into, does its own
        range reach beyond them? An echo that is hidden from the receiver says nothing."""
        for sender in range(self.shape[1]):
            offset = packet.points[:, None, sender] - here[:, :, None]  # [B, M, 120, 2]
            distance = offset.norm(dim=-1)
            beam = torch.floor(torch.atan2(offset[..., 1], offset[..., 0]) / STEP + 0.5).long() % BEAMS
            # an edge moves from beam to beam as the agents move: all three beams around must reach beyond the echo
            around = [(self._own.roll(k, 2), self._own_when.roll(k, 2)) for k in (-1, 0, 1)]
            closest = torch.stack([own for own, _ in around]).amin(0)
            oldest = torch.stack([when for _, when in around]).amin(0)
            own = closest.gather(2, beam)
            fresh = tick - oldest.gather(2, beam) <= 2
            told = packet.delivered[:, :, sender, None] & packet.echo[:, None, sender]
            usable = told & fresh & (distance < own + 0.4) & (distance < 7.5)
            count = usable.sum(-1)
            wrong = (usable & (distance < own - 0.6)).sum(-1)
            verdict = wrong.double() / count.clamp_min(1)
            judged = count >= 3
            change = torch.where(verdict > 0.3, -0.2, 0.05)
            new = (self.trust[:, :, sender] + torch.where(judged, change, 0.0)).clamp(0, 1)
            self.trust[:, :, sender] = new
