"""Configuration files of STEP (one YAML a model and data set) as recipes of Ranvier.

Source: Shen et al., STEP: A unified spiking transformer evaluation platform, NeurIPS 2025, arXiv 2505.11151; the files
in `cls/configs` of its repository. There a key that nobody reads is ignored; here every key is mapped, or known to
change no number, or an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ranvier.errors import ConfigError, nearest

if TYPE_CHECKING:
    from ranvier.train.recipe import Recipe


@dataclass(frozen=True)
class _Model:
    """Our model, the patch that its stem makes, and which keys of STEP its blocks do not have."""

    name: str
    patch: int
    without: tuple[str, ...] = ()


MODELS: dict[str, _Model] = {
    "spikformer_cifar": _Model("spikformer_cifar_4_384", 4),
    "sdt_cifar": _Model("sdt_cifar_2_512", 4, ("attn_scale",)),
    "qkformer_cifar": _Model("qkformer_cifar_4_384", 4),
    "spikingformer_cifar": _Model("spikingformer_cifar_4_384", 4),
    "sglformer_cifar": _Model("sglformer_cifar_1_384", 4),
    "spikf_semm_cifar": _Model("semm_spikformer_cifar_4_384", 4),
    "swformer_cifar": _Model("swformer_cifar_4_384", 4, ("num_heads", "attn_scale")),
    "spikingresformer_cifar": _Model(
        "spikingresformer_cifar", 4, ("embed_dim", "depths", "num_heads", "mlp_ratio", "attn_scale")
    ),
    "tim": _Model("tim_dvs", 16),
    "spikformer_imagenet": _Model("spikformer_8_512", 16),
    "sdt_imagenet": _Model("sdt_8_512", 16, ("attn_scale",)),
    "std_imagenet": _Model("sdt_8_512", 16, ("attn_scale",)),  # so it is spelt in STEP's own file
    "spikf_semm_imagenet": _Model("semm_spikformer_8_512", 16, ("mlp_ratio",)),
    "qkformer_imagenet": _Model("qkformer_10_512", 16),
}
"""Models of STEP that have an equal here."""

DATASETS: dict[str, str] = {
    "torch/cifar10": "cifar10", "torch/cifar100": "cifar100", "mnist": "mnist", "imagenet": "image_folder",
    "dvsc10": "cifar10_dvs",
}  # fmt: skip

NEURONS: dict[str, dict[str, Any]] = {
    "IFNode": {"type": "if"},
    "LIFNode": {"type": "lif"},
    "PLIFNode": {"type": "plif"},
    "EIFNode": {"type": "eif", "delta": 1.0, "rheobase": 0.8, "v_reset": -0.1, "allow_self_firing": True},
    "KLIFNode": {"type": "klif"},
    "ComplementaryLIFNeuron": {"type": "clif"},
    "GLIFTorch": {"type": "glif"},
    "PSNTorch": {"type": "psn"},
    "ILIFNode": {"type": "i_lif", "levels": 2},
    "NILIFNode": {"type": "ni_lif", "levels": 2},
    "HDLIFNode": {"type": "hd_lif", "per_channel": True},
    "LIFNode_Spikingjelly": {"type": "lif", "backend": "spikingjelly"},
}

SURROGATES: dict[str, str] = {"SigmoidGrad": "sigmoid", "AtanGrad": "atan", "QGateGrad": "triangle"}

STEMS: dict[str, str | None] = {"SPS": None, "vit_embed": "patchify", "conv2_embed": "conv2"}

ATTENTIONS: dict[str, dict[str, Any]] = {
    "SSA": {}, "SDSA": {}, "random_attn": {"freeze_qk": "weights"}, "random_ssa": {"freeze_qk": "weights"},
    "repconv_attn": {"attention": "sdsa3"}, "repconv": {"attention": "sdsa3"},
}  # fmt: skip

IDLE = (
    "output", "device", "workers", "data_dir", "crop_pct", "interpolation", "train_interpolation", "channels-last",
    "model-ema-decay",
)  # fmt: skip
"""Keys that change no number of images in their own size, or say only where things lie."""


@dataclass
class Imported:
    """The recipe, and in words what it does otherwise than STEP."""

    recipe: Recipe
    notes: list[str] = field(default_factory=list)


def import_step(path: str | Path) -> Imported:
    """Read a configuration file of STEP's classification part.

    Raises `ConfigError` for a file that cannot be read, a key that is not known, or a setting without an equal here.
    """
    from ranvier.train.recipe_file import parse_yaml

    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"STEP configuration {file}: cannot be read ({error})") from error
    document = parse_yaml(text, f"STEP configuration {file}")
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"STEP configuration {file}: expected a mapping of settings")
    return convert(document, file.parent.name + "-" + file.stem, f"STEP configuration {file}")


def convert(document: Mapping[str, Any], name: str, where: str = "STEP configuration") -> Imported:
    """A configuration given as a mapping; see `import_step`."""
    from ranvier.train.recipe import parse_recipe

    keys = _Keys(document, where)
    notes = [
        "STEP chooses the epoch on the test split; here a validation split chooses it, and the test split is read once"
    ]
    model, steps = _model(keys, notes)
    recipe: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", f"step-{name}").strip("-."),
        "seed": keys.take("seed", 42),
        "data": _data(keys, notes),
        "model": {"name": model.name, "args": steps},
        "train": _train(keys),
        "log": {"every": keys.take("log_interval", 200)},
    }
    for key in IDLE:
        keys.take(key, None)
    keys.refuse_the_rest()
    return Imported(parse_recipe(recipe, where), notes)


class _Keys:
    """The settings of a file, each taken once; what is left over in the end is an error."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.left, self.where = dict(document), where
        self.known: set[str] = set(IDLE)

    def take(self, key: str, default: Any) -> Any:
        self.known.add(key)
        value = self.left.pop(key, default)
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        value = self.take(key, default)
        if isinstance(value, str):  # YAML reads 5e-4 as text
            try:
                value = float(value)
            except ValueError:
                self.fail(key, f"expected a number, got {value!r}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            self.fail(key, f"expected a number, got {value!r:.60}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        if default is None and self.left.get(key) is None:
            self.fail(key, "is missing")
        value = self.number(key, 0 if default is None else default)
        if value != int(value):
            self.fail(key, f"expected an integer, got {value!r}")
        return int(value)

    def numbers(self, key: str, default: list[float]) -> list[float]:
        value = self.take(key, default)
        if not isinstance(value, list) or not all(isinstance(v, int | float) and abs(v) < 1e300 for v in value):
            self.fail(key, f"expected a list of numbers, got {value!r}")
        return [float(v) for v in value]

    def choice(self, key: str, default: str, table: Mapping[str, Any]) -> Any:
        value = self.take(key, default)
        if not isinstance(value, str) or value not in table:
            self.fail(key, f"{value!r} has no equal here{nearest(str(value), table)}; known: {', '.join(table)}")
        return table[value]

    def only(self, key: str, *values: Any) -> None:
        value = self.take(key, values[0])
        if value not in values:
            self.fail(key, f"only {values[0]!r} has an equal here, got {value!r}")

    def fail(self, key: str, what: str) -> NoReturn:
        raise ConfigError(f"{self.where}: {key}: {what}")

    def refuse_the_rest(self) -> None:
        for key in self.left:
            raise ConfigError(f"{self.where}: unknown key {key!r}{nearest(key, self.known)}")


def _model(keys: _Keys, notes: list[str]) -> tuple[_Model, dict[str, Any]]:
    from ranvier.models import MODELS as REGISTERED

    model: _Model = keys.choice("model", str(keys.left.get("model")), MODELS)
    takes = signature(REGISTERED[model.name].builder).parameters
    steps = keys.integer("step")
    args: dict[str, Any] = {"T": steps, "num_classes": keys.integer("num_classes")}
    args["in_channels"] = keys.integer("in_channels", 3)
    size = keys.integer("img_size", 32)
    size = keys.integer("event_size", size)
    args["img_size"] = size
    if (patch := keys.integer("patch_size", model.patch)) != model.patch:
        keys.fail("patch_size", f"the stem of {model.name} makes patches of {model.patch}, got {patch}")
    sizes = {"embed_dim": "embed_dim", "depths": "depth", "num_heads": "num_heads", "mlp_ratio": "mlp_ratio",
             "attn_scale": "scale"}  # fmt: skip
    for theirs, ours in sizes.items():
        if theirs not in keys.left:
            keys.known.add(theirs)
        elif theirs in model.without or ours not in takes:
            notes.append(f"{theirs}: {keys.take(theirs, None)} is not read: {model.name} has no such setting")
        else:
            args[ours] = keys.number(theirs, 0) if ours in ("mlp_ratio", "scale") else keys.integer(theirs)
            if ours != "scale" and args[ours] <= 0:
                keys.fail(theirs, f"expected a positive number, got {args[ours]!r}")
    if "embed_dim" in args and "num_heads" in args and args["embed_dim"] % args["num_heads"]:
        keys.fail("num_heads", f"must divide embed_dim {args['embed_dim']}, got {args['num_heads']}")
    if model.name.startswith("semm") and "embed_dim" in args:
        args["attention_options"] = {"experts": 4, "expert_dim": args["embed_dim"] // 4}
    keys.only("mlp_drop", 0.0, 0)
    keys.only("attn_drop", 0.0, 0)
    if "tim_alpha" in keys.left:
        args["attention_options"] = {"alpha": keys.number("tim_alpha", 0.5)}
    stem = keys.choice("embed_layer", "SPS", STEMS)
    changes = dict(keys.choice("attn_layer", "SSA", ATTENTIONS)) | ({"stem": stem} if stem else {})
    for key in changes:
        if key not in takes:
            keys.fail("attn_layer" if key != "stem" else "embed_layer", f"{model.name} has no argument {key!r}")
    args |= changes
    args["neuron"] = _neuron(keys, steps, notes)
    args["encoder"] = _encoder(keys, args["in_channels"])
    return model, {key: value for key, value in args.items() if value is not None}


def _neuron(keys: _Keys, steps: int, notes: list[str]) -> dict[str, Any]:
    from ranvier.neurons import NEURONS as REGISTERED

    spec: dict[str, Any] = dict(keys.choice("node_type", "LIFNode", NEURONS))
    takes = signature(REGISTERED[spec["type"]]).parameters
    surrogate = {"type": keys.choice("act_function", "SigmoidGrad", SURROGATES), "alpha": keys.number("alpha", 4.0)}
    if surrogate != {"type": "sigmoid", "alpha": 4.0}:
        notes.append("the surrogate acts here; in STEP's code the setting never reaches the neuron (sigmoid, α = 4)")
    given = {"tau": keys.number("tau", 2.0), "threshold": keys.number("threshold", 1.0), "surrogate": surrogate}
    if spec["type"] == "psn" or spec["type"] == "hd_lif":
        spec["steps"] = steps
        given.pop("tau")
    if spec["type"] in ("glif", "psn", "clif", "hd_lif"):
        notes.append("a lower threshold behind attention acts here; STEP's neuron of this kind has a fixed one")
        if spec["type"] != "clif":
            given.pop("threshold")
    return spec | {key: value for key, value in given.items() if key in takes}


def _encoder(keys: _Keys, channels: int) -> dict[str, Any] | None:
    mean, std = keys.numbers("mean", []), keys.numbers("std", [])
    if not mean or not std:
        return None
    return {"type": "direct", "mean": mean[:channels], "std": std[:channels]}


def _data(keys: _Keys, notes: list[str]) -> dict[str, Any]:
    from ranvier.data import DATASETS as REGISTERED

    name = keys.choice("dataset", str(keys.left.get("dataset")), DATASETS)
    if name not in REGISTERED:
        keys.fail("dataset", f"the data set {name!r} is not in this version of Ranvier")
    keys.take("sequence_length", None)
    validation: float | int = 5000 if name.startswith("cifar10") and name != "cifar10_dvs" else 0.1
    if any(side != 1 for key in ("scale", "ratio") for side in keys.numbers(key, [1.0, 1.0])):
        keys.fail("scale", "random resized crops other than 1.0 to 1.0 have no equal here")
    return {
        "name": name, "batch_size": keys.integer("batch_size"),
        "eval_batch_size": keys.integer("val_batch_size", 256), "validation": validation,
        "augment": _augment(keys, name, notes),
    }  # fmt: skip


def _augment(keys: _Keys, name: str, notes: list[str]) -> dict[str, Any]:
    jitter = keys.number("color_jitter", 0.0)
    policy = keys.take("aa", None)
    found: dict[str, Any] = {"flip": name != "cifar10_dvs"}
    if found["flip"] and name == "mnist":
        notes.append("digits are flipped, as STEP's loader does it")
    if policy is not None:
        found["randaugment"] = _randaugment(keys, str(policy))
        if jitter:
            notes.append(f"color_jitter: {jitter} is not read beside aa, as in timm")
    elif jitter:
        found["jitter"] = jitter
    found["erasing"] = keys.number("reprob", 0.0)
    keys.only("remode", "const")
    found["mixup"], found["cutmix"] = keys.number("mixup", 0.0), keys.number("cutmix", 0.0)
    keys.only("mixup_prob", 1.0, 1)
    keys.only("mixup_mode", "batch")
    keys.only("mixup_switch_prob", 0.5)
    found["mix_off_epoch"] = keys.integer("mixup_off_epoch", 0) or None
    return found


def _randaugment(keys: _Keys, policy: str) -> list[float]:
    """`rand-m9-n1-mstd0.4-inc1`: timm counts magnitudes to 10, ours count to 30; two operations where n is not said."""
    parts = policy.split("-")
    values = dict(re.findall(r"-(mstd|m|n|inc)(\d+(?:\.\d+)?)", "-" + policy.partition("-")[2]))
    if parts[0] != "rand" or "m" not in values or values.get("inc", "1") != "1" or len(values) != len(parts) - 1:
        keys.fail("aa", f"expected a policy such as 'rand-m9-n1-mstd0.4-inc1', got {policy!r}")
    found = [int(values.get("n", 2)), 3 * float(values["m"])]
    return [*found, round(3 * float(values["mstd"]), 6)] if "mstd" in values else found


def _train(keys: _Keys) -> dict[str, Any]:
    keys.only("sched", "cosine")
    if keys.take("model-ema", False):
        keys.fail("model-ema", "a moving average is asked for; set train.ema in the recipe instead")
    cooldown = keys.integer("cooldown_epochs", 0)
    return {
        # timm trains the cool-down epochs after the others
        "epochs": keys.integer("epochs") + int(cooldown),
        "optimizer": keys.choice("opt", "adamw", {"adamw": "adamw", "lamb": "lamb"}),
        "lr": keys.number("lr", 5e-4),
        "min_lr": keys.number("min_lr", 1e-5),
        "weight_decay": keys.number("weight_decay", 0.05),
        "schedule": "cosine",
        "schedule_by": "epoch",
        "warmup_epochs": keys.number("warmup_epochs", 0),
        "warmup_lr": keys.number("warmup_lr", 1e-5),
        "cooldown_epochs": cooldown,
        "label_smoothing": keys.number("smoothing", 0.1),
        "precision": "16-mixed" if keys.take("amp", False) else "32-true",
    }
