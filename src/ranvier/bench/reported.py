"""Figures that others report: records of their own with a citation, never in a column with what was measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ranvier.bench.result import Finite
from ranvier.errors import DataError
from ranvier.train.records import Record, read_record

FOLDER = "reported"
"""Records of one's own lie here, in the folder of the results, a JSON file each."""

PUBLISHED = Path(__file__).parent / "published.yaml"

_MAX_BYTES = 1 << 20


class Reported(Record):
    """One figure of a publication.

    `provenance` is "transfer" where the net had been trained on other data before, else "reported". Accuracies are
    fractions; `by` says who measured it where that was not the net's own publication.
    """

    schema_version: Literal[1] = 1
    provenance: Literal["reported", "transfer"] = "reported"
    model: Annotated[str, Field(min_length=1)]
    task: Annotated[str, Field(min_length=1)]
    metric: str = "accuracy"
    value: Finite
    steps: Annotated[int, Field(ge=1)] | None = None
    params: Annotated[int, Field(ge=0)] | None = None
    source: Annotated[str, Field(min_length=1)]
    by: str | None = None
    note: str = ""


def published() -> list[Reported]:
    """The figures that come with Ranvier."""
    from ranvier.train.recipe_file import parse_yaml

    document: Any = parse_yaml(PUBLISHED.read_text(encoding="utf-8"), str(PUBLISHED))
    sources = document["sources"]
    try:
        return [Reported.model_validate({**entry, "source": sources[entry["source"]]}) for entry in document["figures"]]
    except (ValidationError, KeyError) as error:
        raise DataError(f"{PUBLISHED}: {' '.join(str(error).split())[:300]}") from error


def read_reported(path: Path) -> Reported:
    """Read and validate one record; `DataError` says what is wrong with it."""
    return read_record(path, Reported, "record of a reported figure", _MAX_BYTES)


def of_folder(out: Path) -> list[Reported]:
    """The records in `out/reported`."""
    return [read_reported(path) for path in sorted((out / FOLDER).glob("*.json"))]


def for_task(task: str, records: list[Reported]) -> list[Reported]:
    """The accuracies on `task`, the highest first; those of transfer come after the others."""
    mine = [record for record in records if record.task == task and record.metric == "accuracy"]
    return sorted(mine, key=lambda record: (record.provenance == "transfer", -record.value, record.model))
