"""A suite: models x overrides x data x seeds in YAML, and the cells it expands to."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ranvier.bench.result import RESULT_SCHEMA_VERSION, SuiteRef
from ranvier.errors import ConfigError, RanvierError, nearest

if TYPE_CHECKING:
    from ranvier.train.recipe import Recipe

SUITES = Path(__file__).parent / "suites"

Overrides = dict[str, Any]

_MAX_BYTES = 1 << 20


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class SuiteModel(_Section):
    """One entry: a registered model, its arguments, and recipe overrides by dotted key."""

    name: Annotated[str, Field(min_length=1)]
    label: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    overrides: Overrides = Field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.label or self.name


class SuiteData(_Section):
    """One task: a data set, its loader's options, recipe overrides by dotted key, and the version that is meant."""

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    overrides: Overrides = Field(default_factory=dict)


class Suite(_Section):
    """A named, versioned list of experiments with a budget.

    `threads` is what one cell makes good use of (small nets: 1); without it a cell gets the whole machine.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
    version: Annotated[int, Field(ge=1)]
    title: str
    description: str = ""
    budget_minutes: Annotated[float, Field(gt=0)]
    threads: Annotated[int, Field(ge=1)] | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    models: Annotated[list[SuiteModel], Field(min_length=1)]
    data: Annotated[list[SuiteData], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("models", "data", mode="before")
    @classmethod
    def _names_alone(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds

    @field_validator("models")
    @classmethod
    def _told_apart(cls, models: list[SuiteModel]) -> list[SuiteModel]:
        titles = [model.title for model in models]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"two models are called {title!r}; give each its own label")
        return models

    @property
    def ref(self) -> SuiteRef:
        return SuiteRef(name=self.name, version=self.version)


@dataclass(frozen=True)
class Cell:
    """One experiment: a resolved recipe on one task with one seed, named by the hash of its content."""

    suite: SuiteRef
    label: str
    task: str
    task_version: int
    recipe: dict[str, Any] = field(repr=False)

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    @cached_property
    def config_hash(self) -> str:
        """SHA-256 of the task version, the whole recipe and the result schema's version."""
        return hash_config(self.recipe, self.task, self.task_version)

    @cached_property
    def variant_hash(self) -> str:
        """The same without the seed: results that share it are seeds of one experiment."""
        return hash_variant(self.recipe, self.task, self.task_version)

    @property
    def run_id(self) -> str:
        return f"{slug(self.task)}-{slug(self.label)}-{self.config_hash[:8]}-s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The cell as plain data, as a worker process receives it."""
        return {
            "suite": self.suite.model_dump(), "label": self.label, "task": self.task,
            "task_version": self.task_version, "recipe": self.recipe,
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Cell:
        suite = SuiteRef.model_validate(document["suite"])
        return cls(suite, document["label"], document["task"], document["task_version"], document["recipe"])


def hash_config(recipe: dict[str, Any], task: str, task_version: int) -> str:
    """SHA-256 over canonical JSON of recipe, task, task version and result-schema version."""
    content = {"recipe": _content(recipe), "schema": RESULT_SCHEMA_VERSION, "task": task, "task_version": task_version}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _content(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without what changes no number: its name, its log, where the data lie, how far ahead it reads."""
    kept = {key: value for key, value in recipe.items() if key not in ("name", "log")}
    if isinstance(data := kept.get("data"), dict):
        kept["data"] = {key: value for key, value in data.items() if key not in ("root", "prefetch")}
    return kept


def hash_variant(recipe: dict[str, Any], task: str, task_version: int) -> str:
    """`hash_config` of the recipe without its seed."""
    return hash_config({key: value for key, value in recipe.items() if key != "seed"}, task, task_version)


def slug(text: str) -> str:
    """Lower-case letters, digits and single dashes of `text`: safe in a file name and in a URL."""
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-._")[:60] or "unnamed"


def list_suites() -> list[str]:
    """Names of the suites that come with the library."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(suite: str | Path) -> Suite:
    """Read a suite by its name (`list_suites()`) or from a YAML file; `ConfigError` names the wrong key."""
    from ranvier.train.recipe_file import parse_yaml

    path = Path(suite)
    if path.suffix not in (".yaml", ".yml"):
        if str(suite) not in list_suites():
            raise ConfigError(f"unknown suite {str(suite)!r}{nearest(str(suite), list_suites())}; or give a .yaml file")
        path = SUITES / f"{suite}.yaml"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"suite {path}: larger than {_MAX_BYTES} bytes; is this a suite?")
        document = parse_yaml(path.read_text(encoding="utf-8"), f"suite {path}")
    except OSError as error:
        raise ConfigError(f"suite {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"suite {path}: not a text file in UTF-8") from error
    if not isinstance(document, dict):
        raise ConfigError(f"suite {path}: expected a mapping with the keys of a suite, got {type(document).__name__}")
    return parse_suite(document, where=f"suite {path}")


def parse_suite(document: dict[str, Any], where: str = "suite") -> Suite:
    """Validate a suite given as a mapping."""
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] = {"models": SuiteModel, "data": SuiteData}.get(location[0], Suite)
        known = list((section if len(location) > 1 else Suite).model_fields)
        return f"unknown key {'.'.join(location)!r}{nearest(location[-1], known)}"
    given = "" if first["type"] == "missing" else f" (given {first['input']!r:.80})"
    return f"{'.'.join(location) or 'document'}: {first['msg']}{given}"


def expand(suite: Suite) -> list[Cell]:
    """Every cell of the suite, seeds innermost, with each recipe resolved and validated before anything is trained."""
    cells: list[Cell] = []
    seen: dict[str, str] = {}
    versions = {task.name: _task_version(suite, task) for task in suite.data}
    for task, model, point in itertools.product(suite.data, suite.models, _points(suite.sweep)):
        label = ", ".join([model.title, *(f"{key.split('.')[-1]}={value}" for key, value in point.items())])
        for seed in suite.seeds:
            recipe = _recipe(suite, task, model, point, seed, label)
            cell = Cell(suite.ref, label, task.name, versions[task.name], recipe)
            if cell.config_hash in seen:
                raise ConfigError(
                    f"suite {suite.name!r}: {label!r} and {seen[cell.config_hash]!r} are the same experiment"
                )
            seen[cell.config_hash] = label
            cells.append(cell)
    return cells


def _task_version(suite: Suite, task: SuiteData) -> int:
    from ranvier.data import DATASETS

    try:
        current = DATASETS[task.name].version
    except RanvierError as error:
        raise ConfigError(f"suite {suite.name!r}, data: {error}") from error
    if task.version not in (None, current):
        raise ConfigError(
            f"suite {suite.name!r} was written for version {task.version} of {task.name!r}; this library has version "
            f"{current}, whose results do not compare"
        )
    return current


def _points(sweep: dict[str, list[Any]]) -> Iterator[Overrides]:
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _recipe(
    suite: Suite, task: SuiteData, model: SuiteModel, point: Overrides, seed: int, label: str
) -> dict[str, Any]:
    draft: dict[str, Any] = copy.deepcopy(suite.base)
    settings = {
        **task.overrides,
        **{f"data.options.{key}": value for key, value in task.options.items()},
        **{f"model.args.{key}": value for key, value in model.args.items()},
        **model.overrides,
        **point,
        "data.name": task.name,
        "model.name": model.name,
    }
    for key, value in settings.items():
        set_dotted(draft, key, value)
    draft["seed"] = seed
    draft["name"] = slug(f"{task.name}-{label}")
    try:
        return validate_recipe(draft).model_dump(mode="json")
    except RanvierError as error:
        raise ConfigError(f"suite {suite.name!r}, model {label!r}: {error}") from error


def validate_recipe(draft: dict[str, Any]) -> Recipe:
    """Turn a mapping into a validated recipe; the trainer's own error says what is wrong."""
    from ranvier.train.recipe import parse_recipe

    return parse_recipe(draft)


def set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set `tree["a"]["b"] = value` for the key `a.b`, making mappings on the way."""
    *parents, last = key.split(".")
    if not all([*parents, last]):
        raise ConfigError(f"{key!r}: expected a dotted key such as 'train.lr'")
    for part in parents:
        branch = tree.setdefault(part, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{key}: {part!r} is a value, not a section")
        tree = branch
    tree[last] = value
