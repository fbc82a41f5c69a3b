"""Decisions while a stream arrives: frame by frame, or event by event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.data import Events, to_frames
from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.infer.early_exit.criteria import Criterion, check_recorded
from ranvier.infer.early_exit.runner import check_streams, eval_mode
from ranvier.state import Memory, State, carry


@dataclass(frozen=True)
class Decision:
    """What a stream was found to be.

    Attributes:
        prediction: the class.
        steps: frames that were looked at.
        logits: their summed outputs, `[K]`.
        sure: whether the criterion was met; False where the stream or its longest time ended before.
        time_us: of events: the end of the last window that was looked at.
    """

    prediction: int
    steps: int
    logits: Tensor
    sure: bool
    time_us: int | None = None


class FrameExit:
    """Looks at one stream frame by frame and decides as soon as `criterion` says so; memory does not grow.

    The decision is that of `evaluate_exit` on the outputs of the whole sequence. After it, frames are not looked at
    until `reset`.

    Args:
        model: a streaming classifier of sequences `[T, B, ...]`.
        criterion: when to stop.
        steps: decide after so many frames in any case; None: at `finish` at the latest.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, steps: int | None = None) -> None:
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
        check_streams(model)
        self.model, self.criterion, self.steps = model, criterion, steps
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame begins a new stream."""
        self.decision: Decision | None = None
        self._memory, self._t = Memory(), 0
        self._state: State | None = None
        self._total: Tensor | None = None

    @torch.no_grad()
    def push(self, frame: Tensor) -> Decision | None:
        """Look at one frame `[C, H, W]` (as the model takes it, without time and batch); the decision, once there."""
        if self.decision is not None:
            return self.decision
        shape = getattr(self.model, "input_shape", None)
        if shape is not None and tuple(frame.shape) != tuple(shape):
            raise ShapeError(f"frame must be {list(shape)}, as the model takes it, got {list(frame.shape)}")
        with eval_mode(self.model), carry(self.model, self._memory):
            logits = self.model(frame[None, None]).float()
        check_recorded(logits)
        if self._total is None or self._state is None:
            self._total = torch.zeros_like(logits[0])
            self._state = self.criterion.begin(torch.zeros(1, dtype=torch.long, device=frame.device), frame[None])
        total, self._t = self._total + logits[0], self._t + 1
        t = torch.full((1,), self._t, device=frame.device)
        score, self._state = self.criterion.score(total, t, self._state)
        self._total = total
        sure = float(score) > self.criterion.threshold
        if sure or self._t == self.steps:
            self.decision = self._now(sure)
        return self.decision

    def finish(self) -> Decision:
        """The stream has ended: the decision on what has been seen. Raises `DataError` when there was no frame."""
        if self.decision is None:
            if self._total is None:
                raise DataError("the stream has ended before its first frame was complete")
            self.decision = self._now(False)
        return self.decision

    def _now(self, sure: bool) -> Decision:
        assert self._total is not None
        return Decision(int(self._total.argmax()), self._t, self._total[0].clone(), sure)


class EventExit:
    """Looks at events as they arrive, in packets of any size, and decides as soon as `criterion` says so.

    Time is cut into windows of a fixed length from the first event on; a window becomes a frame when an event after
    its end, or `advance`, says that it is over. How events are packed changes nothing. Windows without events are
    frames of zeros: they are time as well.

    Args:
        model, criterion, steps: as in `FrameExit`.
        window_us: length of a window in microseconds.
        sensor_size: `(height, width)`.
        values, polarities: of the frames, as in `ranvier.data.to_frames`.
    """

    def __init__(
        self, model: nn.Module, criterion: Criterion, window_us: int, sensor_size: tuple[int, int],
        steps: int | None = None, values: Literal["count", "binary"] = "count", polarities: Literal[1, 2] = 2,
    ) -> None:  # fmt: skip
        if isinstance(window_us, bool) or not isinstance(window_us, int) or window_us < 1:
            raise ArgumentError(f"window_us must be an integer >= 1 (microseconds), got {window_us!r}")
        self.frames = FrameExit(model, criterion, steps)
        self.window_us, self.sensor_size = window_us, sensor_size
        self.values: Literal["count", "binary"] = values
        self.polarities: Literal[1, 2] = polarities
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next event begins a new stream."""
        self.frames.reset()
        self.decision: Decision | None = None
        self._waiting: list[Events] = []
        self._start: int | None = None
        self._latest = 0

    def push(self, events: Events) -> Decision | None:
        """Take the next events; the decision, once there is one. Raises `DataError` for events out of order."""
        if self.decision is not None or not len(events):
            return self.decision
        first, last = int(events.t[0]), int(events.t[-1])
        if self._start is None:
            self._start = first
        elif first < self._latest:
            raise DataError(f"events must arrive in the order of time: {first} us comes after {self._latest} us")
        self._latest = last
        self._waiting.append(events)
        return self.advance(last)

    def advance(self, time_us: int) -> Decision | None:
        """The clock shows `time_us`, and all events before it have been given; the decision, once there is one."""
        while self.decision is None and self._start is not None and time_us >= self._start + self.window_us:
            self._look(self._start + self.window_us)
        self._latest = max(self._latest, time_us) if self._start is not None else self._latest
        return self.decision

    def finish(self) -> Decision:
        """The stream has ended: what is left makes a last frame, and the decision is taken on what has been seen."""
        if self.decision is None and self._start is not None and any(len(part) for part in self._waiting):
            self._look(self._start + self.window_us)
        if self.decision is None:
            self.decision = replace(self.frames.finish(), time_us=self._start)
        return self.decision

    def _look(self, stop: int) -> None:
        """Make a frame of the window that ends at `stop` and look at it."""
        assert self._start is not None
        inside: list[Events] = []
        rest: list[Events] = []
        for part in self._waiting:
            cut = int(np.searchsorted(part.t, stop))
            inside += [part[:cut]] if cut else []
            rest += [part[cut:]] if cut < len(part) else []
        frame = to_frames(
            _joined(inside), 1, self.sensor_size, values=self.values, polarities=self.polarities,
            window=(self._start, stop),
        )[0]  # fmt: skip
        self._waiting, self._start = rest, stop
        found = self.frames.push(frame)
        self.decision = None if found is None else replace(found, time_us=stop)


def _joined(parts: list[Events]) -> Events:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Events(np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.uint16), np.zeros(0, np.uint8))
    return Events(
        np.concatenate([part.t for part in parts]), np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]), np.concatenate([part.p for part in parts]),
    )  # fmt: skip
