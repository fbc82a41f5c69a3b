"""Who spent what, in whole numbers: per agent, per stage, and the trace that the sums must equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, RanvierError

QUANTITIES = ("energy_nj", "busy_us", "bits", "beams", "spikes", "acs", "macs", "events")


class LedgerError(RanvierError):
    """The sums of a ledger are not those of its trace."""


@dataclass(frozen=True)
class Entry:
    """One charge: when, which stage, and int64 `[rows]` of each quantity."""

    time_us: int
    stage: str
    amounts: dict[str, Tensor]


class Ledger:
    """Energy (nJ), busy time (us), bits, beams, spikes, additions, MACs and events of every stage.

    All amounts are int64, so sums are exact; what a stage computes as a fraction is rounded up once, when charged.

    Args:
        rows: agents that are accounted for (worlds x agents).
        trace: keep every charge, for `check` and for plots over time.
    """

    def __init__(self, rows: int, trace: bool = True) -> None:
        if rows < 1:
            raise ArgumentError(f"rows must be positive, got {rows}")
        self.rows, self.keeps_trace = rows, trace
        self.totals: dict[str, dict[str, Tensor]] = {}
        self.trace: list[Entry] = []

    def charge(self, stage: str, time_us: int, **amounts: Tensor | int) -> None:
        """Book amounts (`energy_nj=...`, whole numbers, one for all rows or `[rows]`) on `stage`."""
        booked: dict[str, Tensor] = {}
        for name, amount in amounts.items():
            if name not in QUANTITIES:
                raise ArgumentError(f"{name}: a ledger knows {', '.join(QUANTITIES)}")
            given = torch.as_tensor(amount)
            if given.is_floating_point() or given.is_complex():
                raise ArgumentError(f"{name} of {stage}: amounts are whole numbers, got {given.dtype}")
            given = given.to(torch.int64).expand(self.rows)
            if bool((given < 0).any()):
                raise ArgumentError(f"{name} of {stage}: amounts are not negative, got {int(given.min())}")
            booked[name] = given
        account = self.totals.setdefault(stage, {})
        for name, amount in booked.items():
            account[name] = account[name] + amount if name in account else amount.clone()
        if self.keeps_trace:
            self.trace.append(Entry(time_us, stage, {name: amount.clone() for name, amount in booked.items()}))

    def total(self, quantity: str = "energy_nj", stage: str | None = None) -> Tensor:
        """Sum over the stages (or of one), int64 `[rows]`."""
        chosen = self.totals.values() if stage is None else [self.totals.get(stage, {})]
        result = torch.zeros(self.rows, dtype=torch.int64)
        for account in chosen:
            result = result + account.get(quantity, 0)
        return result

    def stages(self, quantity: str = "energy_nj") -> Iterator[tuple[str, Tensor]]:
        """Stages and their totals, in the order of their first charge."""
        for stage in self.totals:
            yield stage, self.total(quantity, stage)

    def check(self) -> None:
        """Raise `LedgerError` unless every total is exactly the sum of the trace."""
        if not self.keeps_trace:
            raise ArgumentError("this ledger keeps no trace; make it with trace=True")
        again: dict[tuple[str, str], Tensor] = {}
        for entry in self.trace:
            for name, amount in entry.amounts.items():
                key = (entry.stage, name)
                again[key] = again[key] + amount if key in again else amount.clone()
        for stage, account in self.totals.items():
            for name, total in account.items():
                if not torch.equal(total, again[stage, name]):
                    raise LedgerError(f"{name} of {stage}: the total is not the sum of the trace")
