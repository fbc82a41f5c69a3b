"""The published integer neurons, each one setting of `IntegerLIF`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons.leaky import IntegerLIF, Parameter
from ranvier.neurons.registry import NEURONS
from ranvier.packing import Packing
from ranvier.state import State

Rounding = Literal["half_up", "half_even"]


@NEURONS.register("i_lif")
class ILIF(IntegerLIF):
    """I-LIF (Luo et al., SpikeYOLO, ECCV 2024; here with the LIF charge of STEP): `h = v + (x − v)/τ`,
    `s = round(clamp(h/θ, 0, D))`, `v = h − s θ`; a spike counts 0..D, and its gradient is one inside the clamp.

    With D = 1 it is a LIF with soft reset that fires at θ/2, because it rounds.

    Args:
        levels: D ≥ 1.
        tau: time constant ≥ 1 in steps, or a 1-D tensor with one per channel.
        decay: λ in [0, 1) for SpikeYOLO's own charge `h = λ v + x` instead (tau is then not used).
        threshold, rounding, detach_reset, channel_axis: as in `IntegerLIF`; ties round to even, as published.
    """

    def __init__(
        self,
        levels: int = 2,
        tau: float = 2.0,
        decay: float | None = None,
        threshold: Parameter = 1.0,
        rounding: Rounding = "half_even",
        detach_reset: bool = True,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(
            levels, threshold, decay=decay, tau=tau if decay is None else None, input_scale=1.0, output_scale=1.0,
            rounding=rounding, detach_reset=detach_reset, channel_axis=channel_axis,
        )  # fmt: skip


@NEURONS.register("ni_lif")
class NILIF(IntegerLIF):
    """NI-LIF, the normalised integer LIF (Lei et al., Spike2Former, AAAI 2025): `I-LIF` whose output is divided by D:
    `h = v + (x − v)/τ`, `n = round(clamp(h/θ, 0, D))`, output n/D in {0, 1/D, …, 1}, `v = h − n θ`.

    The copy in STEP rounds *after* dividing, which leaves only {0, 1}, and takes n/D instead of n off the membrane;
    here both follow the definition. The gradient is 1/D inside the clamp, that of the output as defined.

    Args:
        levels, tau, threshold, rounding, detach_reset, channel_axis: as in `ILIF`.
    """

    def __init__(
        self,
        levels: int = 2,
        tau: float = 2.0,
        threshold: Parameter = 1.0,
        rounding: Rounding = "half_even",
        detach_reset: bool = True,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(
            levels, threshold, tau=tau, input_scale=1.0, rounding=rounding, detach_reset=detach_reset,
            channel_axis=channel_axis,
        )  # fmt: skip


@NEURONS.register("ie_lif")
class IELIF(IntegerLIF):
    """IE-LIF, the information-enhanced LIF of QSD-Transformer (Qiu et al., ICLR 2025):

        n = floor(clamp(D h, 0, D) + ½),   output g n/D,   h = x (released, memoryless) or λ v + x, v = h − n/D.

    Thresholds sit at (k − ½)/D. The neuron after an attention product has gain g = 2, which plays the role of a
    threshold of ½.

    Args:
        levels: D ≥ 1.
        gain: g > 0, 1 or 2 in the publication.
        decay: λ in [0, 1) to remember what was not emitted; None for the memoryless released form.
        threshold, rounding, detach_reset, channel_axis: as in `IntegerLIF`.
    """

    def __init__(
        self,
        levels: int = 4,
        gain: float = 1.0,
        decay: float | None = None,
        threshold: Parameter = 1.0,
        rounding: Rounding = "half_up",
        detach_reset: bool = True,
        channel_axis: int = 2,
    ) -> None:
        if not gain > 0:
            raise ArgumentError(f"gain must be a positive number, got {gain!r}")
        super().__init__(
            levels, threshold, decay=decay, output_scale=gain / levels if levels else None, rounding=rounding,
            detach_reset=detach_reset, channel_axis=channel_axis,
        )  # fmt: skip


@NEURONS.register("spike_count")
class SpikeCount(IntegerLIF):
    """I-LIF in a single step, the neuron of E-3DSNN (Qiu et al., AAAI 2025, T x D = 1 x D): a count that nothing
    carries over, `q(x) = floor(clamp(x/θ, 0, D) + ½)`, with gradient 1/θ where 0 < x/θ < D and zero elsewhere.

    Run for D binary steps it is an IF neuron with soft reset that fires at ½: the counts are the sums of its spikes.

    Args:
        levels: D ≥ 1.
        threshold, rounding, channel_axis: as in `IntegerLIF`; ties round up, as released.
    """

    state_names = ()

    def __init__(
        self, levels: int = 4, threshold: Parameter = 1.0, rounding: Rounding = "half_up", channel_axis: int = 2
    ) -> None:
        super().__init__(
            levels, threshold, input_scale=1.0, output_scale=1.0, rounding=rounding, channel_axis=channel_axis
        )

    def initial_state(self, like: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x_t, super().initial_state(x_t))[0], ()

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        return super().scan(x, None, False)[0], () if keep_state else None

    def scan_packed(
        self, x: Tensor, packing: Packing, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None]:
        return self.scan(x.unsqueeze(0), None, False)[0][0], () if keep_state else None
