"""How far a tick is from what clean ticks look like: residual, likelihood regret, Mahalanobis distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.trust.spsa import spsa_ascend
from ranvier.loop.trust.vae import Vae

RESIDUAL_CLIP = 1.0


class ResidualScore:
    """The mean over comparable beams of min(|r − r_pred|, 1 m).

    It is the first feature of `ranvier.loop.trust.features`; taking it from there keeps all scores on one input.
    """

    def __call__(self, features: Tensor) -> Tensor:
        """Features `[N, 24]` to scores `[N]`: the mean of the four quadrants' mean residuals."""
        return features[:, 0:16:4].mean(1)


class Mahalanobis:
    """Distance to the mean of clean features in the metric of their covariance (the baseline)."""

    def __init__(self, clean: Tensor, ridge: float = 1e-3) -> None:
        if clean.dim() != 2 or len(clean) < 2:
            raise ArgumentError(f"clean features must be [N, F] with N >= 2, got {tuple(clean.shape)}")
        self.mean = clean.double().mean(0)
        centred = clean.double() - self.mean
        covariance = centred.T @ centred / (len(clean) - 1)
        self._factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))

    def __call__(self, features: Tensor) -> Tensor:
        """Squared distances `[N]`."""
        gap = (features.double() - self.mean).T
        return torch.linalg.solve_triangular(self._factor, gap, upper=False).square().sum(0)


class LikelihoodRegret:
    """max over q of ELBO(x; q) − ELBO(x; encoder's q): how much the bound gains when the posterior is fitted to this
    one sample (Xiao et al. 2020; STARNet, Darabi et al. 2023). High: the model has not seen the like.

    Both bounds use the same noise samples, and the best point on the way counts, so the regret is never negative.

    Args:
        vae: trained on clean features.
        optimizer: "adam" (gradient, on mean and log-variance), "spsa" (two evaluations a step, no gradient), "lora"
            (gradient on a rank-2 change of the encoder's last layer, one for each sample).
        steps: of the optimiser; default 20, 50 for "spsa".
        samples: noise samples of the bound.
        rank: of "lora".
        lr: step size of "adam" and "lora".
    """

    def __init__(
        self, vae: Vae, optimizer: Literal["adam", "spsa", "lora"] = "adam", steps: int | None = None,
        samples: int = 16, rank: int = 2, lr: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        if optimizer not in ("adam", "spsa", "lora"):
            raise ArgumentError(f"optimizer must be 'adam', 'spsa' or 'lora', got {optimizer!r}")
        self.vae, self.optimizer, self.samples, self.rank, self.lr, self.seed = (
            vae, optimizer, samples, rank, lr, seed,
        )  # fmt: skip
        self.steps = steps if steps is not None else (50 if optimizer == "spsa" else 20)
        if self.steps < 1 or samples < 1 or rank < 1:
            raise ArgumentError("steps, samples and rank must be positive")
        for parameter in vae.parameters():
            parameter.requires_grad_(False)

    def __call__(self, features: Tensor) -> Tensor:
        """Features `[N, F]` to regrets `[N]` ≥ 0 (at most 1e6)."""
        x = self.vae.standardise(features)
        generator = torch.Generator().manual_seed(self.seed)
        noise = matched_noise(self.samples, self.vae.latent, generator).to(x.dtype)[:, None].expand(-1, len(x), -1)
        start = torch.cat(self.vae.encode(x), 1)

        def bound(q: Tensor) -> Tensor:
            mu, log_var = q.chunk(2, 1)
            return self.vae.elbo(x, mu, log_var.clamp(-8, 4), noise)

        with torch.no_grad():
            before = bound(start)
        if self.optimizer == "spsa":
            with torch.no_grad():
                after = bound(spsa_ascend(bound, start, self.steps, generator))
        else:
            after = self._by_gradient(x, start, before, bound, generator)
        return (after - before).clamp(0, 1e6).double()

    def _by_gradient(
        self, x: Tensor, start: Tensor, before: Tensor, bound: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Tensor:
        best = before.clone()
        with torch.enable_grad():
            if self.optimizer == "lora":
                hidden = self.vae.body(x).detach()
                down = torch.randn(len(x), self.rank, hidden.shape[1], generator=generator, dtype=x.dtype)
                down = (down / math.sqrt(hidden.shape[1])).requires_grad_()
                up = torch.zeros(len(x), start.shape[1], self.rank, dtype=x.dtype).requires_grad_()
                free = [down, up]

                def current() -> Tensor:
                    return start.detach() + (up @ (down @ hidden[..., None]))[..., 0]
            else:
                q = start.detach().clone().requires_grad_()
                free = [q]

                def current() -> Tensor:
                    return q

            adam = torch.optim.Adam(free, lr=self.lr)
            for _ in range(self.steps):
                value = bound(current())
                best = torch.maximum(best, value.detach())
                adam.zero_grad(set_to_none=True)
                (-value.sum()).backward()
                adam.step()
        with torch.no_grad():
            return torch.maximum(best, bound(current()))


def matched_noise(samples: int, dimensions: int, generator: torch.Generator) -> Tensor:
    """Normal samples `[S, D]` in antithetic pairs, with covariance exactly one where there are pairs enough: what is
    quadratic in them is then averaged without error."""
    half = torch.randn((samples + 1) // 2, dimensions, generator=generator, dtype=torch.float64)
    if samples % 2 == 0 and len(half) >= dimensions:
        moment = half.T @ half / len(half)
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(moment), half.T, upper=False).T
    return torch.cat([half, -half])[:samples]
