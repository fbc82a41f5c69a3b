"""The Hodgkin-Huxley neuron."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_count, check_number
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Sigmoid, Surrogate

_NEAR_ZERO = 1e-4


def _over_expm1(x: Tensor) -> Tensor:
    """x / (eˣ − 1), which is 1 at 0; the series there keeps value and gradient finite."""
    small = x.abs() < _NEAR_ZERO
    away = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 - x / 2 + x * x / 12, away / torch.expm1(away))


class _Axon(Neuron):
    """One integration step at a time: input current in, membrane out, state (v, m, h, n)."""

    state_names = ("v", "m", "h", "n")

    def __init__(
        self,
        dt: float,
        exponential: bool,
        conductances: tuple[float, ...],
        reversals: tuple[float, ...],
        capacitance: float,
        gates: tuple[float, ...],
    ) -> None:
        super().__init__("straight_through")
        self.dt, self.exponential, self.capacitance = dt, exponential, capacitance
        self.conductances, self.reversals, self.gates = conductances, reversals, gates

    def initial_state(self, like: Tensor) -> State:
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
        return tuple(torch.full_like(like, value, dtype=work) for value in (0.0, *self.gates))

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, m, h, n = state
        g_na, g_k, g_leak = self.conductances
        e_na, e_k, e_leak = self.reversals
        n2 = n * n
        ions = g_na * m * m * m * h * (v - e_na) + g_k * n2 * n2 * (v - e_k) + g_leak * (v - e_leak)
        v = v + self.dt / self.capacitance * (x_t - ions)
        m = self._gate(m, _over_expm1(2.5 - 0.1 * v), 4 * torch.exp(v / -18))
        h = self._gate(h, 0.07 * torch.exp(v / -20), torch.sigmoid(0.1 * v - 3))
        n = self._gate(n, 0.1 * _over_expm1(1 - 0.1 * v), 0.125 * torch.exp(v / -80))
        return v, (v, m, h, n)

    def _gate(self, y: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        if not self.exponential:
            return y + self.dt * (alpha * (1 - y) - beta * y)
        settled = alpha / (alpha + beta)
        return settled + (y - settled) * torch.exp(-self.dt * (alpha + beta))


@NEURONS.register("hodgkin_huxley")
class HodgkinHuxley(MembraneNeuron):
    """The squid axon (Hodgkin and Huxley, J. Physiol. 117, 1952), v in mV above rest, time in ms, current in µA/cm²:

        C dv/dt = x − g_Na m³h (v − E_Na) − g_K n⁴ (v − E_K) − g_L (v − E_L),   dy/dt = α_y (1 − y) − β_y y,

        α_n = (0.1 − 0.01 v)/(e^{1 − 0.1 v} − 1)    α_m = (2.5 − 0.1 v)/(e^{2.5 − 0.1 v} − 1)    α_h = 0.07 e^{−v/20}
        β_n = 0.125 e^{−v/80}                       β_m = 4 e^{−v/18}                           β_h = 1/(e^{3−0.1v} + 1)

    A step of the sequence is `substeps` integration steps of `dt` under one input (v first, then the gates at the new
    v); it emits a spike when v rises through the threshold in it (no reset: the currents do that). The removable
    singularities at v = 10 and v = 25 are removed. A circulating version takes g_K = 120 and E_K = −120 (and C = 0.02),
    which is not the axon.

    Args:
        dt: milliseconds an integration step, > 0; Euler is stable up to about 0.05 unless the current
            drives the membrane far below rest (v < −18 ln(0.5/dt) mV, where β_m dt > 2): use "exponential" there.
        substeps: integration steps a time step.
        integrator: of the gates, "euler" or "exponential" (exact for a fixed v, so gates stay in [0, 1] for any dt).
        g_na, g_k, g_leak: conductances in mS/cm², ≥ 0.
        e_na, e_k, e_leak: reversal potentials in mV above rest.
        capacitance: C in µF/cm², > 0.
        threshold: mV above rest, positive, or a 1-D tensor with one per channel.
        gates: initial (m, h, n), each in [0, 1].
        surrogate: its argument is v − θ in mV, so a flat one by default.
        channel_axis: as in `LIF`.
    """

    state_names = ("v", "m", "h", "n")

    def __init__(
        self,
        dt: float = 0.01,
        substeps: int = 1,
        integrator: Literal["euler", "exponential"] = "euler",
        g_na: float = 120.0,
        g_k: float = 36.0,
        g_leak: float = 0.3,
        e_na: float = 115.0,
        e_k: float = -12.0,
        e_leak: float = 10.6,
        capacitance: float = 1.0,
        threshold: Parameter = 50.0,
        gates: tuple[float, float, float] = (0.05, 0.6, 0.32),
        surrogate: str | dict[str, Any] | Surrogate = Sigmoid(alpha=0.1),  # noqa: B008 an immutable value
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis)
        if integrator not in ("euler", "exponential"):
            raise ArgumentError(f"integrator must be 'euler' or 'exponential', got {integrator!r}")
        if len(gates) != 3:
            raise ArgumentError(f"gates must be three numbers (m, h, n), got {gates!r}")
        self.dt = check_number("dt", dt, lambda v: v > 0, "a positive number (in ms)")
        self.substeps = check_count("substeps", substeps)
        farad = check_number("capacitance", capacitance, lambda v: v > 0, "a positive number")
        named = {"g_na": g_na, "g_k": g_k, "g_leak": g_leak}
        conductances = tuple(check_number(n, g, lambda v: v >= 0, "a number >= 0") for n, g in named.items())
        named = {"e_na": e_na, "e_k": e_k, "e_leak": e_leak}
        reversals = tuple(check_number(n, e, lambda _: True, "a finite number") for n, e in named.items())
        start = tuple(check_number("gates", g, lambda v: 0 <= v <= 1, "in [0, 1]") for g in gates)
        self.axon = _Axon(self.dt, integrator == "exponential", conductances, reversals, farad, start)

    def initial_state(self, like: Tensor) -> State:
        return self.axon.initial_state(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        x, threshold = x_t.to(state[0].dtype), self.aligned(self.threshold, state[0])
        below = (state[0] < threshold).to(x.dtype)
        if self.substeps == 1:
            peak, after = self.axon.step(x, state)
        else:
            trace, after = self.axon.scan(x.expand(self.substeps, *x.shape), state, True)
            peak = trace.amax(0)
        assert after is not None
        return (self.surrogate(peak - threshold) * below).to(x_t.dtype), after

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        if self.substeps == 1:
            return super().scan(x, state, keep_state)
        # A kernel of all substeps in a row would be as long as they are many; what is fused is the axon, over substeps.
        return self.loop(x, self.initial_state(x[0]) if state is None else state, keep_state)

    def extra_repr(self) -> str:
        return f"dt={self.dt:g}, substeps={self.substeps}"
