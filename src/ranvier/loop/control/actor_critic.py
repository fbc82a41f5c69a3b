"""Fine-tuning of a Koopman regulator on the task: soft actor-critic whose actor is the regulator itself.

After RoboKoop (Kumawat, Chakraborty and Mukhopadhyay, CoRL 2024): the policy is the linear-quadratic gain of the
latent model, differentiable in its modes, its inputs and its learned cost, so that what the task needs shapes the
representation. Soft actor-critic: Haarnoja et al. (2018), with two critics, slow copies of them and a temperature that
keeps the entropy at its target.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError
from ranvier.loop.control.koopman import SpectralKoopman
from ranvier.loop.envs.event_control import EventControl


@dataclass(frozen=True)
class Tuning:
    """How `fine_tune` learns.

    Attributes:
        batch: transitions a step; `capacity`: transitions that are kept.
        discount: γ a control tick; `slow`: share by which the slow critics follow.
        lr: of the critics, the spread and the temperature; `model_lr`: of the model.
        prediction: weight of the latent's one-step prediction and of its decoding, which keep it a model of the plant.
        start: largest angle and angular velocity at the start of an episode, rad, rad/s; `limit`: angle that ends it.
        fall: reward of a fall; every other tick gives −(θ² + 0.1 ω² + 0.1 u²).
        pulse: largest torque of the random pushes during an episode.
        warm: ticks before the actor learns.
        hidden: width of the critics.
    """

    batch: int = 256
    capacity: int = 100_000
    discount: float = 0.97
    slow: float = 0.02
    lr: float = 2e-3
    model_lr: float = 1e-3
    prediction: float = 1.0
    start: float = 0.3
    limit: float = 1.0
    fall: float = -10.0
    pulse: float = 1.0
    warm: int = 50
    hidden: int = 64

    def __post_init__(self) -> None:
        whole = {"batch": self.batch, "capacity": self.capacity, "hidden": self.hidden}
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if not 0 < self.discount < 1 or not 0 < self.slow <= 1:
            raise ArgumentError(f"discount must be in (0, 1) and slow in (0, 1], got {self.discount}, {self.slow}")
        positive = {"lr": self.lr, "model_lr": self.model_lr, "start": self.start, "limit": self.limit}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be positive, got {value!r}")
        if not self.prediction >= 0 or not self.pulse >= 0 or self.warm < 0:
            raise ArgumentError("prediction, pulse and warm must not be negative")


class Critics(nn.Module):
    """Two estimates of the discounted reward of a control (in units of its largest) at a latent."""

    def __init__(self, latent: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(latent + inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                nn.Linear(hidden, 1),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """`[N]` of each."""
        x = torch.cat([z, a], -1)
        first, second = (net(x)[:, 0] for net in self.nets)
        return first, second


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A control in (−1, 1) and its log-probability `[N]`: tanh of a normal draw, with the change of variables."""
    raw = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 − tanh²) without cancellation
    log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
    return torch.tanh(raw), (log_normal - log_slope).sum(-1)


class _Replay:
    """The last transitions, as one ring of tensors."""

    def __init__(self, capacity: int, state: int, inputs: int) -> None:
        self._parts = [torch.zeros(capacity, n) for n in (state, inputs, state, 1, 1)]
        self._capacity, self._next, self.size = capacity, 0, 0

    def add(self, *parts: Tensor) -> None:
        index = (self._next + torch.arange(len(parts[0]))) % self._capacity
        for kept, new in zip(self._parts, parts, strict=True):
            kept[index] = new.float().view(len(index), -1)
        self._next = int(index[-1]) + 1
        self.size = min(self.size + len(index), self._capacity)

    def draw(self, count: int, generator: torch.Generator) -> list[Tensor]:
        rows = torch.randint(self.size, (count,), generator=generator)
        return [part[rows] for part in self._parts]


def fine_tune(
    model: SpectralKoopman, env: EventControl, steps: int = 1500, *, tuning: Tuning | None = None, unroll: int = 10,
    control_cost: float = 0.1, seed: int = 0, say: Callable[[str], None] | None = None,
) -> list[float]:  # fmt: skip
    """Fine-tune `model` so that its learned regulator, `model.regulator(learned=True, unroll=unroll)`, does the task.

    The critics and the prediction loss train the lift; the actor's loss trains modes, inputs and learned cost through
    `unroll` Riccati steps. The true state is measured.

    Args:
        model: fitted by `fit_koopman`, or not.
        env: copies that are driven in parallel, without a camera.
        steps: control ticks of all copies, with one gradient step each.

    Returns the mean reward a tick, averaged over a hundred ticks each.
    """
    how = tuning or Tuning()
    if steps < 1:
        raise ArgumentError(f"steps must be positive, got {steps}")
    if env.camera is not None:
        raise ArgumentError("env: fine-tuning measures the state; make the environment with camera=None")
    if env.task == "inverted-pendulum":
        raise ArgumentError("env: MuJoCo runs one copy; fine-tune on 'pendulum' or 'cartpole'")
    at = 0 if env.task == "pendulum" else 2
    generator = torch.Generator().manual_seed(seed)
    inputs, top = model.input.shape[1], env.max_control
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        critics = Critics(2 * model.d, inputs, how.hidden)
    slow = copy.deepcopy(critics).requires_grad_(False)
    log_std = nn.Parameter(torch.full((inputs,), -1.0))
    log_alpha = nn.Parameter(torch.tensor(-2.0))
    learned = [model.weight, model.decay, model.omega, model.input]
    lifting = [p for name, p in model.named_parameters() if name.split(".")[0] in ("lift", "bend", "read")]
    critic_adam = torch.optim.Adam(
        [{"params": critics.parameters(), "lr": how.lr}, {"params": [*lifting, *learned], "lr": how.model_lr}]
    )
    actor_adam = torch.optim.Adam([{"params": learned, "lr": how.model_lr}, {"params": [log_std], "lr": how.lr}])
    alpha_adam = torch.optim.Adam([log_alpha], lr=how.lr)

    def fresh(count: int) -> Tensor:
        return (torch.rand(count, env.state_size, generator=generator).double() * 2 - 1) * how.start

    def act(z: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(z), inputs, generator=generator)
        return squashed(-(z @ gain.T) / top, log_std.clamp(-5, 1), noise)

    def regulate() -> Tensor:
        return model.regulator(control_cost=control_cost, learned=True, unroll=unroll).float()

    replay = _Replay(how.capacity, env.state_size, inputs)
    state = env.reset(fresh(env.num_envs))
    push = torch.zeros(env.num_envs)
    history: list[float] = []
    summed = 0.0
    with torch.no_grad():
        gain = regulate()
    for step in range(steps):
        with torch.no_grad():
            a, _ = act(model.encode(state.float()), gain)
            strike = torch.rand(env.num_envs, generator=generator) < 0.04
            draw = (torch.rand(env.num_envs, generator=generator) * 2 - 1) * how.pulse
            push = torch.where(strike, draw, 0.5 * push)
            following, _ = env.step(a[:, 0] * top, push)
            theta, omega = following[:, at], following[:, at + 1]
            fallen = theta.abs() > how.limit
            reward = -(theta**2 + 0.1 * omega**2 + 0.1 * (a[:, 0].double() * top) ** 2)
            reward = torch.where(fallen, how.fall, reward)
            replay.add(state, a, following, reward, fallen)
            summed += float(reward.mean())
            state = torch.where(fallen[:, None], fresh(env.num_envs), following)
            env.state = state
        x, a, y, reward, ended = replay.draw(how.batch, generator)
        z = model.encode(x)
        with torch.no_grad():
            after = model.encode(y)
            b, log_probability = act(after, gain)
            best = torch.minimum(*slow(after, b)) - log_alpha.exp() * log_probability
            target = reward[:, 0] + how.discount * (1 - ended[:, 0]) * best
        first, second = critics(z, a)
        loss = F.mse_loss(first, target) + F.mse_loss(second, target)
        size = after.square().mean().clamp_min(1e-6)
        stays = 1 - ended
        predicted = model(z, a * top)
        scale = x.std(0).clamp_min(1e-3)
        loss = loss + how.prediction * (
            (stays * (predicted - after).square()).mean() / size
            + (stays * ((model.read(predicted) - y) / scale).square()).mean()
            + ((model.read(z) - x) / scale).square().mean()
        )
        critic_adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*critics.parameters(), *lifting, *learned], 10.0)
        critic_adam.step()
        if step >= how.warm:
            z = model.encode(x).detach()
            gain = regulate()
            a, log_probability = act(z, gain)
            gain = gain.detach()  # acts from here on, one update old
            value = torch.minimum(*critics(z, a))
            loss = (log_alpha.exp().detach() * log_probability - value).mean()
            actor_adam.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([*learned, log_std], 5.0)
            actor_adam.step()
            loss = -(log_alpha.exp() * (log_probability.detach() - 2.0 * inputs)).mean()
            alpha_adam.zero_grad(set_to_none=True)
            loss.backward()
            alpha_adam.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, how.slow)
        if (step + 1) % 100 == 0:
            history.append(summed / 100)
            summed = 0.0
            if say is not None:
                say(f"step {step + 1}/{steps}: reward {history[-1]:.4f} a tick, spread {float(log_std.exp()[0]):.3f}")
    return history
