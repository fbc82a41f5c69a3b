"""An event camera from rendered frames, with the noise of a real one.

The equations are those of the v2e emulator (Hu, Liu, Delbruck 2021) and, for the time stamps, of ESIM (Rebecq et al.
2018): a pixel sends an event each time its log-intensity has moved by a threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError

_KNEE = 20.0  # intensity below which the response is linear
_SLOPE = math.log(_KNEE) / _KNEE


def lin_log(intensity: Tensor) -> Tensor:
    """Logarithm of an intensity on the 0-255 scale; linear below 20; rounded to 1e-8 (v2e)."""
    value = torch.where(intensity <= _KNEE, intensity * _SLOPE, torch.log(intensity.clamp_min(_KNEE)))
    return torch.round(value * 1e8) / 1e8


@dataclass(frozen=True)
class CameraEvents:
    """The events of one call, sorted by time: `time_us` float64, `pixel` (flat index into the frame), `polarity` ±1."""

    time_us: Tensor
    pixel: Tensor
    polarity: Tensor

    def __len__(self) -> int:
        return len(self.pixel)

    def counts(self, shape: tuple[int, ...]) -> Tensor:
        """Events per pixel, int64 `[2, *shape]`: OFF first, then ON."""
        size = math.prod(shape)
        index = self.pixel + size * (self.polarity > 0).long()
        return torch.bincount(index, minlength=2 * size).view(2, *shape)


PRESETS: dict[str, dict[str, float]] = {
    "clean": {"sigma": 0.02},
    "noisy": {"sigma": 0.05, "cutoff_hz": 30.0, "leak_hz": 0.1, "shot_hz": 5.0},
}


class EventCamera:
    """Per pixel: log-intensity, low-pass, threshold, leak, shot noise, refractory period.

    Intensities are 0 to 255. State (reference levels, filter, thresholds, last event) begins with the first frame
    after `reset`. Thresholds are drawn once per pixel from the seed.

    Args:
        threshold, sigma: mean and standard deviation over pixels of both thresholds, in log units.
        cutoff_hz: corner of the first-order low-pass at full brightness; it falls with the intensity; 0: none.
        leak_hz: rate of ON events from leakage; its spread over pixels is 0.1 decades, its jitter 0.1.
        shot_hz: rate of noise events in the dark, both polarities together; a quarter of it in full light.
        refractory_us: events closer than this to the pixel's last one are dropped.
        timestamps: "spread" places the n events of an interval evenly in it (v2e); "linear" where a straight line
            from frame to frame crosses the thresholds (ESIM).
        seed: of thresholds and noise.
    """

    def __init__(
        self,
        threshold: float = 0.2,
        sigma: float = 0.03,
        *,
        cutoff_hz: float = 0.0,
        leak_hz: float = 0.0,
        shot_hz: float = 0.0,
        refractory_us: float = 0.0,
        timestamps: Literal["spread", "linear"] = "spread",
        seed: int = 0,
    ) -> None:
        for name, value in (
            ("sigma", sigma), ("cutoff_hz", cutoff_hz), ("leak_hz", leak_hz), ("shot_hz", shot_hz),
            ("refractory_us", refractory_us),
        ):  # fmt: skip
            if not 0 <= value < math.inf:
                raise ArgumentError(f"{name} must be a number >= 0, got {value!r}")
        if not 0 < threshold < math.inf:
            raise ArgumentError(f"threshold must be positive, got {threshold!r}")
        if timestamps not in ("spread", "linear"):
            raise ArgumentError(f"timestamps must be 'spread' or 'linear', got {timestamps!r}")
        self.threshold, self.sigma, self.cutoff_hz, self.leak_hz = threshold, sigma, cutoff_hz, leak_hz
        self.shot_hz, self.refractory_us, self.timestamps, self.seed = shot_hz, refractory_us, timestamps, seed
        self.reset()

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> EventCamera:
        """The camera called "clean" or "noisy"."""
        if name not in PRESETS:
            raise ArgumentError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        arguments: dict[str, Any] = {**PRESETS[name], **overrides}
        return cls(**arguments)

    def reset(self) -> None:
        """Forget the scene; the next frame is the first one. Thresholds and noise start again from the seed."""
        self._reference: Tensor | None = None
        self._generator = torch.Generator().manual_seed(self.seed)

    def _start(self, frame: Tensor, time_us: int) -> None:
        self._shape = tuple(frame.shape)
        value = lin_log(frame)
        draw = torch.randn(2, *frame.shape, generator=self._generator, dtype=torch.float64)
        self.theta_on, self.theta_off = (self.threshold + self.sigma * draw).clamp_min(0.01).unbind(0)
        spread = torch.randn(frame.shape, generator=self._generator, dtype=torch.float64)
        self._leak_factor = 10 ** (0.1 * spread)
        self._reference, self._filtered, self._previous = value.clone(), value.clone(), value.clone()
        self._last = torch.full(frame.shape, -math.inf, dtype=torch.float64)
        self._time = time_us

    def step(self, frame: Tensor, time_us: int) -> CameraEvents:
        """The events between the previous frame and this one, taken at `time_us`.

        Args:
            frame: intensities 0..255 of any shape; the first one after `reset` sets the levels and gives no events.
        """
        frame = frame.double()
        if not bool(torch.isfinite(frame).all()):
            raise ArgumentError("frame: intensities must be finite")
        if self._reference is None:
            self._start(frame, time_us)
            return _none()
        if tuple(frame.shape) != self._shape:
            raise ShapeError(f"frame must keep its shape {self._shape}, got {tuple(frame.shape)}; call reset() first")
        if time_us <= self._time:
            raise ArgumentError(f"time_us must lie after the last frame ({self._time} us), got {time_us}")
        dt = (time_us - self._time) * 1e-6
        value = self._low_pass(lin_log(frame), frame, dt)
        if self.leak_hz:
            jitter = torch.randn(frame.shape, generator=self._generator, dtype=torch.float64)
            self._reference = (
                self._reference - dt * self.leak_hz * self._leak_factor * (1 - 0.1 * jitter) * self.theta_on
            )
        events = self._crossings(value, self._time, time_us)
        if self.shot_hz:
            events = _merge(events, self._shot(frame, value, dt, time_us))
        self._previous, self._time = value, time_us
        return events

    def _low_pass(self, value: Tensor, frame: Tensor, dt: float) -> Tensor:
        if not self.cutoff_hz:
            self._filtered = value
            return value
        share = (dt * 2 * math.pi * self.cutoff_hz * (frame + 20) / 275).clamp(max=1.0)
        self._filtered = self._filtered * (1 - share) + value * share
        return self._filtered

    def _crossings(self, value: Tensor, start_us: int, stop_us: int) -> CameraEvents:
        assert self._reference is not None
        change = (value - self._reference).flatten()
        slack = 1e-7  # a level that is met exactly is crossed, whatever the rounding of `lin_log` to 1e-8
        on = torch.floor(change.clamp_min(0) / self.theta_on.flatten() + slack).long()
        off = torch.floor((-change).clamp_min(0) / self.theta_off.flatten() + slack).long()
        count = on + off
        pixel = torch.repeat_interleave(torch.arange(len(count)), count)
        if not len(pixel):
            return _none()
        number = torch.arange(len(pixel)) - torch.repeat_interleave(count.cumsum(0) - count, count) + 1
        polarity = torch.where(on[pixel] > 0, 1, -1)
        theta = torch.where(polarity > 0, self.theta_on.flatten()[pixel], self.theta_off.flatten()[pixel])
        span = float(stop_us - start_us)
        if self.timestamps == "linear":
            begin = self._previous.flatten()[pixel]
            rise = value.flatten()[pixel] - begin
            level = self._reference.flatten()[pixel] + polarity * number * theta
            share = torch.where(rise != 0, (level - begin) / rise, torch.ones_like(rise)).clamp(0, 1)
        else:
            share = number.double() / count[pixel]
        time = start_us + share * span
        if self.refractory_us:
            keep = self._rested(pixel, time)
            pixel, time, polarity, theta = pixel[keep], time[keep], polarity[keep], theta[keep]
        moved = torch.zeros_like(change).index_add_(0, pixel, polarity * theta)
        self._reference = self._reference + moved.view(self._shape)
        last = self._last.flatten()
        self._last = last.scatter_reduce(0, pixel, time, "amax").view(self._shape)
        order = torch.argsort(time, stable=True)
        return CameraEvents(time[order], pixel[order], polarity[order])

    def _rested(self, pixel: Tensor, time: Tensor) -> Tensor:
        """Which events come at least the refractory period after the pixel's last emitted one."""
        last = self._last.flatten().clone()
        keep = torch.zeros(len(pixel), dtype=torch.bool)
        rank = torch.arange(len(pixel)) - torch.searchsorted(pixel, pixel)
        for number in range(int(rank.max()) + 1):  # pixels are sorted, their events in the order of time
            turn = rank == number
            ready = turn & (time - last[pixel] >= self.refractory_us - 1e-6)
            keep |= ready
            last[pixel[ready]] = time[ready]
        return keep

    def _shot(self, frame: Tensor, value: Tensor, dt: float, time_us: int) -> CameraEvents:
        """Noise events: at most one a pixel, polarity and interval; each resets the pixel's reference."""
        assert self._reference is not None
        shade = (0.25 - 1.0) * (frame / 255).clamp(0, 1) + 1.0
        draw = torch.rand(2, *frame.shape, generator=self._generator, dtype=torch.float64)
        half = dt * self.shot_hz / 2 * shade
        on = (draw[0] < half * self.threshold / self.theta_on).flatten()
        off = (draw[1] < half * self.threshold / self.theta_off).flatten()
        pixel = torch.cat([on.nonzero().flatten(), off.nonzero().flatten()])
        polarity = torch.cat([torch.ones(int(on.sum())).long(), -torch.ones(int(off.sum())).long()])
        rested = time_us - self._last.flatten()[pixel] >= self.refractory_us
        pixel, polarity = pixel[rested], polarity[rested]
        hit = torch.zeros(frame.numel(), dtype=torch.bool)
        hit[pixel] = True
        shaped = hit.view(self._shape)
        self._reference = torch.where(shaped, value, self._reference)
        self._last = torch.where(shaped, float(time_us), self._last)
        return CameraEvents(torch.full((len(pixel),), float(time_us), dtype=torch.float64), pixel, polarity)


def _none() -> CameraEvents:
    return CameraEvents(torch.empty(0, dtype=torch.float64), torch.empty(0).long(), torch.empty(0).long())


def _merge(first: CameraEvents, second: CameraEvents) -> CameraEvents:
    time = torch.cat([first.time_us, second.time_us])
    order = torch.argsort(time, stable=True)
    return CameraEvents(
        time[order], torch.cat([first.pixel, second.pixel])[order],
        torch.cat([first.polarity, second.polarity])[order],
    )  # fmt: skip
