"""Which sectors to sense, and how far: the controller's intent decides what is looked at next."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import BEAMS, PER_SECTOR, SECTOR_ANGLES, SECTORS
from ranvier.registry import Registry, check_keywords


@dataclass
class View:
    """What a policy may know when it decides: the state before this tick's sensing. Rows first.

    Attributes:
        tick: number of the tick.
        speed, heading, goal_bearing: `[N]`, m/s and radians.
        ranges, known: belief about the surroundings `[N, 120]`.
        std: predicted standard deviation of the ranges `[N, 120]`, or None.
        age: ticks since each sector was sensed `[N, 30]`.
        ring: events of the ring in the last tick `[N, 120]`.
        distrust: trust deficit of the monitor `[N]`, 0 to 1.
        clearance: free distance along the heading `[N]`, as the controller saw it.
        discount: factor on the priority of sectors that a neighbour covers `[N, 30]`.
        noise: uniform numbers `[N, 30]`.
    """

    tick: int
    speed: Tensor
    heading: Tensor
    goal_bearing: Tensor
    ranges: Tensor
    known: Tensor
    std: Tensor | None
    age: Tensor
    ring: Tensor
    distrust: Tensor
    clearance: Tensor
    discount: Tensor
    noise: Tensor


@dataclass
class Decision:
    """Sectors to fire, bool `[N, 30]`, and the range gate `[N]` in metres."""

    sectors: Tensor
    gate: Tensor


class Policy(Protocol):
    """Decides what to sense."""

    def reset(self, rows: int) -> None: ...

    def decide(self, view: View) -> Decision: ...


POLICIES: Registry[Any] = Registry("sensing policy")


def build(text: str, **arguments: Any) -> Any:
    """A policy from `"name"` or `"name:number"`, such as `"priority:3"`; keywords go to its constructor."""
    name, colon, number = str(text).partition(":")
    cls = POLICIES[name]
    if colon:
        first = next((p for p in inspect.signature(cls).parameters if p != "gate"), None)
        if first is None:
            raise ArgumentError(f"sensing policy {name!r} takes no number, got {text!r}")
        try:
            value = float(number) if "." in number else int(number)
        except ValueError:
            raise ArgumentError(f"sensing policy {text!r}: expected a number after the colon") from None
        arguments = {first: value, **arguments}
    check_keywords(cls, arguments, f"sensing policy {name!r}")
    return cls(**arguments)


def _count(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= SECTORS:
        raise ArgumentError(f"k must be a number of sectors from 0 to {SECTORS}, got {k!r}")
    return k


def top(priority: Tensor, k: int | Tensor) -> Tensor:
    """The `k` (one number, or one a row) sectors of highest priority, bool; the lower index wins a tie."""
    order = torch.argsort(priority, dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(priority.shape[1]).expand_as(order))
    return rank < (k if isinstance(k, int) else k[:, None])


class _Gated:
    """Range gate R = min(8, 2.2 + 2.2 v), or the full range."""

    def __init__(self, gate: bool = False, max_range: float = 8.0) -> None:
        self.gate, self.max_range = bool(gate), max_range

    def reset(self, rows: int) -> None:
        """Nothing is kept."""

    def reach(self, view: View) -> Tensor:
        """The gate of this tick: more than the stopping distance plus what obstacles close in."""
        if not self.gate:
            return torch.full_like(view.speed, self.max_range)
        return (2.2 + 2.2 * view.speed).clamp(max=self.max_range)


@POLICIES.register("full")
class FullScan(_Gated):
    """Every sector at every tick."""

    def __init__(self, gate: bool = False) -> None:
        super().__init__(gate)

    def decide(self, view: View) -> Decision:
        return Decision(torch.ones(len(view.speed), SECTORS, dtype=torch.bool), self.reach(view))


@POLICIES.register("duty")
class DutyCycle(_Gated):
    """A full scan every `period`-th tick."""

    def __init__(self, period: int = 10, gate: bool = False) -> None:
        super().__init__(gate)
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            raise ArgumentError(f"period must be a positive number of ticks, got {period!r}")
        self.period = period

    def decide(self, view: View) -> Decision:
        on = view.tick % self.period == 0
        return Decision(torch.full((len(view.speed), SECTORS), on), self.reach(view))


@POLICIES.register("random")
class RandomSectors(_Gated):
    """`k` sectors drawn anew at every tick."""

    def __init__(self, k: int = 3, gate: bool = False) -> None:
        super().__init__(gate)
        self.k = _count(k)

    def decide(self, view: View) -> Decision:
        return Decision(top(view.noise, self.k), self.reach(view))


@POLICIES.register("rotating")
class Rotating(_Gated):
    """`k` neighbouring sectors, going round."""

    def __init__(self, k: int = 3, gate: bool = False) -> None:
        super().__init__(gate)
        self.k = _count(k)

    def decide(self, view: View) -> Decision:
        first = view.tick * self.k
        chosen = torch.zeros(SECTORS, dtype=torch.bool)
        chosen[[(first + i) % SECTORS for i in range(self.k)]] = True
        return Decision(chosen.expand(len(view.speed), -1).clone(), self.reach(view))


def priority(view: View) -> Tensor:
    """Old sectors first; more so ahead, towards the goal, and where something is near `[N, 30]`."""
    ahead = _bump(view.heading)
    goal = _bump(view.goal_bearing)
    nearest = view.ranges.view(-1, SECTORS, PER_SECTOR).min(-1).values
    near = ((2.5 - nearest) / 2.5).clamp(0, 1)
    weight = 0.15 + 1.5 * ahead + 0.6 * goal + 1.0 * near
    return view.age.clamp(max=40).double() * weight * view.discount


def _bump(direction: Tensor) -> Tensor:
    gap = torch.remainder(SECTOR_ANGLES - direction[:, None] + math.pi, 2 * math.pi) - math.pi
    return torch.exp(-0.5 * (gap / 0.6) ** 2)


@POLICIES.register("priority")
class Priority(_Gated):
    """The `k` sectors of highest priority (the reference policy).

    Args:
        k: sectors a tick; the mean of an adaptive one is between `k_min` and `k`.
        k_min: makes the number adaptive: k_min + (k − k_min) clip(risk / risk_0, 0, 1), with
            risk = v / predicted clearance + trust deficit.
        risk_0: the risk at which all k are spent.
    """

    def __init__(self, k: int = 3, gate: bool = False, k_min: int | None = None, risk_0: float = 1.0) -> None:
        super().__init__(gate)
        self.k = _count(k)
        self.k_min = None if k_min is None else _count(k_min)
        if self.k_min is not None and self.k_min > self.k:
            raise ArgumentError(f"k_min must not exceed k ({k}), got {k_min}")
        if not risk_0 > 0:
            raise ArgumentError(f"risk_0 must be positive, got {risk_0}")
        self.risk_0 = risk_0

    def score(self, view: View) -> Tensor:
        """Priority of each sector `[N, 30]`."""
        return priority(view)

    def budget(self, view: View) -> int | Tensor:
        """Sectors to spend this tick."""
        if self.k_min is None:
            return self.k
        risk = view.speed / view.clearance.clamp_min(0.1) + view.distrust
        return (self.k_min + (self.k - self.k_min) * (risk / self.risk_0).clamp(0, 1)).round().long()

    def decide(self, view: View) -> Decision:
        return Decision(top(self.score(view), self.budget(view)), self.reach(view))


@POLICIES.register("info_gain")
class InfoGain(Priority):
    """Priority times the predictor's standard deviation, plus the ring's events."""

    def score(self, view: View) -> Tensor:
        base = priority(view)
        events = view.ring.view(-1, SECTORS, PER_SECTOR).sum(-1)
        if view.std is None:
            return base + events
        spread = view.std.double().clamp(0, 4).view(-1, SECTORS, PER_SECTOR).mean(-1)
        return base * (0.25 + spread) + events * view.discount


@POLICIES.register("event")
class EventTriggered(_Gated):
    """Sense a sector only if its predicted error or the ring's events exceed a threshold.

    The predicted error is the predictor's standard deviation, or 0.05 m a tick of age where it states none.

    Args:
        error: metres of predicted error.
        events: events in the sector since it was last sensed.
        most: sectors a tick at most, by error.
    """

    def __init__(self, error: float = 1.0, events: float = 4.0, most: int = SECTORS, gate: bool = False) -> None:
        super().__init__(gate)
        if not error > 0 or not events > 0:
            raise ArgumentError(f"error and events must be positive, got {error} and {events}")
        self.error, self.events, self.most = error, events, _count(most)

    def reset(self, rows: int) -> None:
        self._events = torch.zeros(rows, SECTORS, dtype=torch.float64)

    def decide(self, view: View) -> Decision:
        self._events += view.ring.view(-1, SECTORS, PER_SECTOR).sum(-1)
        expected = 0.05 * view.age.double()
        if view.std is not None:
            expected = torch.maximum(expected, view.std.double().view(-1, SECTORS, PER_SECTOR).mean(-1))
        share = torch.maximum(expected / self.error, self._events / self.events) * view.discount
        chosen = (share >= 1) & top(share, self.most)
        self._events = torch.where(chosen, 0.0, self._events)
        return Decision(chosen, self.reach(view))


assert BEAMS == SECTORS * PER_SECTOR
