"""A small variational autoencoder over the monitor's features, and its evidence bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError

FEATURES, LATENT = 24, 8


class Vae(nn.Module):
    """24 → 32 → 8 → 32 → 24, Gaussian, with a learned diagonal variance of the output.

    Inputs are standardised by `mean` and `scale`, which `fit_vae` sets from clean data.
    """

    def __init__(self, features: int = FEATURES, hidden: int = 32, latent: int = LATENT) -> None:
        super().__init__()
        if min(features, hidden, latent) < 1:
            raise ArgumentError(f"sizes must be positive, got {features}, {hidden}, {latent}")
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features))
        self.log_variance = nn.Parameter(torch.zeros(features))
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    @property
    def latent(self) -> int:
        """Size of the latent."""
        return self.head.out_features // 2

    def standardise(self, x: Tensor) -> Tensor:
        """Features `[N, F]` in units of their clean spread, clipped to ±20."""
        if x.dim() != 2 or x.shape[1] != len(self.mean):
            raise ShapeError(f"features must be [N, {len(self.mean)}], got {tuple(x.shape)}")
        return ((x.to(self.mean.dtype) - self.mean) / self.scale).clamp(-20, 20)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior for standardised features."""
        mu, log_var = self.head(self.body(x)).chunk(2, 1)
        return mu, log_var.clamp(-8, 4)

    def elbo(self, x: Tensor, mu: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
        """Evidence lower bound `[N]` of standardised `x` under q = N(mu, exp(log_var)).

        Args:
            noise: standard normal `[S, N, latent]`; the same before and after an optimisation makes their difference
                free of sampling noise.
        """
        z = mu + (0.5 * log_var).exp() * noise
        error = (x - self.decoder(z)).square() * (-self.log_variance).exp()
        likelihood = -0.5 * (error + self.log_variance + math.log(2 * math.pi)).sum(-1).mean(0)
        divergence = 0.5 * (log_var.exp() + mu.square() - 1 - log_var).sum(-1)
        return likelihood - divergence


def fit_vae(vae: Vae, clean: Tensor, *, steps: int = 1500, batch: int = 256, lr: float = 2e-3, seed: int = 0,
            say: Callable[[str], None] | None = None) -> float:  # fmt: skip
    """Train on features `[N, F]` of clean runs; sets the standardisation. Returns the bound on all of them."""
    if clean.dim() != 2 or len(clean) < 2 or not bool(torch.isfinite(clean).all()):
        raise ArgumentError(f"clean features must be finite, [N, F] with N >= 2; got {tuple(clean.shape)}")
    generator = torch.Generator().manual_seed(seed)
    vae.mean.copy_(clean.mean(0))
    vae.scale.copy_(clean.std(0).clamp_min(1e-2))
    x = vae.standardise(clean).detach()
    optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for step in range(steps):
            rows = x[torch.randint(len(x), (batch,), generator=generator)]
            noise = torch.randn(1, batch, vae.latent, generator=generator)
            loss = -vae.elbo(rows, *vae.encode(rows), noise).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if say is not None and (step + 1) % 500 == 0:
                say(f"monitor: step {step + 1}/{steps}, bound {-float(loss.detach()):.3f}")
    with torch.no_grad():
        noise = torch.randn(4, len(x), vae.latent, generator=generator)
        return float(vae.elbo(x, *vae.encode(x), noise).mean())
