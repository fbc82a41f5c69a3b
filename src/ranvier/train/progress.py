"""How far a run has come: the numbers of a checkpoint that are not tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The best epoch so far (counted from 1) on the validation part; `accuracy` or what decides in its place."""

    step: int
    epoch: int
    accuracy: float
    loss: float

    def beats(self, other: Best | None) -> bool:
        """Higher accuracy, or the same at a lower loss."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass
class Progress:
    """Updates done, sums over the epoch that runs, and the best epoch so far.

    `skipped_in_a_row` updates before now, and `skipped` ones in this epoch, were left out because of numbers that are
    not finite.
    """

    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    samples: float = 0.0
    rate: float = 0.0
    rate_samples: int = 0
    best: Best | None = None
    train_s: float = 0.0
    journal_bytes: int = 0
    skipped_in_a_row: int = 0
    skipped: int = 0

    def add(self, loss: float, correct: float, samples: float, rate: float | None) -> None:
        """Count one update: sums over its samples."""
        self.loss += loss
        self.correct += correct
        self.samples += samples
        self.skipped_in_a_row = 0
        if rate is not None:
            self.rate += rate
            self.rate_samples += 1

    def skip(self) -> None:
        """Count one update that was left out."""
        self.step += 1
        self.skipped += 1
        self.skipped_in_a_row += 1

    def means(self) -> tuple[float, float, float | None]:
        """Loss, accuracy and firing rate of the epoch so far."""
        rate = self.rate / self.rate_samples if self.rate_samples else None
        return self.loss / self.samples, self.correct / self.samples, rate

    def start_epoch(self) -> None:
        """Forget the sums."""
        self.loss = self.correct = self.samples = self.rate = 0.0
        self.rate_samples = self.skipped = 0

    def consider(self, found: Best) -> bool:
        """Take `found` as the best if it is; whether it was."""
        if not found.beats(self.best):
            return False
        self.best = found
        return True

    def to_json(self) -> dict[str, Any]:
        """Plain data; floats keep every bit in JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Progress:
        """The inverse of `to_json`."""
        best = document["best"]
        values: dict[str, Any] = {**document, "best": None if best is None else Best(**best)}
        return cls(**values)
