"""The events of one recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranvier.errors import DataError

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
_POLARITY_NAMES = ("p", "on", "polarity")


@dataclass(frozen=True, eq=False)
class Events:
    """A recording as four equally long arrays, in the order of time.

    Attributes:
        t: int64 microseconds, not negative, never decreasing.
        x, y: uint16 column and row.
        p: uint8 polarity, 1 for brighter (ON) and 0 for darker (OFF); −1/1 and booleans are taken as 0/1.

    Raises `DataError` that names the first event that is wrong.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]

    def __post_init__(self) -> None:
        arrays = {name: np.asarray(getattr(self, name)) for name in ("t", "x", "y", "p")}
        lengths = {name: array.shape for name, array in arrays.items()}
        if any(array.ndim != 1 for array in arrays.values()) or len(set(lengths.values())) > 1:
            raise DataError(f"events need t, x, y and p of one length each, got shapes {lengths}")
        for name, array in arrays.items():
            if array.size and array.dtype.kind not in ("iu" if name != "p" else "iub"):
                raise DataError(f"events need integers in {name!r}, got {array.dtype}")
        t = np.ascontiguousarray(arrays["t"], np.int64)
        if t.size and (t[0] < 0 or (t[1:] < t[:-1]).any()):
            _raise_bad_time(t)
        object.__setattr__(self, "t", t)
        for name in ("x", "y"):
            object.__setattr__(self, name, _narrowed(arrays[name], name))
        object.__setattr__(self, "p", _polarity(arrays["p"]))

    @classmethod
    def from_structured(cls, array: NDArray[Any]) -> Events:
        """From a structured array with the fields t, x, y and p (or `on`, `polarity`), as tonic and faery make them."""
        names: Sequence[str] = array.dtype.names or ()
        polarity = next((name for name in _POLARITY_NAMES if name in names), None)
        if polarity is None or not {"t", "x", "y"} <= set(names):
            raise DataError(f"a structured event array needs the fields t, x, y and p; got {array.dtype}")
        return cls(array["t"], array["x"], array["y"], array[polarity])

    def structured(self) -> NDArray[Any]:
        """One array of `EVENT_DTYPE`, which tonic's transforms accept."""
        out = np.empty(len(self), EVENT_DTYPE)
        for name in ("t", "x", "y", "p"):
            out[name] = getattr(self, name)
        return out

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, part: slice) -> Events:
        """The events of a slice (by number, with a positive step)."""
        return Events(self.t[part], self.x[part], self.y[part], self.p[part])


def _raise_bad_time(t: NDArray[np.int64]) -> None:
    if t.min() < 0:
        i = int((t < 0).argmax())
        raise DataError(f"event {i} has the negative timestamp {t[i]} µs")
    i = int((t[1:] < t[:-1]).argmax()) + 1
    raise DataError(f"event {i} at {t[i]} µs comes after one at {t[i - 1]} µs: events must be in the order of time")


def _narrowed(values: ArrayLike, name: str) -> NDArray[np.uint16]:
    array = np.asarray(values)
    if array.size and array.dtype != np.uint16:
        bad = (array < 0) | (array > 0xFFFF)
        if bad.any():
            i = int(bad.argmax())
            raise DataError(f"event {i} has {name}={array[i]}, outside 0 .. 65535")
    return np.ascontiguousarray(array, np.uint16)


def _polarity(p: NDArray[Any]) -> NDArray[np.uint8]:
    if p.dtype == np.bool_ or not p.size:
        return p.astype(np.uint8)
    low, high = int(p.min()), int(p.max())
    signed = low == -1
    if low < -1 or high > 1 or (signed and (p == 0).any()):
        raise DataError(f"polarity must be 0/1, −1/1 or boolean, got values from {low} to {high}")
    return (p > 0).astype(np.uint8) if signed else np.ascontiguousarray(p, np.uint8)
