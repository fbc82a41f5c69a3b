"""What a registered model says about itself: typed, tested, and free of the model's weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SpikeType = Literal["binary", "ternary", "integer", "real"]


@dataclass(frozen=True)
class Paper:
    """A publication: title, venue and identifier (arXiv number or DOI)."""

    title: str
    venue: str
    id: str = ""


@dataclass(frozen=True)
class Reported:
    """A number that a publication prints (percent top-1 unless `metric` says otherwise); never one of ours."""

    dataset: str
    value: float
    source: str
    metric: str = "top1"
    T: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """The card of a registered model.

    `params` is what the publication counts, in the `counting` convention; a test instantiates the model and compares.
    `streams` is False for a model that looks at all steps at once. `task` is "classification" for the
    models that map images to per-step logits, "denoising" for `Denoiser`. `spike_driven` is the design's claim
    (`ranvier audit` measures it); `violations` lists what enters a synaptic layer and is not a spike. `deviations`
    lists what differs from the original code.
    """

    name: str
    family: str
    params: int
    summary: str
    input_shape: tuple[int, ...]
    num_classes: int
    T: int = 4
    counting: str = "all trainable parameters"
    spike_type: SpikeType = "binary"
    spike_driven: bool = True
    violations: tuple[str, ...] = ()
    streams: bool = True
    task: str = "classification"
    paper: Paper | None = None
    code: str = ""
    reported: tuple[Reported, ...] = ()
    deviations: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-ready values."""
        return asdict(self)
