"""The contract of every neuron: equations for one step, a scan over a sequence, and no hidden state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.step_scan import plan_key, step_scan, step_scan_packed
from ranvier.packing import Packing
from ranvier.state import State, Stateful
from ranvier.surrogates import Surrogate
from ranvier.surrogates import build as build_surrogate


def _work_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


class Neuron(Stateful):
    """Base of the spiking neurons.

    A subclass writes its equations in `initial_state` and `step`; `forward` over a whole sequence follows from them,
    fused into kernels generated from the equations where that is possible (`ranvier.ops.step_scan.explain` says
    whether and why not). Half-precision input is computed in float32. A subclass with a kernel of its own overrides
    `scan`, which must give the same numbers.

    Args:
        surrogate: name, mapping or object of the surrogate gradient.
    """

    state_names: tuple[str, ...] = ()
    streams: bool = True  # False for a neuron that looks at all steps at once; it refuses to run inside `carry`

    def __init__(self, surrogate: str | dict[str, Any] | Surrogate = "sigmoid") -> None:
        super().__init__()
        self.surrogate = build_surrogate(surrogate)

    def initial_state(self, like: Tensor) -> State:
        """The state before the first step, for one step's input `like` (`[B, ...]`)."""
        raise ArgumentError(f"{type(self).__name__} does not define initial_state")

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One time step: input current `[B, ...]` and state in, spikes `[B, ...]` and new state out."""
        raise ArgumentError(f"{type(self).__name__} does not define step")

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        """All steps of `x` (`[T, B, ...]`) from `state` (None: the initial one); the final state if `keep_state`."""
        if state is None:
            state = self.initial_state(x[0].to(_work_dtype(x)))
        fused = step_scan(self, x, state, keep_state)
        return self.loop(x, state, keep_state) if fused is None else fused

    def loop(self, x: Tensor, state: State, keep_state: bool) -> tuple[Tensor, State | None]:
        """`scan` as a loop over `step`: what the fused scan must equal, and what runs where there is none."""
        spikes: list[Tensor] = []
        for x_t in x.to(_work_dtype(x)).unbind(0):
            s, state = self.step(x_t, state)
            spikes.append(s)
        return torch.stack(spikes).to(x.dtype), state if keep_state else None

    def scan_packed(
        self, x: Tensor, packing: Packing, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None]:
        """`scan` of every sequence of packed data `[steps of all sequences, ...]` by itself; states are `[B, ...]` of
        the sequences from long to short, the final ones each after its own last step."""
        if state is None:
            state = self.initial_state(x[: packing.batch].to(_work_dtype(x)))
        if type(self).scan is not Neuron.scan:  # its own `scan` knows better than the equations
            return self.scan_spans(x, packing, state, keep_state)
        fused = step_scan_packed(self, x, state, packing.counts, packing.running_at_every(CHUNK), keep_state)
        return self.scan_spans(x, packing, state, keep_state) if fused is None else fused

    def scan_spans(self, x: Tensor, packing: Packing, state: State, keep_state: bool) -> tuple[Tensor, State | None]:
        """`scan_packed` as one `scan` for each stretch of time over which the same sequences run."""
        spikes: list[Tensor] = []
        ended: list[State] = []
        parts = x.split([steps * sequences for steps, sequences in packing.spans])
        for (steps, sequences), part in zip(packing.spans, parts, strict=True):
            ended.append(tuple(s[sequences:] for s in state))
            state = tuple(s[:sequences] for s in state)
            s, after = self.scan(part.unflatten(0, (steps, sequences)), state, True)
            assert after is not None
            spikes.append(s.flatten(0, 1))
            state = after
        last = (state, *reversed(ended))
        return torch.cat(spikes), tuple(torch.cat(s) for s in zip(*last, strict=True)) if keep_state else None

    @property
    def packs(self) -> bool:
        return self.streams

    def _forward_packed(self, x: Tensor, packing: Packing) -> Tensor:
        if tuple(x.shape[:2]) != (1, packing.total):
            raise ShapeError(
                f"{type(self).__name__} needs packed input [1, {packing.total}, ...] here, got shape {tuple(x.shape)}; "
                "a layer before it has rearranged time"
            )
        carries = self._carried is not None
        x = x.squeeze(0)  # indexing would fill a whole gradient with zeros
        state = self.recall()
        if state is not None:
            like = x[: packing.batch]
            state = tuple(s[packing.order.to(s.device)] for s in self.fits(state, self.initial_state(like)))
        spikes, state = self.scan_packed(x, packing, state, carries)
        if carries:
            assert state is not None
            self.remember(tuple(s[packing.inverse.to(s.device)] for s in state))
        return spikes.unsqueeze(0)

    def scan_plan(self, *form: Any) -> tuple[str, tuple[str, ...]] | None:
        """The kernels generated from `step` for input of this form (see `ranvier.ops.step_scan.plan_key`)."""
        return plan_key(self, *form)

    # What torch.compiler.assume_constant_result sets; calling it here would import the compiler, which takes seconds.
    scan_plan._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]

    def forward(self, x: Tensor) -> Tensor:
        """Input current `[T, B, ...]` to spikes `[T, B, ...]`.

        Starts from the initial state, or from the carried one inside `ranvier.carry`. Raises `ShapeError` for input
        without a time and a batch axis or with T = 0, and `StateError` when carried state does not fit.
        """
        if x.dim() < 2 or x.shape[0] == 0:
            raise ShapeError(
                f"{type(self).__name__} needs a sequence [T, B, ...] with at least one time step, got shape "
                f"{tuple(x.shape)}; use x.unsqueeze(0) for a single step"
            )
        if not x.is_floating_point():
            raise ArgumentError(f"{type(self).__name__} needs a floating-point input current, got {x.dtype}")
        if self._packing is not None:
            return self._forward_packed(x, self._packing)
        if self._carried is None:
            return self.scan(x, None, keep_state=False)[0]
        state = self.recall()
        if state is not None:
            self.fits(state, self.initial_state(x[0]))
        spikes, state = self.scan(x, state, keep_state=True)
        assert state is not None
        self.remember(state)
        return spikes
