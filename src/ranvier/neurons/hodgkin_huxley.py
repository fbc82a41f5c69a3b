"""The Hodgkin-Huxley neuron."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_count, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Sigmoid, Surrogate

_NEAR_ZERO = 1e-4


def _over_expm1(x: Tensor) -> Tensor:
    """x / (eˣ − 1), which is 1 at 0; the series there keeps value and gradient finite."""
    small = x.abs() < _NEAR_ZERO
    away = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 - x / 2 + x * x / 12, away / torch.expm1(away))


@NEURONS.register("hodgkin_huxley")
class HodgkinHuxley(MembraneNeuron):
    """The squid axon (Hodgkin and Huxley, J. Physiol. 117, 1952), v in mV above rest, time in ms, current in µA/cm²:

        C dv/dt = x − g_Na m³h (v − E_Na) − g_K n⁴ (v − E_K) − g_L (v − E_L),   dy/dt = α_y (1 − y) − β_y y,

        α_n = (0.1 − 0.01 v)/(e^{1 − 0.1 v} − 1)    α_m = (2.5 − 0.1 v)/(e^{2.5 − 0.1 v} − 1)    α_h = 0.07 e^{−v/20}
        β_n = 0.125 e^{−v/80}                       β_m = 4 e^{−v/18}                            β_h = 1/(e^{3 − 0.1 v} + 1)

    A step of the sequence is `substeps` integration steps of `dt` under one input; it emits a spike when v rises
    through the threshold in it (no reset: the currents do that). The removable singularities at v = 10 and v = 25 are
    removed. Two circulating versions do otherwise: one takes g_K = 120 and E_K = −120, which is not the axon, one
    swaps the initial h and n.

    Args:
        dt: milliseconds an integration step, > 0; Euler is stable up to about 0.05.
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
        self.exponential = integrator == "exponential"
        self.capacitance = check_number("capacitance", capacitance, lambda v: v > 0, "a positive number")
        named = {"g_na": g_na, "g_k": g_k, "g_leak": g_leak}
        self.conductances = tuple(check_number(n, g, lambda v: v >= 0, "a number >= 0") for n, g in named.items())
        named = {"e_na": e_na, "e_k": e_k, "e_leak": e_leak}
        self.reversals = tuple(check_number(n, e, lambda _: True, "a finite number") for n, e in named.items())
        self.gates = tuple(check_number("gates", g, lambda v: 0 <= v <= 1, "in [0, 1]") for g in gates)

    def initial_state(self, like: Tensor) -> State:
        return (self.at_rest(like), *(self.at_rest(like, gate) for gate in self.gates))

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, m, h, n = state
        x = x_t.to(v.dtype)
        threshold = self.aligned(self.threshold, v)
        below = (v < threshold).to(v.dtype)
        peak = None
        for _ in range(self.substeps):
            v, m, h, n = self._integrate(x, v, m, h, n)
            peak = v if peak is None else torch.maximum(peak, v)
        assert peak is not None
        s = self.surrogate(peak - threshold) * below
        return s.to(x_t.dtype), (v, m, h, n)

    def _integrate(
        self, x: Tensor, v: Tensor, m: Tensor, h: Tensor, n: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        g_na, g_k, g_leak = self.conductances
        e_na, e_k, e_leak = self.reversals
        n2 = n * n
        ions = g_na * m * m * m * h * (v - e_na) + g_k * n2 * n2 * (v - e_k) + g_leak * (v - e_leak)
        after = v + self.dt / self.capacitance * (x - ions)
        m = self._gate(m, _over_expm1(2.5 - 0.1 * v), 4 * torch.exp(v / -18))
        h = self._gate(h, 0.07 * torch.exp(v / -20), torch.sigmoid(0.1 * v - 3))
        n = self._gate(n, 0.1 * _over_expm1(1 - 0.1 * v), 0.125 * torch.exp(v / -80))
        return after, m, h, n

    def _gate(self, y: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        if not self.exponential:
            return y + self.dt * (alpha * (1 - y) - beta * y)
        settled = alpha / (alpha + beta)
        return settled + (y - settled) * torch.exp(-self.dt * (alpha + beta))

    def extra_repr(self) -> str:
        return f"dt={self.dt:g}, substeps={self.substeps}"
