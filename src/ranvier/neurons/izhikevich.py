"""Izhikevich's two-variable neuron."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ranvier.errors import ArgumentError, nearest
from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Sigmoid, Surrogate

# (a, b, c, d) of Izhikevich, IEEE Trans. Neural Netw. 14 (2003), fig. 2.
PRESETS = {
    "rs": (0.02, 0.2, -65.0, 8.0),  # regular spiking
    "ib": (0.02, 0.2, -55.0, 4.0),  # intrinsically bursting
    "ch": (0.02, 0.2, -50.0, 2.0),  # chattering
    "fs": (0.1, 0.2, -65.0, 2.0),  # fast spiking
}


@NEURONS.register("izhikevich")
class Izhikevich(MembraneNeuron):
    """Izhikevich's neuron (IEEE Trans. Neural Netw. 14, 2003), in mV and ms:

        v ← v + dt (0.04 v² + 5 v + 140 − u + x),   u ← u + dt a (b v − u) with the new v,
        s = 1[v ≥ θ],   v ← c and u ← u + d on a spike.

    v takes two half steps by default, as in the original program. Starts at v = c, u = b c. The constants that one
    code base circulates (θ = 1, c = −55, d = −2, start at 0) are those of no cell type; the default here is the
    regular-spiking cell.

    Args:
        preset: "rs", "ib", "ch" or "fs" (regular spiking, intrinsically bursting, chattering, fast spiking).
        a, b, c, d: replace single constants of the preset (1/ms, -, mV, mV/ms).
        dt: milliseconds a step, > 0.
        threshold: θ in mV (positive), or a 1-D tensor with one per channel.
        half_steps: integrate v in two half steps.
        surrogate: its argument is v − θ in mV, so a flat one by default.
        detach_reset, channel_axis: as in `LIF`.
    """

    state_names = ("v", "u")

    def __init__(
        self,
        preset: str = "rs",
        a: float | None = None,
        b: float | None = None,
        c: float | None = None,
        d: float | None = None,
        dt: float = 1.0,
        threshold: Parameter = 30.0,
        half_steps: bool = True,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = Sigmoid(alpha=0.1),  # noqa: B008 an immutable value
        channel_axis: int = 2,
    ) -> None:
        key = preset.lower() if isinstance(preset, str) else preset
        if key not in PRESETS:
            raise ArgumentError(f"unknown Izhikevich preset {preset!r}{nearest(str(preset), PRESETS)}")
        self_given = {"a": a, "b": b, "c": c, "d": d}
        constants = [
            check_number(name, default if given is None else given, lambda _: True, "a finite number")
            for (name, given), default in zip(self_given.items(), PRESETS[key], strict=True)
        ]
        super().__init__(threshold, surrogate, channel_axis, "hard", constants[2], detach_reset)
        self.a, self.b, self.c, self.d = constants
        self.dt = check_number("dt", dt, lambda v: v > 0, "a positive number (in ms)")
        self.half_steps = half_steps

    def initial_state(self, like: Tensor) -> State:
        return self.at_rest(like, self.c), self.at_rest(like, self.b * self.c)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, u = state
        x = x_t.to(v.dtype)
        threshold = self.aligned(self.threshold, v)
        parts = 2 if self.half_steps else 1
        for _ in range(parts):
            v = v + self.dt / parts * ((0.04 * v + 5) * v + 140 - u + x)
        u = u + self.dt * self.a * (self.b * v - u)
        s = self.surrogate(v - threshold)
        gate = s.detach() if self.detach_reset else s
        return s.to(x_t.dtype), (self.after_spike(v, s, threshold), u + self.d * gate)

    def extra_repr(self) -> str:
        return f"a={self.a:g}, b={self.b:g}, c={self.c:g}, d={self.d:g}, dt={self.dt:g}"
