"""The update rules written out once more, a coordinate at a time, from the publications."""

from __future__ import annotations

import math


class ScalarSPAM:
    """SPAM on plain floats (Huang et al., ICLR 2025, algorithm 1, with the grace steps of the published code)."""

    def __init__(
        self, w: float, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6, decay: float = 0.0,
        theta: float = 5000.0, interval: int = 500, warmup: int = 150, grace: int = 20, restart: bool = False,
        guard: bool = True,
    ) -> None:  # fmt: skip
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})
        self.m = self.v = 0.0
        self.t = self.k = 0
        self.since = math.inf

    def step(self, g: float) -> float:
        self.t += 1
        position = self.t % self.interval if self.interval else self.t
        if self.interval and position == 0:
            self.m = self.v = 0.0
            self.since = 0
            if self.restart:
                self.k = 0
        scale = 1.0
        if self.since < self.warmup:
            scale = 1 - 0.99 * (1 + math.cos(math.pi * self.since / (self.warmup + 1))) / 2
        self.k += 1
        allowed = self.t >= self.grace and position >= self.grace
        if self.theta > 0 and allowed and g * g > self.theta * self.v and (self.v > 0 or not self.guard):
            g = math.copysign(math.sqrt(self.theta * self.v), g)
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        correction = math.sqrt(1 - self.beta2**self.k) / (1 - self.beta1**self.k)
        self.w -= self.lr * scale * correction * self.m / (math.sqrt(self.v) + self.eps)
        self.w -= self.lr * self.decay * self.w
        self.since += 1
        return self.w
