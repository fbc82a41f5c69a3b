"""Setting up a monitor on clean runs in validation worlds."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.engine import SenseActLoop, Sensors
from ranvier.loop.envs.lidar_nav import LidarNav2D
from ranvier.loop.predict.training import VALIDATION_SEED
from ranvier.loop.trust.lora import LoraLinear
from ranvier.loop.trust.monitor import Calibration, TrustMonitor, Watch
from ranvier.loop.trust.scores import LikelihoodRegret, Mahalanobis, ResidualScore
from ranvier.loop.trust.vae import Vae, fit_vae

ScoreName = Literal["residual", "likelihood_regret", "mahalanobis"]
SCORES = ("residual", "likelihood_regret", "mahalanobis")


def watch(predictor: Any, policy: Any, controller: Any, worlds: int = 60, *, seed: int = VALIDATION_SEED,
          sensors: Sensors | None = None, noise_seed: int = 0, ticks: int = 300, **options: Any) -> Watch:  # fmt: skip
    """Run a loop in `worlds` worlds without acting on its monitor, and keep what a monitor would have seen."""
    kept = Watch()
    env = LidarNav2D(worlds, max_ticks=ticks)
    loop = SenseActLoop(env, sensors, predictor, policy, controller, kept, **options)
    finished: list[Tensor] = []
    loop.run(worlds, seed, noise_seed=noise_seed, on_tick=lambda lp, _: finished.append(lp.env.active.clone()))
    for ready, active in zip(kept.ready[1:], finished[:-1], strict=True):
        ready &= active
    return kept


def clean_features(kept: Watch) -> Tensor:
    """The features of all ticks in which something was sensed, `[K, 24]`."""
    return torch.cat([f[r] for f, r in zip(kept.features, kept.ready, strict=True)])


def make_score(name: str, clean: Tensor, *, optimizer: Literal["adam", "spsa", "lora"] = "adam", steps: int = 1500,
               seed: int = 0) -> Any:  # fmt: skip
    """A score by name, fitted to clean features."""
    if name == "residual":
        return ResidualScore()
    if name == "mahalanobis":
        return Mahalanobis(clean)
    if name == "likelihood_regret":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vae = Vae()
        fit_vae(vae, clean.float(), steps=steps, seed=seed)
        return LikelihoodRegret(vae, optimizer)
    raise ArgumentError(f"score must be one of {', '.join(SCORES)}, got {name!r}")


def calibrate(predictor: Any, policy: Any, controller: Any, score: str = "residual", worlds: int = 60,
              **options: Any) -> TrustMonitor:  # fmt: skip
    """A monitor for this predictor and policy, calibrated on clean runs in validation worlds.

    Options go to the loop (`latency=...`); at most one false alarm in 1,000 s is allowed on the calibration runs.
    """
    kept = watch(predictor, policy, controller, worlds, **options)
    chosen = make_score(score, clean_features(kept))
    return TrustMonitor(Calibration.of(kept, chosen), chosen)


def adapt(vae: Vae, trusted: Tensor, *, rank: int = 2, steps: int = 200, lr: float = 5e-3, seed: int = 0) -> Vae:
    """Adapt the monitor's encoder to features seen while everything was trusted, by a change of low rank.

    Give it only ticks in which the monitor was nominal (`TrustMonitor.keep_features`): corrupted data would teach it
    the fault. The standardisation and the decoder stay as they are.
    """
    if len(trusted) < 2:
        raise ArgumentError("trusted: expected at least two samples")
    head = LoraLinear(vae.head, rank, seed)
    x = vae.standardise(trusted.float()).detach()
    adam = torch.optim.Adam([head.down, head.up], lr=lr)
    generator = torch.Generator().manual_seed(seed)
    hidden = vae.body(x).detach()
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(x), (min(256, len(x)),), generator=generator)
            mu, log_var = head(hidden[rows]).chunk(2, 1)
            noise = torch.randn(4, len(rows), vae.latent, generator=generator)
            loss = -vae.elbo(x[rows], mu, log_var.clamp(-8, 4), noise).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    vae.head = head.merge()
    for parameter in vae.parameters():
        parameter.requires_grad_(False)
    return vae
