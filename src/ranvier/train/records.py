"""JSON files with a schema: unknown keys are an error, numbers are finite, damage is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ranvier.errors import DataError


class Record(BaseModel):
    """A part of such a file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


R = TypeVar("R", bound=Record)


def read_record(path: Path, kind: type[R], what: str, most_bytes: int) -> R:
    """Read and validate `path`; `DataError` names it, calls it `what`, and says what is wrong and where."""
    try:
        if path.stat().st_size > most_bytes:
            raise DataError(f"{path}: too large for a {what} (limit {most_bytes} bytes)")
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DataError(f"{path}: not a valid {what}: {where}: {first['msg']}") from error
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON document ({error})") from error
