"""Fast gain adaptation in front of any spiking neuron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons.membrane import check_number
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS, build
from ranvier.state import State

Mode = Literal["stream", "batch", "frozen"]
Share = Literal["element", "channel", "layer"]


def _inverse_softplus(x: float) -> float:
    return x + math.log(-math.expm1(-x))


def _weights(recurrent: Tensor, mode: Mode) -> Tensor:
    if mode != "stream":
        raise ArgumentError(f"recurrent needs mode='stream', got mode={mode!r}")
    if recurrent.dim() != 2 or recurrent.shape[0] != recurrent.shape[1] or not bool(torch.isfinite(recurrent).all()):
        raise ArgumentError(f"recurrent must be a finite square matrix [N, N], got shape {tuple(recurrent.shape)}")
    return recurrent.detach().clone()


@NEURONS.register("gain_control")
class GainControl(Neuron):
    """A neuron whose input gain follows the statistics of its drive and of its own spikes (local rule of adaptive
    efficient coding; Duong et al. 2023, arXiv 2305.19869, with the decoder M⁻¹ and Mᵀ ≈ I):

        s = neuron(g d),   r ← ρ r + (1 − ρ) κ s,   f = max(d, 0),
        g ← clamp(g − (f² (g − 1) + α f r + γ (g − 1)) / τ_g),   ρ = exp(−1/τ_r),

    or, with rule "closed_form", the gains that are best for the recent drive of a neuron without recurrence,

        c ← ρ_g c + (1 − ρ_g) f²,   g = (c + γ) / ((1 + α) c + γ),   ρ_g = exp(−1/τ_g).

    A strong drive lowers the gain towards 1/(1 + α), a weak one leaves it near 1; γ (in units of f²) tells them apart.
    With `recurrent` W the neurons also drive each other, s = neuron(g d + W s₋₁): only their own input is scaled, and a
    change of one gain reaches the others through W.

    Gains are state like the membrane: every call starts from `gain`, nothing has to be reset, and `ranvier.carry`
    streams them. All times are in steps.

    Args:
        neuron: name, mapping or object of the neuron behind the gain; one that streams.
        alpha: price α ≥ 0 of activity.
        gamma: pull γ ≥ 0 of the gains to 1.
        tau_gain: time constant τ_g > 0 of the gains; infinite for none, which is the plain neuron. The local rule is
            an explicit step: with f² + γ above 2 τ_g it swings between the limits; "closed_form" never does.
        tau_rate: time constant τ_r > 0 of the firing rate.
        rate_scale: κ > 0, turns spikes into the units of the drive.
        gain: the gain that a sequence starts from.
        limits: smallest and largest gain, both positive.
        rule: "local" or "closed_form".
        mode: "stream" adapts within each sequence, sample by sample. "batch" keeps one gain a channel (or one in all
            without `channels`) as a buffer that training moves by batch means and evaluation leaves alone, like batch
            normalisation. "frozen" multiplies by that buffer and never changes it.
        share: who has a gain of its own: every "element", every "channel" (statistics are averaged over the other axes
            of a feature map), or the "layer" as a whole (all neurons of a sample share one).
        learn: learn α, γ and (local rule) τ_g as positive numbers; implies `through_gain`.
        through_gain: pass gradient through the adaptation. By default gains are state and constants to the gradient.
        channels, channel_axis: of the buffer in the modes "batch" and "frozen", and what `share` keeps apart.
        recurrent: fixed weights W `[N, N]` from the spikes of the step before to the input of this one, for inputs
            `[T, B, N]`; mode "stream" only.
        options: further keywords go to the neuron (`threshold`, `tau`, `surrogate`, ...).
    """

    def __init__(
        self,
        neuron: str | Mapping[str, Any] | Neuron = "lif",
        alpha: float = 1.0,
        gamma: float = 0.1,
        tau_gain: float = 1000.0,
        tau_rate: float = 100.0,
        rate_scale: float = 1.0,
        gain: float = 1.0,
        limits: tuple[float, float] = (0.05, 4.0),
        rule: Literal["local", "closed_form"] = "local",
        mode: Mode = "stream",
        share: Share = "element",
        learn: bool = False,
        through_gain: bool = False,
        channels: int | None = None,
        channel_axis: int = 2,
        recurrent: Tensor | None = None,
        **options: Any,
    ) -> None:
        if isinstance(neuron, Neuron) and options:
            raise ArgumentError(
                f"{next(iter(options))}: options of the neuron go with its name, not with a finished neuron"
            )
        inner = neuron if isinstance(neuron, Neuron) else build(neuron, **options)
        super().__init__(inner.surrogate)
        if not inner.streams:
            raise ArgumentError(
                f"neuron: gain control needs one that streams, and {type(inner).__name__} sees all steps"
            )
        self.neuron = inner
        check_number("alpha", alpha, lambda a: a > 0 if learn else a >= 0, "a number >= 0 (> 0 to be learned)")
        check_number("gamma", gamma, lambda g: g > 0 if learn else g >= 0, "a number >= 0 (> 0 to be learned)")
        if isinstance(tau_gain, bool) or not isinstance(tau_gain, int | float) or not tau_gain > 0:
            raise ArgumentError(f"tau_gain must be a positive number of steps, or infinity, got {tau_gain!r}")
        self.tau_rate = check_number("tau_rate", tau_rate, lambda t: t > 0, "a positive number of steps")
        self.rate_scale = check_number("rate_scale", rate_scale, lambda k: k > 0, "a positive number")
        low, high = limits
        if not (isinstance(low, int | float) and isinstance(high, int | float) and 0 < low <= high < math.inf):
            raise ArgumentError(f"limits must be two positive numbers in order, got {limits!r}")
        self.low, self.high = float(low), float(high)
        self.start = check_number("gain", gain, lambda g: low <= g <= high, f"a number in limits {limits}")
        for name, value, known in (
            ("rule", rule, ("local", "closed_form")),
            ("mode", mode, ("stream", "batch", "frozen")),
            ("share", share, ("element", "channel", "layer")),
        ):
            if value not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if learn and (mode != "stream" or math.isinf(tau_gain)):
            raise ArgumentError("learn needs mode='stream' and a finite tau_gain")
        self.rule, self.mode, self.share = rule, mode, share
        self.learn, self.through_gain = learn, through_gain or learn
        self.channels, self.channel_axis = channels, channel_axis
        self.alpha: float | nn.Parameter
        self.gamma: float | nn.Parameter
        self.tau_gain: float | nn.Parameter
        if learn:  # kept as numbers whose softplus they are
            self.alpha, self.gamma, self.tau_gain = (
                nn.Parameter(torch.tensor(_inverse_softplus(value))) for value in (alpha, gamma, float(tau_gain))
            )
        else:
            self.alpha, self.gamma, self.tau_gain = float(alpha), float(gamma), float(tau_gain)
        if mode != "stream":
            self.register_buffer("gains", torch.full(() if channels is None else (channels,), self.start))
        own = (("g", "r") if rule == "local" else ("c",)) if mode == "stream" else ()
        own += ("s",) if recurrent is not None else ()
        self.state_names = (*own, *inner.state_names)
        self.recurrent: Tensor | None
        self.register_buffer("recurrent", None if recurrent is None else _weights(recurrent, mode))

    def _constants(self) -> tuple[Any, Any, Any]:
        given = (self.alpha, self.gamma, self.tau_gain)
        return tuple(F.softplus(p) for p in given) if self.learn else given  # pyright: ignore[reportReturnType, reportArgumentType]

    def _spread(self, x: Tensor) -> tuple[int, ...]:
        """The axes of one step that share a gain."""
        if self.share == "element":
            return ()
        if self.share == "layer":
            return tuple(range(1, x.dim()))
        axis = self.channel_axis - 1 if self.channel_axis >= 0 else x.dim() + self.channel_axis
        return tuple(a for a in range(1, x.dim()) if a != axis)

    def _mean(self, x: Tensor) -> Tensor:
        axes = self._spread(x)
        return x.mean(axes, keepdim=True).expand_as(x) if axes else x

    def _buffered(self, like: Tensor) -> Tensor:
        """The gains of the modes "batch" and "frozen", shaped to multiply one step or a sequence of `like`'s rank."""
        gains: Tensor = self.gains  # pyright: ignore[reportAssignmentType]
        if gains.dim() == 0:
            return gains.to(like.dtype)
        axis = self.channel_axis % like.dim()
        if like.shape[axis] != gains.numel():
            raise ShapeError(
                f"gain control has {gains.numel()} channels, axis {axis} of the input has {like.shape[axis]}"
            )
        return gains.to(like.dtype).view(*(-1 if a == axis else 1 for a in range(like.dim())))

    def initial_state(self, like: Tensor) -> State:
        inner = self.neuron.initial_state(like)
        if self.mode != "stream":
            return inner
        work = like.float() if like.dtype in (torch.float16, torch.bfloat16) else like
        own = (
            (torch.full_like(work, self.start), torch.zeros_like(work)) if self.rule == "local" else (self._rest(work),)
        )
        return (*own, *([torch.zeros_like(work)] if self.recurrent is not None else []), *inner)

    def _lateral(self, inner: list[Tensor]) -> Tensor | float:
        """W s₋₁; takes the spikes of the step before off the state."""
        if self.recurrent is None:
            return 0.0
        before = inner.pop(0)
        if before.shape[-1] != self.recurrent.shape[0]:
            raise ShapeError(
                f"gain control has recurrent weights of {self.recurrent.shape[0]} neurons, the input has "
                f"{before.shape[-1]} on its last axis"
            )
        return before @ self.recurrent.to(before.dtype).T

    def _rest(self, like: Tensor) -> Tensor:
        """The mean square of the drive for which the closed form gives the gain that a sequence starts from."""
        alpha, gamma, _ = (float(c) for c in self._constants())
        slope = (1 + alpha) * self.start - 1
        at = gamma * (1 - self.start) / slope if self.start < 1 and slope > 0 else 0.0
        return torch.full_like(like, at)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        if self.mode != "stream":
            return self.neuron.step(x_t * self._buffered(x_t.unsqueeze(0)).squeeze(0), state)
        drive = x_t.to(state[0].dtype)
        alpha, gamma, tau = self._constants()
        if self.rule == "local":
            g, r, *inner = state
            lateral = self._lateral(inner)
            s, after = self.neuron.step(g * drive + lateral, tuple(inner))
            felt, spikes, g_now = (drive, s, g) if self.through_gain else (drive.detach(), s.detach(), g.detach())
            rho = math.exp(-1 / self.tau_rate)
            r = rho * r + (1 - rho) * self.rate_scale * spikes.to(r.dtype)
            f = torch.relu(felt)
            pull = self._mean(f * f) * (g_now - 1) + alpha * self._mean(f * r) + gamma * (g_now - 1)
            g = torch.clamp(g_now - pull / tau, self.low, self.high)
            return s.to(x_t.dtype), (g, r, *self._kept(s), *after)
        c, *inner = state
        g = torch.clamp((c + gamma) / ((1 + alpha) * c + gamma + 1e-30), self.low, self.high)
        lateral = self._lateral(inner)
        s, after = self.neuron.step(g * drive + lateral, tuple(inner))
        f = torch.relu(drive if self.through_gain else drive.detach())
        rho = torch.exp(-1 / tau) if isinstance(tau, Tensor) else math.exp(-1 / tau)
        return s.to(x_t.dtype), (rho * c + (1 - rho) * self._mean(f * f), *self._kept(s), *after)

    def _kept(self, spikes: Tensor) -> tuple[Tensor, ...]:
        return () if self.recurrent is None else (spikes,)

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        if self.mode == "stream":
            return super().scan(x, state, keep_state)
        spikes, state = self.neuron.scan(x * self._buffered(x), state, keep_state)
        if self.mode == "batch" and self.training:
            self._observe(x.detach(), spikes.detach())
        return spikes, state

    @torch.no_grad()
    def _observe(self, x: Tensor, spikes: Tensor) -> None:
        """Move the buffered gains by the means over time, batch and space."""
        axis = self.channel_axis % x.dim()
        axes = tuple(a for a in range(x.dim()) if self.channels is None or a != axis)
        gains: Tensor = self.gains  # pyright: ignore[reportAssignmentType]
        f = torch.relu(x.to(gains.dtype))
        alpha, gamma, tau = self._constants()
        power = (f * f).mean(axes)
        if self.rule == "closed_form":
            best = (power + gamma) / ((1 + alpha) * power + gamma + 1e-30)
            gains += (1 - math.exp(-1 / tau)) * (best - gains)
        else:
            rate = self.rate_scale * spikes.to(gains.dtype).mean(0)
            gains -= (power * (gains - 1) + alpha * (f * rate).mean(axes) + gamma * (gains - 1)) / tau
        gains.clamp_(self.low, self.high)

    def extra_repr(self) -> str:
        return f"rule={self.rule}, mode={self.mode}, limits=({self.low:g}, {self.high:g})"


@NEURONS.register("gain_lif")
class GainLIF(GainControl):
    """LIF with gain control of its input: `GainControl` with a LIF of soft reset.

    `tau` and what else `LIF` takes are keywords too. With `tau_gain=math.inf` it equals `LIF` bit for bit.
    """

    def __init__(self, tau: float | Tensor = 2.0, reset: str = "soft", **arguments: Any) -> None:
        if "neuron" in arguments:
            raise ArgumentError("neuron: gain_lif has LIF neurons; use gain_control for others")
        super().__init__("lif", tau=tau, reset=reset, **arguments)
