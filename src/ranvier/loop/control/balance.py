"""Balancing by Koopman regulator: from states, or from events that are looked at only when they say something new."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.control.event_encoder import CoarseEstimate, EventEncoder
from ranvier.loop.control.koopman import SpectralKoopman
from ranvier.loop.envs.event_control import EventControl


@dataclass(frozen=True)
class Balanced:
    """What came of it, one number a trial.

    Attributes:
        upright: bool `[N]`, the angle never exceeded the limit.
        cost: mean of θ² + 0.1 ω² + 0.1 u² a tick `[N]`.
        processed: share of the event windows that went through the encoder `[N]`.
        angle: `[T, N]` radians.
    """

    upright: Tensor
    cost: Tensor
    processed: Tensor
    angle: Tensor


@torch.no_grad()
def balance(
    env: EventControl, model: SpectralKoopman, start: Tensor, ticks: int = 250, *, limit: float = 1.0,
    pulse: float = 0.0, pulse_every: int = 50, encoder: EventEncoder | None = None,
    coarse: CoarseEstimate | None = None, delta: float = 0.0, control_cost: float = 0.1,
    learned: bool = False, unroll: int | None = None,
) -> Balanced:  # fmt: skip
    """Run trials from the states `start` `[N, n]`.

    Args:
        pulse: torque added for two ticks every `pulse_every` ticks, with alternating sign.
        encoder: estimate the state from events (the environment needs a camera); None: the true state is measured.
        coarse, delta: send-on-delta: a window goes through the encoder only if the coarse estimate, in the latent,
            differs from the prediction by more than `delta`, relative to the latent's size at one unit of state;
            otherwise the prediction stands.
        learned, unroll: of `SpectralKoopman.regulator`; after `fine_tune` the learned cost, and its unroll.
    """
    if delta < 0 or (delta > 0 and encoder is not None and coarse is None):
        raise ArgumentError("delta must be >= 0, and send-on-delta needs the coarse estimate")
    gain = model.regulator(control_cost=control_cost, learned=learned, unroll=unroll).float()
    state = env.reset(start)
    n, angle_at = len(start), 0 if env.task == "pendulum" else 2
    unit = float(model.encode(torch.eye(start.shape[1])).norm(dim=1).mean())
    z = model.encode(state.float())
    variance = torch.full_like(state, 1e-4).float()
    upright = torch.ones(n, dtype=torch.bool)
    cost, processed = torch.zeros(n).double(), torch.zeros(n).double()
    angles: list[Tensor] = []
    for tick in range(ticks):
        u = -(z @ gain.T)[:, 0].clamp(-env.max_control, env.max_control)
        u = u.clamp(-env.max_control, env.max_control)
        push = pulse * (1 if (tick // pulse_every) % 2 == 0 else -1) if tick % pulse_every < 2 else 0.0
        state, window = env.step(u, torch.full((n,), push))
        z = model(z, u[:, None])
        variance = variance * 1.05 + 1e-4
        if encoder is None:
            measured = state.float()
            new = model.encode(measured)
            send = (new - z).norm(dim=1) / unit > delta
            z = torch.where(send[:, None], new, z)
        else:
            assert window is not None
            send = torch.ones(n, dtype=torch.bool)
            if coarse is not None and delta > 0:
                rough = model.encode(coarse(window.counts).float())
                send = ((rough - z).norm(dim=1) / unit > delta) & (window.total > 0)
            if bool(send.any()):
                mean, log_var = encoder(window.counts[:, send])
                expected = model.read(z[send])
                weight = variance[send] / (variance[send] + log_var.exp())
                z[send] = model.encode(expected + weight * (mean - expected))
                variance[send] = variance[send] * (1 - weight)
        processed += send
        theta = state[:, angle_at]
        upright &= theta.abs() < limit
        cost += theta**2 + 0.1 * state[:, angle_at + 1] ** 2 + 0.1 * u.double() ** 2
        angles.append(theta.clone())
    return Balanced(upright, cost / ticks, processed / ticks, torch.stack(angles))


def drives(env: EventControl, count: int = 128, ticks: int = 40, spread: float = 0.25, push: float = 0.6,
           near: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Trajectories near the upright under random controls, for `fit_koopman`: states `[N, T + 1, n]`, controls
    `[N, T, 1]`. Weak feedback keeps them near; those that leave ±`near` rad are left out (at most `count` remain)."""
    generator = torch.Generator().manual_seed(seed)
    plain = EventControl(env.kind, count if env.task != "inverted-pendulum" else 1, camera=None)
    runs: list[tuple[Tensor, Tensor]] = []
    for _ in range(1 if env.task != "inverted-pendulum" else count):
        at = 0 if env.task == "pendulum" else 2
        state = plain.reset(
            (torch.rand(plain.num_envs, plain.state_size, generator=generator) * 2 - 1).double() * spread
        )
        states, controls = [state], []
        sign = -1.0 if env.task == "pendulum" else 1.0
        for _ in range(ticks):
            noise = push * env.max_control * torch.randn(plain.num_envs, generator=generator).double() * 0.5
            feedback = sign * env.max_control * (3.0 * state[:, at] + 0.6 * state[:, at + 1])
            u = (feedback + noise).clamp(-env.max_control, env.max_control)
            state, _ = plain.step(u)
            states.append(state)
            controls.append(u[:, None])
        runs.append((torch.stack(states, 1), torch.stack(controls, 1)))
    states, controls = torch.cat([s for s, _ in runs]).float(), torch.cat([c for _, c in runs]).float()
    kept = states[:, :, 0 if env.task == "pendulum" else 2].abs().amax(1) < near
    if not bool(kept.any()):
        raise ArgumentError("no trajectory stayed near the upright; take a smaller spread or push")
    return states[kept], controls[kept]
