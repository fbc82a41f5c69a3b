"""Running a net with early exit so that time is really saved: compaction, refill, chunks, a cached first layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.encode import Direct
from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.early_exit.criteria import Criterion, check_recorded
from ranvier.infer.early_exit.static_first import StaticFirst
from ranvier.infer.engine import Engine
from ranvier.state import Memory, State, carry

Mode = Literal["latency", "throughput"]


@dataclass(frozen=True)
class ExitRun:
    """What a run with early exit gives, in the order of the inputs.

    Attributes:
        predictions: `[N]`.
        steps: the step at which each sample was decided, `[N]`, from 1.
        steps_computed: the steps that were computed for its row, `[N]`: rounded up to the chunk, and those that a
            finished row went along until the batch was compacted.
        logits: sums of logits at the decision, `[N, K]`.
        row_steps: rows times steps that the net was run for, dead rows included.
    """

    predictions: Tensor
    steps: Tensor
    steps_computed: Tensor
    logits: Tensor
    row_steps: int

    @property
    def mean_steps(self) -> float:
        """Mean number of steps of a decision."""
        return float(self.steps.double().mean())


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """`model.eval()` for the block."""
    training = [m for m in model.modules() if m.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def with_steps(model: Any, steps: int | None) -> Iterator[None]:
    """Let the model's encoder make `steps` steps of a static image for the block."""
    if steps is None:
        yield
        return
    before, model.T = model.T, steps
    try:
        yield
    finally:
        model.T = before


def check_streams(model: nn.Module) -> None:
    """Raise `ArgumentError` for a net with a part that looks at all steps at once."""
    for name, module in model.named_modules():
        if getattr(module, "streams", True) is False:
            raise ArgumentError(
                f"model: {name or type(module).__name__} looks at all steps at once, so nothing exits early"
            )


@dataclass
class _Active:
    """The rows that are being computed: whom they belong to, and all that they carry from step to step."""

    rows: Tensor  # index of the sample in the input, -1 for a row that is finished
    t: Tensor  # steps done, by row
    total: Tensor  # sums of logits
    state: State  # of the criterion
    memory: Memory
    frames: Tensor  # what is fed: [B, ...] where one frame repeats, else [T, B, ...]
    cache: dict[str, Tensor] = field(default_factory=dict)

    def select(self, keep: Tensor, repeated: bool) -> None:
        """Keep these rows only."""
        self.rows, self.t, self.total = self.rows[keep], self.t[keep], self.total[keep]
        self.state = tuple(s[keep] for s in self.state)
        self.memory.map(lambda tensor: tensor.index_select(0, keep))
        self.frames = self.frames.index_select(0 if repeated else 1, keep)
        self.cache = {name: value.index_select(0, keep) for name, value in self.cache.items()}

    def join(self, other: _Active, repeated: bool) -> None:
        """Append the rows of `other`."""
        self.rows, self.t = torch.cat((self.rows, other.rows)), torch.cat((self.t, other.t))
        self.total = torch.cat((self.total, other.total))
        self.state = tuple(torch.cat(pair) for pair in zip(self.state, other.state, strict=True))
        for key, state in self.memory.states.items():
            pairs = zip(state, other.memory.states[key], strict=True)
            self.memory.states[key] = tuple(torch.cat(pair) for pair in pairs)
        self.frames = torch.cat((self.frames, other.frames), 0 if repeated else 1)
        self.cache = {name: torch.cat((value, other.cache[name])) for name, value in self.cache.items()}


class _Results:
    """Decisions at the places of their samples."""

    def __init__(self, samples: int) -> None:
        self.steps, self.computed = torch.zeros(samples, dtype=torch.long), torch.zeros(samples, dtype=torch.long)
        self.logits: Tensor | None = None
        self.row_steps = 0

    def decided(self, active: _Active, finished: Tensor) -> None:
        if self.logits is None:
            self.logits = active.total.new_zeros(len(self.steps), active.total.shape[-1])
        at = active.rows[finished]
        self.steps[at], self.logits[at] = active.t[finished].cpu(), active.total[finished]

    def done(self) -> ExitRun:
        assert self.logits is not None
        return ExitRun(self.logits.argmax(-1), self.steps, self.computed, self.logits, self.row_steps)


class EarlyExitRunner:
    """Runs a classifier step by step and stops each sample as soon as `criterion` says so.

    Decisions, predictions and logits are those of `evaluate_exit` on the recorded logits of the full run, whatever the
    batch, its order, the chunk or the mode: only the work differs.

    Args:
        model: a streaming classifier: `[B, C, H, W]` (static image) or `[T, B, ...]` to per-step logits `[T, B, K]`.
        criterion: when to stop.
        steps: the longest a static image is looked at; the model's `T` by default. A sequence ends with itself.
        mode: "latency" works on one batch at a time and drops finished rows; "throughput" puts waiting samples into
            their place, so that all `slots` rows stay busy (static images and sequences of one length).
        chunk: steps that are computed at once, from which the decisions are then taken one by one.
        compact_below: drop finished rows when fewer than this share of the rows is still running.
        slots: rows in throughput mode.
        cache_static: compute the first convolution or linear layer of a static image once, not at every step
            (direct encoding only; found by running the model).
        engine: `model` as `ranvier.infer.compile` made it. Samples are then run on it one after the other, without
            PyTorch between the steps: for single samples by far the fastest (latency mode only). Its outputs are those
            of the model up to rounding.

    Raises `ArgumentError` for a model that does not stream (one that sees all steps at once cannot stop early).
    """

    def __init__(
        self, model: nn.Module, criterion: Criterion, steps: int | None = None, mode: Mode = "latency", chunk: int = 1,
        compact_below: float = 0.75, slots: int = 64, cache_static: bool = True, engine: Engine | None = None,
    ) -> None:  # fmt: skip
        limit = steps if steps is not None else getattr(model, "T", None)
        for name, value in (("steps", limit), ("chunk", chunk), ("slots", slots)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
        if mode not in ("latency", "throughput"):
            raise ArgumentError(f"mode must be 'latency' or 'throughput', got {mode!r}")
        if not 0 < compact_below <= 1:
            raise ArgumentError(f"compact_below must be a share in (0, 1], got {compact_below!r}")
        check_streams(model)
        if engine is not None and mode != "latency":
            raise ArgumentError("engine: a compiled net runs one sample at a time; mode must be 'latency'")
        shape = getattr(model, "input_shape", None)
        if engine is not None and shape is not None and tuple(shape) != engine.input_shape:
            raise ArgumentError(f"engine takes {engine.input_shape}, model takes {tuple(shape)}: it is another net's")
        assert limit is not None
        self.engine = engine
        self.model, self.criterion, self.steps, self.mode, self.chunk = model, criterion, limit, mode, chunk
        self.compact_below, self.slots, self.cache_static = compact_below, slots, cache_static

    @torch.no_grad()
    def __call__(self, x: Tensor) -> ExitRun:
        """Run samples `[N, ...]` (static) or sequences `[T, N, ...]` to their decisions."""
        shape = getattr(self.model, "input_shape", None)
        rank = len(shape) + 1 if shape is not None else 4
        if x.dim() not in (rank, rank + 1):
            raise ShapeError(f"x must have {rank} axes [N, ...] or {rank + 1} [T, N, ...], got shape {tuple(x.shape)}")
        if 0 in x.shape[:2]:
            raise ShapeError(f"x must hold at least one sample and step, got shape {tuple(x.shape)}")
        static = x.dim() == rank
        samples = x.shape[0 if static else 1]
        with eval_mode(self.model):
            fed, repeated = self._frames(x, static)
            job = _Job(self, fed, x if static else x[0], repeated, self.steps if static else len(x), _Results(samples))
            if self.engine is not None:
                job.run_compiled(self.engine, samples)
                return job.results.done()
            with StaticFirst(self.model, self.cache_static and repeated) as job.first, carry(self.model) as job.memory:
                job.run(samples)
        return job.results.done()

    def _frames(self, x: Tensor, static: bool) -> tuple[Tensor, bool]:
        """What is fed to the net: one frame a sample that repeats, or all frames `[T, N, ...]`."""
        if not static:
            return x, False
        encoder = getattr(self.model, "encoder", None)
        if encoder is None:
            return x, True
        if isinstance(encoder, Direct):
            return encoder(x, 1)[0], True
        with with_steps(self.model, self.steps):
            sequence: Tensor = self.model.sequence(x)  # pyright: ignore[reportCallIssue, reportAssignmentType]
            return sequence, False


@dataclass
class _Job:
    """One call of the runner."""

    runner: EarlyExitRunner
    fed: Tensor
    x: Tensor
    repeated: bool
    limit: int
    results: _Results
    first: StaticFirst | None = None
    memory: Memory | None = None  # the one that the model carries; groups of rows take turns in it

    def start(self, rows: Tensor) -> _Active:
        """Samples that begin."""
        rows = rows.to(self.x.device)
        state = self.runner.criterion.begin(rows, self.x[rows])
        frames = self.fed.index_select(0 if self.repeated else 1, rows)
        return _Active(rows, torch.zeros_like(rows), torch.zeros(0), state, Memory(), frames)

    def part(self, active: _Active, size: int) -> Tensor:
        """The next `size` frames of every row; rows may be at different steps."""
        if self.repeated:
            return active.frames.expand(size, *active.frames.shape)
        if bool((active.t == active.t[0]).all()):
            return active.frames[int(active.t[0]) : int(active.t[0]) + size]
        steps = active.t + torch.arange(size, device=active.t.device).unsqueeze(1)
        return active.frames[steps.clamp(max=len(active.frames) - 1), torch.arange(len(active.t))]

    def advance(self, active: _Active) -> None:
        """One chunk: compute, then decide step by step."""
        size = min(self.runner.chunk, self.limit - int(active.t.min()))
        assert self.first is not None and self.memory is not None
        self.memory.states = active.memory.states
        with self.first.using(active.cache, size, len(active.rows)):
            logits = self.runner.model(self.part(active, size)).float()
        active.memory.states = self.memory.states
        check_recorded(logits)
        if active.total.numel() == 0:
            active.total = torch.zeros_like(logits[0])
        self.results.row_steps += size * len(active.rows)
        alive = active.rows >= 0
        self.results.computed[active.rows[alive].cpu()] += size
        for step in range(size):
            running = (active.rows >= 0) & (active.t < self.limit)
            active.total = active.total + logits[step]
            active.t = active.t + 1
            scores, active.state = self.runner.criterion.score(active.total, active.t, active.state)
            finished = running & ((scores > self.runner.criterion.threshold) | (active.t >= self.limit))
            if bool(finished.any()):
                self.results.decided(active, finished)
                active.rows = torch.where(finished, -1, active.rows)

    def run_compiled(self, engine: Engine, samples: int) -> None:
        """All samples, one by one, on a compiled net."""
        criterion, results, chunk = self.runner.criterion, self.results, self.runner.chunk
        fed = self.fed.detach().cpu().numpy().astype(engine.dtype, copy=False)
        results.logits = torch.zeros(samples, *engine.output_shape)
        times = torch.arange(1, self.limit + 1).unsqueeze(1)
        out = np.empty((1, *engine.output_shape), engine.dtype)
        for row in range(samples):
            rows = torch.tensor([row])
            state = criterion.begin(rows, self.x[rows].cpu())
            total, done, finished = torch.zeros(1, *engine.output_shape), 0, False
            engine.reset()
            while not finished:
                size = min(chunk, self.limit - done)
                if size == 1:
                    engine.step(fed[row] if self.repeated else fed[done, row], out[0])
                    made = out
                else:
                    part = fed[row : row + 1].repeat(size, 0) if self.repeated else fed[done : done + size, row]
                    made = engine.run(part)
                logits = torch.from_numpy(made).float()
                if not np.isfinite(made).all():
                    check_recorded(logits.unsqueeze(1))
                results.row_steps += size
                for step in range(size):
                    total, done = total + logits[step], done + 1
                    score, state = criterion.score(total, times[done - 1], state)
                    if float(score) > criterion.threshold or done >= self.limit:
                        results.steps[row], results.logits[row], finished = done, total[0], True
                        results.computed[row] = min(-(-done // chunk) * chunk, self.limit)
                        break

    def run(self, samples: int) -> None:
        """All samples, in the order of the input."""
        waiting = samples if self.runner.mode == "latency" else min(self.runner.slots, samples)
        slots, active = waiting, self.start(torch.arange(waiting))
        while True:
            self.advance(active)
            alive = (active.rows >= 0).nonzero().flatten()
            free = slots - len(alive)
            coming = min(free, samples - waiting)
            worth = len(alive) < self.runner.compact_below * len(active.rows)
            if worth or (len(alive) == 0):
                if len(alive):
                    active.select(alive, self.repeated)
                if coming:
                    # newcomers take their first chunk by themselves; from then on they go with the others
                    fresh = self.start(torch.arange(waiting, waiting + coming))
                    waiting += coming
                    self.advance(fresh)
                    going = (fresh.rows >= 0).nonzero().flatten()
                    if len(going):
                        fresh.select(going, self.repeated)
                    if len(going) and len(alive):
                        active.join(fresh, self.repeated)
                    elif len(going):
                        active = fresh
                    elif not len(alive):
                        active.rows = torch.full_like(active.rows, -1)
            if not bool((active.rows >= 0).any()):
                if waiting >= samples:
                    return
                coming = min(slots, samples - waiting)
                active = self.start(torch.arange(waiting, waiting + coming))
                waiting += coming
