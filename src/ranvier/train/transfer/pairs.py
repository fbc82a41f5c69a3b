"""Which static image goes with which recording."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.data import Samples
from ranvier.data.order import permutation
from ranvier.data.samples import Indices, as_index
from ranvier.errors import ArgumentError, DataError

Pairing = Literal["class", "instance", "shuffled"]
PAIRINGS = ("class", "instance", "shuffled")


class NumberedSamples(Samples):
    """Samples whose label is their number in `dataset`, so that a batch tells which samples it holds."""

    def __init__(self, dataset: Samples) -> None:
        self.dataset = dataset
        self.labels = torch.arange(len(dataset))
        self.time_first = dataset.time_first

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return self.dataset.batch(index)[0], index


class PairedImages:
    """For every recording of `events` a static image of the same class, drawn anew each time.

    Args:
        events, images: the training parts of the two data sets.
        event_classes, image_classes: names of their labels; they are matched by name.
        pairing: "class" draws among all images of the class, "instance" takes the image that was recorded (both sets
            must have `keys`), "shuffled" draws from another class, always the same one for each class (a control).
        exclude: keys of images that are not drawn: those whose recordings are held out for validation and test.
        seed: of "shuffled".

    Raises `DataError` when a class of the events has no images, and when a pairing needs keys that are not there.
    """

    def __init__(
        self,
        events: Samples,
        images: Samples,
        event_classes: Sequence[str],
        image_classes: Sequence[str],
        pairing: Pairing = "class",
        exclude: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        if pairing not in PAIRINGS:
            raise ArgumentError(f"pairing must be one of {', '.join(PAIRINGS)}; got {pairing!r}")
        self.images = images
        self.labels = events.labels
        self.pairing: Pairing = pairing
        usable = np.ones(len(images), bool)
        self.excluded = 0
        if exclude and images.keys is not None:
            held = set(exclude)
            usable = np.array([key not in held for key in images.keys], bool)
            self.excluded = int((~usable).sum())
        present = np.unique(events.labels.numpy())
        rows = _rows_by_class(images.labels.numpy(), usable, image_classes)
        without = [event_classes[label] for label in present if event_classes[label] not in rows]
        if without:
            raise DataError(
                f"the static images lack {len(without)} class{'es' * (len(without) > 1)} of the events: "
                f"{', '.join(map(repr, without[:5]))}; they have {', '.join(map(repr, sorted(rows)[:5]))}, ..."
            )
        self._partner: Tensor | None = None
        if pairing == "instance":
            self._partner = _recorded(events, images, usable)
            return
        partner = {int(label): int(label) for label in present}
        if pairing == "shuffled":
            if len(present) < 2:
                raise ArgumentError("pairing 'shuffled' needs at least two classes")
            order = present[permutation(len(present), seed)]
            partner = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
        lists = {label: rows[event_classes[other]] for label, other in partner.items()}
        self._first = torch.zeros(len(event_classes), dtype=torch.int64)
        self._count = torch.zeros(len(event_classes), dtype=torch.int64)
        place = 0
        for label, members in lists.items():
            self._first[label], self._count[label] = place, len(members)
            place += len(members)
        self._rows = torch.from_numpy(np.concatenate(list(lists.values())))

    def draw(self, numbers: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Numbers of images for the recordings `numbers`, each drawn on its own; from PyTorch's generator or yours."""
        if self._partner is not None:
            return self._partner[numbers]
        labels = self.labels[numbers]
        count = self._count[labels]
        at = (torch.rand(len(numbers), generator=generator, dtype=torch.float64) * count).long()
        return self._rows[self._first[labels] + at.clamp_max(count - 1)]

    def batch(self, numbers: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The images themselves, `[B, C, H, W]` in [0, 1]."""
        return self.images.batch(self.draw(numbers, generator))[0]


def keys_of(*parts: Samples | None) -> set[str]:
    """The keys of all samples in `parts`; parts without keys add none."""
    return {key for part in parts if part is not None and part.keys is not None for key in part.keys}


def _rows_by_class(labels: np.ndarray, usable: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    rows = {name: np.flatnonzero((labels == number) & usable) for number, name in enumerate(names)}
    return {name: members for name, members in rows.items() if len(members)}


def _recorded(events: Samples, images: Samples, usable: np.ndarray) -> Tensor:
    if events.keys is None or images.keys is None:
        which = "events" if events.keys is None else "images"
        raise DataError(f"pairing 'instance' needs to know which image was recorded, but the {which} have no keys")
    place = {key: row for row, key in enumerate(images.keys) if usable[row]}
    missing = next((key for key in events.keys if key not in place), None)
    if missing is not None:
        raise DataError(f"pairing 'instance': the image {missing!r} of a recording is not among the static images")
    return torch.tensor([place[key] for key in events.keys])
