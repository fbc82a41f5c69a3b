"""Recipes on disk: found by name or by path, read safely, changed by dotted overrides."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ranvier.errors import ConfigError, nearest
from ranvier.train.recipe import Recipe, dotted_keys, nearest_key, parse_recipe

RECIPES = Path(__file__).parent.parent / "recipes"
_MAX_BYTES = 1 << 20
_FREE = ("data.options", "model.args")  # below these any key may stand: the data set or the model checks it


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases and without repeated keys, in which 1e-3 is a number as in YAML 1.2."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError("a key must be a plain name")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice in one section")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def list_recipes() -> list[str]:
    """Names of the recipes that come with the library, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(recipe: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name (`list_recipes()`) or from a YAML file.

    Args:
        recipe: a name, or a path that ends in .yaml or .yml.
        overrides: `["train.lr=1e-3", "model.args.T=2"]`; a last part that only one section has may stand alone
            (`lr=1e-3`).

    Raises `ConfigError` that names the file, the dotted key, what was given and the nearest known key.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        if str(recipe) not in list_recipes():
            raise ConfigError(
                f"unknown recipe {str(recipe)!r}{nearest(str(recipe), list_recipes())}; or give a path to a .yaml file"
            )
        path = RECIPES / f"{recipe}.yaml"
        where = f"recipe {str(recipe)!r}"
    else:
        where = f"recipe {path}"
    document = read_yaml(path, where)
    parse_recipe(document, where)  # first without overrides, so that the error names the right culprit
    for override in overrides:
        _apply(document, override)
    return parse_recipe(document, f"{where} with {', '.join(overrides)}" if overrides else where)


def read_yaml(path: Path, where: str) -> dict[str, Any]:
    """The mapping in a YAML file; `ConfigError` when it is not one."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{where}: larger than {_MAX_BYTES} bytes; is this a recipe?")
        document = parse_yaml(path.read_text(encoding="utf-8"), where)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not a text file in UTF-8") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: expected a mapping with the keys of a recipe, got {type(document).__name__}")
    return document


def parse_yaml(text: str, where: str) -> Any:
    """Plain data from YAML text."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: expected KEY=VALUE such as train.lr=1e-3")
    *parents, last = _full_key(key.strip()).split(".")
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds a value, not keys")
    section[last] = parse_yaml(text, f"override {override!r}")


def _full_key(key: str) -> str:
    known = dotted_keys()
    if key in known or any(key.startswith(f"{free}.") and not key.endswith(".") for free in _FREE):
        return key
    if "." not in key:
        matches = [candidate for candidate in known if candidate.rpartition(".")[2] == key]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ConfigError(f"override key {key!r} may mean {' or '.join(matches)}; give the whole key")
    raise ConfigError(f"override: unknown key {key!r}{nearest_key(key.split('.'))}")
