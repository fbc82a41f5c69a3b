"""Action to sensing: policies that choose sectors and range."""

from __future__ import annotations

from ranvier.loop.sensing.learned import LearnedSectors, reinforce, task_rollout
from ranvier.loop.sensing.policies import (
    Decision,
    DutyCycle,
    EventTriggered,
    FullScan,
    InfoGain,
    Policy,
    Priority,
    RandomSectors,
    Rotating,
    View,
    build,
    priority,
)

__all__ = [
    "Decision", "DutyCycle", "EventTriggered", "FullScan", "InfoGain", "LearnedSectors", "Policy", "Priority",
    "RandomSectors", "Rotating", "View", "build", "priority", "reinforce", "task_rollout",
]  # fmt: skip
