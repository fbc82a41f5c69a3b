"""Several configurations on the same worlds, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ranvier.errors import ArgumentError
from ranvier.loop.config import LoopConfig
from ranvier.loop.report import Report


@dataclass(frozen=True)
class Row:
    """One configuration and what it did."""

    label: str
    config: LoopConfig
    report: Report

    @property
    def standard_error(self) -> float:
        """Of the success rate, over worlds."""
        share, count = self.report.success, len(self.report.episodes)
        return math.sqrt(share * (1 - share) / count)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"label": self.label, "standard_error": self.standard_error, **self.report.summary()}


def compare(configs: Sequence[tuple[str, LoopConfig]], say: Callable[[str], Any] | None = None) -> list[Row]:
    """Run each configuration; all must use the same worlds, so that differences are paired."""
    if not configs:
        raise ArgumentError("configs: expected at least one")
    first = configs[0][1]
    rows: list[Row] = []
    for label, config in configs:
        if (config.seed, config.worlds, config.max_ticks) != (first.seed, first.worlds, first.max_ticks):
            raise ArgumentError(
                f"{label}: runs on other worlds than {configs[0][0]}; set seed, worlds and max_ticks alike"
            )
        loop = config.build()
        report = loop.run(config.worlds, config.seed, noise_seed=config.noise_seed)
        report.config = config.model_dump(mode="json")
        rows.append(Row(label, config, report))
        if say is not None:
            say(f"{label}: success {report.success:.3f}, energy {report.relative():.3f} of full sensing "
                f"({report.wall_s:.0f} s)")  # fmt: skip
    return rows


def paired(first: Report, second: Report) -> tuple[float, float]:
    """Difference in success (second − first) over the same worlds, and its standard error."""
    if [(e.seed, e.agent) for e in first.episodes] != [(e.seed, e.agent) for e in second.episodes]:
        raise ArgumentError("the two reports are not of the same worlds")
    gaps = [float(b.success) - float(a.success) for a, b in zip(first.episodes, second.episodes, strict=True)]
    mean = sum(gaps) / len(gaps)
    variance = sum((g - mean) ** 2 for g in gaps) / max(len(gaps) - 1, 1)
    return mean, math.sqrt(variance / len(gaps))
