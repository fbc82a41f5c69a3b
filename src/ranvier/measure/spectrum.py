"""Which frequencies get through: in time, through a neuron; in space, in a feature map.

The two are kept apart on purpose. A spiking neuron filters in *time*, and a static image is constant in time; what a
feature map lacks in *space* is a matter of the layers. Temporal frequencies are in cycles per step (0 to ½), spatial
ones in units of the Nyquist frequency (1 is a change of sign from pixel to pixel along an axis).

Source: Fang et al., Spiking Neural Networks Need High-Frequency Information, NeurIPS 2025, section on the low-pass
property; the definition of relative log amplitude follows Park and Kim, ICLR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons import CubaLIF, LeakyNeuron, Neuron, SlidingPSN


def _delay(frequency: Tensor | float) -> Tensor:
    """z⁻¹ = e^{−jω} at a frequency in cycles per step."""
    f = torch.as_tensor(frequency, dtype=torch.float64)
    return torch.exp(-2j * math.pi * f)


def _coefficient(value: Tensor | float, name: str) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    if value.dim():
        raise ArgumentError(f"{name} differs per channel; make a neuron with the one value to be looked at")
    return value


@torch.no_grad()
def linear_response(neuron: Neuron, frequency: Tensor | float) -> Tensor:
    """The transfer function from input to membrane of `neuron` below its threshold, H(e^{jω}), complex.

        IF, LIF, PLIF, integer neurons    H = g / (1 − β z⁻¹), β = 1 − k, and g = k with `decay_input`, else 1
        CubaLIF                           H = 1 / ((1 − a z⁻¹)(1 − b z⁻¹))
        SlidingPSN                        H = Σ_i w[i] z⁻ⁱ

    Args:
        neuron: one of those, with parameters per layer. The response of IF at frequency 0 is infinite.
        frequency: cycles per step, any shape.

    Raises `ArgumentError` for a neuron without a linear regime in closed form (measure it with `response` instead).
    """
    delay = _delay(frequency)
    if isinstance(neuron, LeakyNeuron):
        k = _coefficient(neuron.decay(), "the decay")
        gain = k if neuron.dynamics.decay_input else torch.ones_like(k)
        return gain / (1 - (1 - k) * delay)
    if isinstance(neuron, CubaLIF):
        a, b = (_coefficient(p, "the decay") for p in neuron.decays())
        return 1 / ((1 - a * delay) * (1 - b * delay))
    if isinstance(neuron, SlidingPSN):
        powers = torch.stack([delay**i for i in range(neuron.order)], -1)
        return (powers * neuron.weight.double()).sum(-1)
    raise ArgumentError(
        f"{type(neuron).__name__} has no linear transfer function in closed form; estimate it with "
        "ranvier.measure.spectrum.response"
    )


def cutoff(beta: float) -> float | None:
    """Where |H|² of the leaky membrane is half its value at 0, in cycles per step: cos ω = (4β − 1 − β²)/(2β).

    `beta` in (0, 1) is the share of the membrane that is kept, 1 − 1/τ. None for β < 3 − 2√2 ≈ 0.1716, where even the
    highest frequency loses less than half.
    """
    if not 0 < beta < 1:
        raise ArgumentError(f"beta must be between 0 and 1, got {beta!r}")
    cosine = (4 * beta - 1 - beta * beta) / (2 * beta)
    return math.acos(cosine) / (2 * math.pi) if cosine >= -1 else None


@dataclass(frozen=True)
class Response:
    """A transfer function estimated from noise.

    `frequency` in cycles per step; `gain` complex; `coherence` in [0, 1]: the share of the output's power that a linear
    filter of the input explains (1 for a linear system, less for spikes).
    """

    frequency: Tensor
    gain: Tensor
    coherence: Tensor


@torch.no_grad()
def response(
    system: Callable[[Tensor], Tensor],
    steps: int = 4096,
    sequences: int = 64,
    segment: int = 256,
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
) -> Response:
    """The transfer function of `system` (a neuron, a net, any map `[T, B] -> [T, B]`) from its answer to white noise.

    Welch's method: H = S_xy / S_xx over half-overlapping Hann segments with their means removed; the first segment is
    left out, so that the start from rest does not count. For a spiking neuron this is the best linear description of
    input current to spike train at that mean and that noise.

    Args:
        system: the map; called once, with float64 noise `[steps, sequences]` (`neuron.double()` for a neuron).
        steps, sequences: length and number of the noise sequences.
        segment: steps a segment; the frequencies are 0, 1/segment, …, ½.
        mean, std: of the Gaussian noise.
        seed: of the noise.
    """
    if segment < 4 or steps < 3 * segment:
        raise ArgumentError(f"steps must be at least three segments of at least 4, got {steps} and segment {segment}")
    if not std > 0 or sequences < 1:
        raise ArgumentError(f"std and sequences must be positive, got {std!r} and {sequences!r}")
    generator = torch.Generator().manual_seed(seed)
    x = mean + std * torch.randn(steps, sequences, generator=generator, dtype=torch.float64)
    y = system(x)
    if y.shape != x.shape:
        raise ShapeError(f"the system must map [T, B] to [T, B]; it turned {tuple(x.shape)} into {tuple(y.shape)}")
    window = torch.hann_window(segment, dtype=torch.float64)

    def spectra(signal: Tensor) -> Tensor:
        pieces = signal[segment:].unfold(0, segment, segment // 2)  # [segments, sequences, segment]
        return torch.fft.rfft((pieces - pieces.mean(-1, keepdim=True)) * window)

    fx, fy = spectra(x), spectra(y.double())
    sxx, syy = (f.abs().square().mean((0, 1)) for f in (fx, fy))
    sxy = (fx.conj() * fy).mean((0, 1))
    explained = sxy.abs().square() / (sxx * syy)
    coherence = torch.where(syy > 0, explained, torch.zeros_like(explained))
    return Response(torch.fft.rfftfreq(segment, dtype=torch.float64), sxy / sxx, coherence)


def membrane(neuron: Neuron, index: int = 0) -> Callable[[Tensor], Tensor]:
    """The map from input to state number `index` of `neuron` after every step, for `response`."""

    def trace(x: Tensor) -> Tensor:
        state = neuron.initial_state(x[0])
        values: list[Tensor] = []
        for x_t in x.unbind(0):
            _, state = neuron.step(x_t, state)
            values.append(state[index])
        return torch.stack(values)

    return trace


@dataclass(frozen=True)
class LogAmplitude:
    """log|F(f)| − log|F(0)| by spatial `frequency` (1: Nyquist along an axis; corners reach √2), natural logarithm."""

    frequency: Tensor
    value: Tensor


def _amplitudes(features: Tensor) -> Tensor:
    if features.dim() < 2 or min(features.shape[-2:]) < 2:
        raise ShapeError(f"feature maps must be [..., H, W] with H and W at least 2, got {tuple(features.shape)}")
    if not features.isfinite().all():
        raise ArgumentError("the feature maps hold values that are not finite")
    maps = features.detach().double().reshape(-1, *features.shape[-2:])
    return torch.fft.fft2(maps).abs()


def _axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    return tuple(2 * torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in (height, width))  # pyright: ignore


def relative_log_amplitude(
    features: Tensor, along: Literal["radial", "axis", "diagonal"] = "radial", bins: int | None = None
) -> LogAmplitude:
    """The spectrum of feature maps relative to their mean: average over maps of log|F(f)|, less that at f = 0.

    Args:
        features: `[..., H, W]`; leading axes (samples, channels, steps) are averaged over, in the logarithm.
        along: "radial" averages all directions in rings of equal width; "axis" is the horizontal frequency axis,
            "diagonal" the one at 45° (frequency there is that of either axis), without averaging.
        bins: number of rings (default: half the smaller side); for "radial" only. Empty rings are left out.

    Amplitudes are floored at 1e-12 of the largest, so that an exact zero stays finite.
    """
    amplitude = _amplitudes(features)
    floor = amplitude.amax().clamp_min(torch.finfo(torch.float64).tiny) * 1e-12
    log = amplitude.clamp_min(floor).log().mean(0)
    log = log - log[0, 0]
    height, width = log.shape
    fy, fx = _axes(height, width)
    if along == "axis":
        half = width // 2 + 1
        return LogAmplitude(fx[:half], log[0, :half])
    if along == "diagonal":
        if height != width:
            raise ShapeError(f"the diagonal needs square feature maps, got {height} x {width}")
        half = width // 2 + 1
        return LogAmplitude(fx[:half], log.diagonal()[:half])
    if along != "radial":
        raise ArgumentError(f"along must be 'radial', 'axis' or 'diagonal', got {along!r}")
    count = min(height, width) // 2 if bins is None else bins
    if count < 1:
        raise ArgumentError(f"bins must be a positive count, got {bins!r}")
    radius = (fy[:, None].square() + fx.square()).sqrt().flatten()
    ring = (radius / math.sqrt(2) * count).long().clamp_max(count - 1)
    ring[0] = count  # the mean has a place of its own
    sizes = ring.bincount(minlength=count + 1)[:count]

    def averaged(values: Tensor) -> Tensor:
        total = values.new_zeros(count + 1).index_add(0, ring, values)[:count]
        return (total / sizes)[sizes > 0]

    zero = log.new_zeros(1)
    return LogAmplitude(torch.cat([zero, averaged(radius)]), torch.cat([zero, averaged(log.flatten())]))


def high_frequency_ratio(features: Tensor, cutoff: float = 0.55) -> float:
    """The share of the energy (without the mean) at spatial frequencies of at least `cutoff`.

    The frequency of a component is the larger of its two axes', so 1 is the highest in any direction. Returns a number
    in [0, 1]; 0 for constant maps. `features`: `[..., H, W]`.
    """
    if not 0 < cutoff <= 1:
        raise ArgumentError(f"cutoff must be in (0, 1], got {cutoff!r}")
    energy = _amplitudes(features).square().sum(0)
    energy[0, 0] = 0
    fy, fx = _axes(*energy.shape)
    total = energy.sum()
    if not total > 0:
        return 0.0
    return float(energy[torch.maximum(fy[:, None], fx) >= cutoff].sum() / total)
