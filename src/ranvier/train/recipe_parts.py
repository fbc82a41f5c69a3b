"""Kinds of numbers in a recipe, and the sections of single methods."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Number = Annotated[int, Field(ge=0, strict=True)]  # 1.0 is neither a share nor a number of samples


class Section(BaseModel):
    """A part of a recipe: unknown keys are an error, numbers are finite, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class SpamSection(Section):
    """Options of the optimizers spam and stable_spam (`ranvier.optim`); the defaults are theirs.

    `gamma1` to `gamma3` and `total_steps` are of stable_spam, whose `reset_interval` is 1000 by default; the others but
    `eps` (1e-6, and 1e-8 for stable_spam) are of spam alone. `include` names the layers to which a `density` below 1
    applies, by parts of their module names; empty: every weight of at least two dimensions.
    """

    threshold: NonNegative = 5000.0
    reset_interval: Whole | None = None
    warmup_steps: Whole = 150
    grace_steps: Whole = 20
    density: Annotated[float, Field(gt=0, le=1)] = 1.0
    include: tuple[str, ...] = ()
    mask_strategy: Literal["random", "max_weight", "max_gradient"] = "random"
    bias_correction: Literal["global", "restart"] = "global"
    guard_zero_v: bool = True
    clip_mode: Literal["clip", "zero"] = "clip"
    threshold_on: Literal["raw", "corrected"] = "raw"
    eps: NonNegative | None = None
    gamma1: Share = 0.7
    gamma2: Share = 0.9
    gamma3: Share = 0.999
    total_steps: Count | None = None
    compat: bool = False


class DistillSection(Section):
    """Distillation from a float teacher (`ranvier.train.FineGrainedDistillation`); without `teacher` there is none.

    Attributes:
        teacher: the folder of its run.
        mode: of matching queries, keys and values: gram, mse or none.
        weight: of that loss.
        logits: also match the decisions: soft (divergence at `temperature`) or hard (the teacher's label).
        logits_weight, temperature: of that loss.
    """

    teacher: str | None = None
    mode: Literal["gram", "mse", "none"] = "gram"
    weight: NonNegative = 0.1
    logits: Literal["none", "soft", "hard"] = "none"
    logits_weight: NonNegative = 0.5
    temperature: Positive = 1.0


class TransferSection(Section):
    """Transfer from static images to event data (`ranvier.train.transfer`); without `data` there is none.

    Attributes:
        data, root, options: the data set of images, as in `ranvier.data.load`; `root` is by default that of the events.
        share: of its training images that are used.
        channel: of the images: value (the V of HSV), blue or grey.
        pairing: class, instance (the picture that was recorded) or shuffled (another class: a control).
        tap, what: the layer whose features are aligned, and what of it; by default what the model names.
        heads, norms: separate or shared between the domains.
        coefficient: of the alignment, 0 for none.
        distance, kernel, debiased: of the alignment (`DomainAlignmentLoss`).
        sliding: power, switch or none; `power` is the exponent.
        temporal: learned, fixed (at `temporal_value`) or none; `temporal_init`, `temporal_bounds` and
            `temporal_entropy` as in `TemporalCoefficients`.
        semantic: weight of the term that keeps recordings from images of other classes (`SemanticLoss`), with
            `semantic_margin`, in the first `semantic_until` of all updates.
    """

    data: str | None = None
    root: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    channel: Literal["value", "blue", "grey"] = "value"
    pairing: Literal["class", "instance", "shuffled"] = "class"
    tap: str | None = None
    what: Literal["output", "input", "membrane"] = "output"
    heads: Literal["separate", "shared"] = "separate"
    norms: Literal["separate", "shared"] = "shared"
    coefficient: NonNegative = 0.5
    distance: Literal["cka", "mmd", "coral"] = "cka"
    kernel: Literal["linear", "rbf"] = "linear"
    debiased: bool = False
    sliding: Literal["power", "switch", "none"] = "power"
    power: NonNegative = 3.0
    temporal: Literal["learned", "fixed", "none"] = "learned"
    temporal_value: Probability = 0.5
    temporal_init: float = 1.0
    temporal_bounds: tuple[Probability, Probability] | None = None
    temporal_entropy: NonNegative = 0.0
    semantic: NonNegative = 0.0
    semantic_margin: Annotated[float, Field(ge=0, lt=1)] = 0.2
    semantic_until: Probability = 0.5
