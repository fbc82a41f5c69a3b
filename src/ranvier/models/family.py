"""Members of a family of image models: what their cards share is written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ranvier.models.card import ModelCard, Paper, Reported, SpikeType
from ranvier.models.registry import register_model


@dataclass(frozen=True)
class ImageFamily:
    """The fields of `ModelCard` that hold for a family, and the class that builds its members."""

    name: str
    build: Callable[..., nn.Module]
    paper: Paper
    code: str
    deviations: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    counting: str = "all trainable parameters"
    spike_type: SpikeType = "binary"
    streams: bool = True

    def register(
        self,
        name: str,
        params: int,
        summary: str,
        shape: tuple[int, int, int],
        reported: tuple[Reported, ...] = (),
        *,
        num_classes: int = 10,
        T: int = 4,
        deviations: tuple[str, ...] | None = None,
        violations: tuple[str, ...] | None = None,
        **preset: Any,
    ) -> None:
        """Register a member for images `shape`; `deviations` and `violations` replace the family's."""
        found = self.violations if violations is None else violations
        card = ModelCard(
            name=name, family=self.name, params=params, summary=summary, input_shape=shape, num_classes=num_classes,
            T=T, counting=self.counting, spike_type=self.spike_type, spike_driven=not found, violations=found,
            streams=self.streams, paper=self.paper, code=self.code, reported=reported,
            deviations=self.deviations if deviations is None else deviations,
        )  # fmt: skip
        preset |= {"in_channels": shape[0], "img_size": shape[1], "num_classes": num_classes, "T": T}
        register_model(card, self.build, **preset)
