"""What a recipe may say: a run is data, checked key by key before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ranvier.errors import ConfigError, nearest
from ranvier.train.recipe_parts import (
    Count,
    DistillSection,
    NonNegative,
    Number,
    Positive,
    Probability,
    Section,
    Share,
    SpamSection,
    TransferSection,
    Whole,
)

# Where a run reads and what it prints change no number, so they are left out of the hash.
_NOT_CONTENT = (("name",), ("log",), ("data", "root"), ("data", "prefetch"))


class AugmentSection(Section):
    """Augmentation of the training batches, as in `ranvier.data.Augment`; the defaults do nothing.

    `mix_off_epoch` is the first epoch (counted from 0) without mixup and CutMix; None keeps them to the end.
    """

    crop: Whole = 0
    flip: bool = False
    randaugment: tuple[int, float] | tuple[int, float, float] | None = None
    jitter: NonNegative | tuple[float, ...] = 0.0
    erasing: Probability = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    cloud_scale: Probability = 0.0
    cloud_shift: NonNegative = 0.0
    cloud_crop: Probability = 0.0
    mix_off_epoch: Whole | None = None


class DataSection(Section):
    """The data set and how it is cut into batches.

    Attributes:
        name, root, options: of `ranvier.data.load`.
        batch_size: samples of one forward pass, over all processes; a step takes `train.accumulate` of them.
        eval_batch_size: samples of one forward pass when evaluating, a process.
        validation: share (a float below 1) or number of training samples set aside to select the weights on; 0 keeps
            all for training, and the weights of the last epoch are the result.
        limit_train, limit_test: use a fixed stratified part of that many samples.
        normalize: the direct encoder gets the mean and the spread of the training images.
        fold: cross-validation: `[i, k]` makes the i-th (from 0) of k stratified parts of all samples, those of the test
            part included, the test part; the rest is trained on.
        balanced: every epoch draws with replacement, all classes equally often.
        prefetch: batches prepared ahead by a thread.
    """

    name: Annotated[str, Field(min_length=1)]
    root: str | None = None
    batch_size: Count = 64
    eval_batch_size: Count = 256
    validation: Number | Share = 0.1
    limit_train: Count | None = None
    limit_test: Count | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    augment: AugmentSection = AugmentSection()
    normalize: bool = True
    fold: tuple[Whole, Count] | None = None
    balanced: bool = False
    prefetch: Whole = 1

    @model_validator(mode="after")
    def _folds(self) -> DataSection:
        if self.fold is not None and not self.fold[0] < self.fold[1] >= 2:
            raise ValueError(f"fold must be [i, k] with i from 0 to k - 1 and k at least 2, got {list(self.fold)}")
        return self


class ModelSection(Section):
    """A registered model and the arguments of `ranvier.create_model`; the data set gives its shapes where they lack."""

    name: Annotated[str, Field(min_length=1)]
    args: dict[str, Any] = Field(default_factory=dict)


class GroupSection(Section):
    """Parameters that are trained in their own way.

    Attributes:
        match: shell-style pattern of their names in the model, such as "*.delay"; the first group that matches counts.
        lr, weight_decay, schedule: in place of those of the recipe; None keeps them.
    """

    match: Annotated[str, Field(min_length=1)]
    lr: Positive | None = None
    weight_decay: NonNegative | None = None
    schedule: Literal["constant", "cosine", "onecycle", "step"] | None = None


class TrainSection(Section):
    """Optimisation.

    Attributes:
        epochs, max_steps: the run ends at whichever comes first; one step is one update of the weights.
        optimizer: adamw, adam, sgd (with `momentum`, `nesterov`), lamb (with `trust_clip`), spam or stable_spam (with
            `spam`). Weight decay leaves biases, normalisation and neuron parameters alone unless `decay_norm` is true.
        schedule: constant, cosine (to `min_lr`), onecycle, or step (times `gamma` every `step_epochs`). All but
            onecycle climb linearly from `warmup_lr` during `warmup_epochs`; onecycle climbs as a cosine, by default
            during 30 % of the run from lr / 25. The last `cooldown_epochs` stay at the final rate.
        schedule_by: "step" changes the rate at every step, "epoch" once an epoch (onecycle then has the epochs of
            PyTorch's scheduler of that name: the highest rate in epoch 0.3 · epochs − 1).
        cycle_momentum: onecycle also moves the first of the betas, from 0.95 down to 0.85 and back, against the rate.
        groups: parameters with a rate, decay or schedule of their own.
        readout: what of the outputs over time a cross-entropy and every decision look at: mean, sum, softmax_sum (the
            sum of every step's softmax), max or last.
        loss: cross_entropy of the readout, tet (each step on its own, with `tet_lambda` and `tet_target`), spike_mse
            and rate_mse (squared error of votes at every step, or of their mean over time), binary
            (each class of each step on its own: logistic regression), or
            denoising (of a model whose task that is: squared error of the noise).
        distill: a teacher, see `DistillSection`.
        transfer: images to learn from beside events, see `TransferSection`.
        start: the folder of a run whose weights the net begins with; its head too, where the shapes are the same.
        l2_wrap: of language models: pull on the largest logits (`ranvier.train.next_token_loss`).
        clip_norm: largest gradient norm, 0 for no limit.
        accumulate: batches of one step.
        ema: decay of the moving average of the weights that is evaluated instead of them, 0 for none.
        precision, accelerator, devices, nodes, strategy: of Lightning Fabric. `devices` processes on each of `nodes`
            machines share each batch. fsdp also shards weights, gradients and moments; ..._spawn and ..._fork say how
            the processes of one machine start. A run may be continued with other devices, nodes and strategy.
        sync_norm: batch normalisation takes its statistics over all processes, as one process would.
        non_finite: when a batch, its loss or a gradient is not finite: stop, or skip the update (weights, moments,
            averages and running statistics stay as they were) up to `non_finite_limit` times in a row.
        threads: of PyTorch on the CPU; None leaves them as they are.
        deterministic: refuse operations that have no deterministic form on the device.
        checkpoint_epochs, checkpoint_steps: a checkpoint every so many epochs (0: only improved ones and the last)
            and, inside epochs, every so many steps (0: none).
    """

    epochs: Count = 20
    max_steps: Count | None = None
    optimizer: Literal["adamw", "adam", "sgd", "lamb", "spam", "stable_spam"] = "adamw"
    spam: SpamSection = SpamSection()
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    decay_norm: bool = False
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    momentum: Share = 0.9
    nesterov: bool = False
    trust_clip: bool = False
    schedule: Literal["constant", "cosine", "onecycle", "step"] = "cosine"
    schedule_by: Literal["step", "epoch"] = "step"
    cycle_momentum: bool = False
    groups: tuple[GroupSection, ...] = ()
    warmup_epochs: NonNegative = 0.0
    warmup_lr: NonNegative = 0.0
    min_lr: NonNegative = 0.0
    cooldown_epochs: NonNegative = 0.0
    step_epochs: Positive = 30.0
    gamma: Positive = 0.1
    readout: Literal["mean", "sum", "softmax_sum", "max", "last"] = "mean"
    loss: Literal["cross_entropy", "tet", "binary", "denoising", "spike_mse", "rate_mse"] = "cross_entropy"
    label_smoothing: Share = 0.0
    l2_wrap: NonNegative = 0.0
    tet_lambda: Probability = 0.05
    tet_target: float = 1.0
    distill: DistillSection = DistillSection()
    transfer: TransferSection = TransferSection()
    start: str | None = None
    clip_norm: NonNegative = 0.0
    accumulate: Count = 1
    ema: Share = 0.0
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: Count = 1
    nodes: Count = 1
    strategy: Literal["auto", "ddp", "ddp_spawn", "ddp_fork", "fsdp", "fsdp_spawn", "fsdp_fork"] = "auto"
    sync_norm: bool = False
    non_finite: Literal["stop", "skip"] = "stop"
    non_finite_limit: Count = 10
    compile: bool = False
    recompute: bool = False  # less memory for about a third more time: `ranvier.recompute`
    threads: Count | None = None
    deterministic: bool = False
    checkpoint_epochs: Whole = 1
    checkpoint_steps: Whole = 0

    @model_validator(mode="after")
    def _fits(self) -> TrainSection:
        if self.warmup_epochs + self.cooldown_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} and cooldown_epochs {self.cooldown_epochs:g} do not fit into "
                f"{self.epochs} epochs"
            )
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}")
        if self.compile and self.recompute:
            raise ValueError("recompute works on nets that are not compiled; choose one of compile and recompute")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.loss == "tet" and self.readout != "mean":
            raise ValueError(
                f"the loss tet judges every step, and decides by their mean; it has no readout {self.readout}"
            )
        if self.cycle_momentum and (self.schedule != "onecycle" or self.optimizer not in ("adam", "adamw", "lamb")):
            raise ValueError(
                "cycle_momentum needs the schedule onecycle and an optimizer with betas (adam, adamw, lamb)"
            )
        if self.strategy.startswith("fsdp"):
            self._shards()
        return self

    def _shards(self) -> None:
        """What cannot be sharded."""
        if self.optimizer == "spam" and self.spam.density < 1:
            raise ValueError("fsdp cannot shard SPAM's sparse moments (spam.density below 1), whose masks would depend "
                             "on the number of processes; use density 1 or strategy ddp")  # fmt: skip
        if self.compile or self.precision == "16-mixed":
            raise ValueError("fsdp works on nets that are not compiled, in 32-true, 64-true or bf16-mixed; use ddp")


class LogSection(Section):
    """What a run writes about itself: a line every so many steps, and TensorBoard files on request."""

    every: Count = 20
    tensorboard: bool = False


class Recipe(Section):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=120)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataSection
    model: ModelSection
    train: TrainSection = TrainSection()
    log: LogSection = LogSection()

    def hash(self) -> str:
        """SHA-256 of all that decides the numbers (not of name, log and data folder), equal on every machine."""
        content = self.model_dump(mode="json")
        for *parents, last in _NOT_CONTENT:
            section = content
            for parent in parents:
                section = section[parent]
            del section[last]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """Every key with its value; `load_recipe` reads it back to an equal recipe."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def parse_recipe(document: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A validated recipe from a mapping; `ConfigError` names `where`, the dotted key and what was expected."""
    try:
        recipe = Recipe.model_validate(dict(document))
        json.dumps(recipe.model_dump(), allow_nan=False)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error)}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where}: holds a value that is not plain data ({error})") from None
    return recipe


def explain(error: ValidationError) -> str:
    """One line for the first thing that is wrong with a recipe."""
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    keys = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return f"unknown key {'.'.join(keys)!r}{nearest_key(keys)}"
    path = ".".join(_real_keys(keys)) or "the recipe"
    if first["type"] == "missing":
        return f"{path}: this key is required" if path == ".".join(keys) else f"{path}: lacks a value"
    if first["type"] == "model_type":
        return f"{path}: this is a section with keys of its own, got {first['input']!r:.80}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f", got {first['input']!r:.80}"
    return f"{path}: {message[:1].lower()}{message[1:]}{given}"


def nearest_key(keys: list[str]) -> str:
    """A `; did you mean 'train.lr'?` suffix with the whole dotted path, from the same section first."""
    known = dotted_keys()
    parent, last = ".".join(keys[:-1]), keys[-1]
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    suffix = nearest(last, siblings)
    if suffix.startswith("; did"):
        leaf = suffix.split("'")[1]
        return f"; did you mean {siblings[leaf]!r}?"
    elsewhere = [key for key in known if key.rpartition(".")[2] == last]
    if len(elsewhere) == 1:
        return f"; did you mean {elsewhere[0]!r}?"
    return suffix or nearest(".".join(keys), known)


def dotted_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every key of a recipe with its dotted path, sections included."""
    keys: list[str] = []
    for name, info in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += dotted_keys(info.annotation, f"{prefix}{name}.")
    return keys


def _real_keys(keys: list[str]) -> list[str]:
    """`keys` up to the last one that is a key of a recipe: the rest are branches of a union, or places in a list."""
    known = set(dotted_keys())
    for length in range(len(keys), 0, -1):
        if ".".join(keys[:length]) in known:
            return keys[:length]
    return keys
