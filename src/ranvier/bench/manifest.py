"""What the latest run in a results folder asked for."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ranvier.errors import DataError

MANIFEST = "suite.json"


class Manifest(BaseModel):
    """What the latest run in a folder asked for: the pages show these cells and leave older files aside."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int
    title: str
    description: str = ""
    budget_minutes: float
    source: str
    run_ids: list[str] = Field(default_factory=list)
    wall_s: float | None = None


def read_manifest(out: Path) -> Manifest | None:
    """The manifest of a results folder, or `None` where there is none."""
    path = out / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a valid manifest ({' '.join(str(error).split())[:200]})") from error
