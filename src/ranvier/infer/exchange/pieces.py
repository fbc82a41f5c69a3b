"""A part of a NIR graph: some nodes, the edges between them, where it is entered and left."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Node = Any  # a node of the package nir, which is imported late
Array = NDArray[np.floating[Any]]


@dataclass
class Piece:
    """Nodes with their edges; what comes in goes to `entry`, what goes out comes from `exit`."""

    nodes: dict[str, Node]
    entry: str
    exit: str
    edges: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def chain(cls, nodes: Mapping[str, Node]) -> Piece:
        """Nodes one after the other."""
        names = list(nodes)
        return cls(dict(nodes), names[0], names[-1], list(itertools.pairwise(names)))


def node_name(path: str) -> str:
    """A name for a node that every reader takes: letters, digits and underscores."""
    name = re.sub(r"\W+", "_", path).strip("_") or "layer"
    return f"n{name}" if name[0].isdigit() else name


def array(t: Tensor) -> Array:
    """A tensor as the array of a node."""
    t = t.detach().cpu()
    return np.ascontiguousarray((t.float() if t.dtype in (torch.float16, torch.bfloat16) else t).numpy())


def filled(value: Tensor | float, shape: tuple[int, ...], axis: int = 0) -> Array:
    """A parameter a layer or a channel (on `axis` of `shape`), written out for every element, in float64."""
    given = np.asarray(array(value) if isinstance(value, Tensor) else value, np.float64)
    if given.ndim == 1:
        given = given.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.array(np.broadcast_to(given, shape))


def below(threshold: Array) -> Array:
    """The number under each threshold: v ≥ θ is v > θ⁻ in the same precision."""
    return np.nextafter(threshold, threshold.dtype.type(-np.inf))


def above(threshold: Array) -> Array:
    """The number over each threshold: v > θ is v ≥ θ⁺."""
    return np.nextafter(threshold, threshold.dtype.type(np.inf))
