"""The neurons that take the place of a quantised activation when a network is converted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.neurons.leaky import LeakyNeuron, Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_count, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.ops.leaky_scan import leaky_scan
from ranvier.packing import Packing
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("qcfs_if")
class QCFSIF(LeakyNeuron):
    """The IF neuron of the QCFS conversion (Bu et al., ICLR 2022): V starts at θ/2, soft reset, output θ s:

        V ← V + x,   s = 1[V ≥ θ],   V ← V − θ s.

    For a constant input I the mean of T outputs is `θ/T · clip(floor(T I/θ + ½), 0, T)`, which is the QCFS activation
    with L = T levels, exactly.

    Args:
        threshold: θ > 0, the trained λ of the activation; a 1-D tensor for one per channel. Part of the checkpoint.
        start: V before the first step, as a share of θ.
        scale_output: emit θ s; False emits s, for when θ is folded into the next weight.
        detach_reset, surrogate, channel_axis: as in `IF`.
    """

    def __init__(
        self,
        threshold: Parameter = 1.0,
        start: float = 0.5,
        scale_output: bool = True,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, 0.0, "soft", detach_reset, surrogate, channel_axis, decay_input=False)
        self.register_buffer("threshold", self.threshold)  # learned in the network that is converted
        self.start = check_number("start", start, lambda v: 0 <= v <= 1, "in [0, 1]")
        self.scale_output = scale_output
        self._no_decay: Tensor
        self.register_buffer("_no_decay", torch.zeros(()), persistent=False)

    def decay(self) -> Tensor:
        return self._no_decay

    def initial_state(self, like: Tensor) -> State:
        threshold = self._step_parameters(tuple(like.shape), like.dtype)[1]
        return (torch.zeros_like(like, dtype=threshold.dtype) + self.start * threshold,)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        s, after = super().step(x_t, state)
        return self._scaled(s, tuple(x_t.shape)), after

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        decay, threshold = self._step_parameters(tuple(x.shape[1:]), x.dtype)
        v = self.initial_state(x[0])[0] if state is None else state[0]
        spikes, v_last = leaky_scan(x, v, decay, threshold, self.dynamics, keep_state)
        return self._scaled(spikes, tuple(x.shape[1:])), None if v_last is None else (v_last,)

    def fused_packed(
        self, x: Tensor, packing: Packing, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None] | None:
        start = self.initial_state(x[: packing.batch]) if state is None else state
        found = super().fused_packed(x, packing, start, keep_state)
        return None if found is None else (self._scaled(found[0], (packing.batch, *x.shape[1:])), found[1])

    def forward(self, x: Tensor) -> Tensor:
        plain = self._packing is None and self.threshold.dim() == 0 and x.dtype in (torch.float32, torch.float64)
        if x.shape[:1] != (1,) or self._carried is None or not plain or torch.is_grad_enabled():
            return super().forward(x)
        state = self.recall()
        if state is not None and (state[0].shape != x.shape[1:] or state[0].dtype != x.dtype):
            return super().forward(x)
        # a step of a stream: three elementwise operations cost less than the way to a fused scan
        theta = self.threshold.to(x.dtype)
        v = x[0] + (self.start * theta if state is None else state[0])
        s = (v >= theta).to(x.dtype)
        out = s * theta
        self.remember((v.sub_(out),))
        return (out if self.scale_output else s).unsqueeze(0)

    def _scaled(self, spikes: Tensor, step_shape: tuple[int, ...]) -> Tensor:
        if not self.scale_output:
            return spikes
        return spikes * self._step_parameters(step_shape, spikes.dtype)[1].to(spikes.dtype)


@NEURONS.register("qffs_if")
class QFFSIF(MembraneNeuron):
    """The noise-corrected signed IF neuron of QFFS (Li et al., 2022): an IF neuron that takes spikes back.

        V ← V + x,   s = 1[V ≥ θ] 1[N < n] − 1[V < 0] 1[N > 0],   V ← V − θ s,   N ← N + s,   output θ s,

    with V starting at θ/2 and N, the net number of spikes, at 0: never more than n = `levels`, never below 0. When the
    network's input is shown for the first n steps and then withdrawn, N settles on the level of the quantised
    activation, `clip(floor(n a/θ + ½), 0, n)` for a mean input a over those steps, a few steps later. Read logits as
    their sum over time, over n.

    Args:
        levels: n ≥ 1, the number of non-zero levels of the activation.
        threshold: θ > 0, or a 1-D tensor with one per channel. Part of the checkpoint.
        start, scale_output: as in `QCFSIF`.
        detach_reset, surrogate, channel_axis: as in `IF`.

    The spike counts N pass no gradient.
    """

    state_names = ("v", "count")

    def __init__(
        self,
        levels: int = 3,
        threshold: Parameter = 1.0,
        start: float = 0.5,
        scale_output: bool = True,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, "soft", 0.0, detach_reset)
        self.register_buffer("threshold", self.threshold)  # learned in the network that is converted
        self.levels = check_count("levels", levels)
        self.start = check_number("start", start, lambda v: 0 <= v <= 1, "in [0, 1]")
        self.scale_output = scale_output

    def initial_state(self, like: Tensor) -> State:
        rest = self.at_rest(like)
        return rest + self.start * self.aligned(self.threshold, rest), rest

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, count = state
        threshold = self.aligned(self.threshold, v)
        h = v + x_t.to(v.dtype)
        may_rise = (count < self.levels - 0.5).to(v.dtype)
        may_fall = (count > 0.5).to(v.dtype)
        s = self.surrogate(h - threshold) * may_rise - (1 - self.surrogate(h)) * may_fall
        out = s * threshold if self.scale_output else s
        return out.to(x_t.dtype), (self.after_spike(h, s, threshold), count + s.detach())
