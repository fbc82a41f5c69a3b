"""Balancing tasks seen by an event camera: physics at 1 kHz, rendered in torch, a control tick of 20 ms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.loop.sensors.event_camera import CameraEvents, EventCamera

SIZE, FRAMES, TICK_US = 64, 20, 20_000
Task = Literal["pendulum", "cartpole", "inverted-pendulum"]


@dataclass
class Window:
    """The events of one control tick: ON and OFF counts a millisecond, `[20, N, 2, 64, 64]` (OFF first)."""

    counts: Tensor

    @property
    def total(self) -> Tensor:
        """Events of each copy `[N]`."""
        return self.counts.sum((0, 2, 3, 4))


class EventControl:
    """`num_envs` copies of a task; the state is known to the tests, the controller may use the events only.

    "pendulum" and "cartpole" have the equations and constants of Gymnasium's Pendulum-v1 and CartPole-v1 (integrated
    at 1 kHz instead of their own steps); "inverted-pendulum" is Gymnasium's MuJoCo InvertedPendulum-v5, one copy.

    Args:
        task: see above.
        camera: preset of the event camera, or a camera; None for no events (states only, much faster).
        seed: of the texture and the camera.
    """

    def __init__(
        self, task: Task = "pendulum", num_envs: int = 1,
        camera: str | EventCamera | None = "clean", seed: int = 0,
    ) -> None:  # fmt: skip
        if task not in ("pendulum", "cartpole", "inverted-pendulum"):
            raise ArgumentError(f"task must be 'pendulum', 'cartpole' or 'inverted-pendulum', got {task!r}")
        if num_envs < 1 or (task == "inverted-pendulum" and num_envs != 1):
            raise ArgumentError(f"num_envs must be positive, and 1 for MuJoCo; got {num_envs}")
        self.kind: Task = task
        self.task, self.num_envs = task, num_envs
        self.camera = EventCamera.preset(camera, seed=seed) if isinstance(camera, str) else camera
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 1, 9, 9, generator=generator)
        texture = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=True)[0, 0]
        self.texture = 60 + 60 * texture.double()
        axis = (torch.arange(SIZE).double() + 0.5) / SIZE * 2 - 1
        self._x, self._y = axis[None, :], -axis[:, None]
        self._mujoco: Any = None

    @property
    def state_size(self) -> int:
        """Numbers of a state: angle and angular velocity, with the cart's position and velocity in front."""
        return 2 if self.task == "pendulum" else 4

    @property
    def max_control(self) -> float:
        """Largest magnitude of a control: N m, N, or MuJoCo's units."""
        return {"pendulum": 2.0, "cartpole": 10.0, "inverted-pendulum": 3.0}[self.task]

    def reset(self, state: Tensor) -> Tensor:
        """Start at `state` `[N, state_size]`; angle 0 is upright."""
        if state.shape != (self.num_envs, self.state_size):
            raise ArgumentError(f"state must be [{self.num_envs}, {self.state_size}], got {tuple(state.shape)}")
        self.state = state.double().clone()
        self.time_us = 0
        if self.task == "inverted-pendulum":
            self._start_mujoco()
        if self.camera is not None:
            self.camera.reset()
            self.camera.step(self.render(self.state), 0)
        return self.state

    def step(self, control: Tensor, disturbance: Tensor | None = None) -> tuple[Tensor, Window | None]:
        """One control tick of 20 ms under `control` `[N]` (clipped), plus a `disturbance` torque or force `[N]`.

        Returns the state and the window of events (None without a camera).
        """
        force = control.double().clamp(-self.max_control, self.max_control)
        if disturbance is not None:
            force = force + disturbance.double()
        counts: list[Tensor] = []
        for _ in range(FRAMES):
            self._advance(force, 1e-3)
            self.time_us += TICK_US // FRAMES
            if self.camera is not None:
                events: CameraEvents = self.camera.step(self.render(self.state), self.time_us)
                counts.append(events.counts((self.num_envs, SIZE, SIZE)).float().transpose(0, 1))
        return self.state, Window(torch.stack(counts)) if counts else None

    def _advance(self, force: Tensor, dt: float) -> None:
        if self.task == "pendulum":
            theta, omega = self.state.unbind(1)
            omega = omega + (15.0 * torch.sin(theta) + 3.0 * force) * dt  # 3g/2l and 3/ml² with g = 10, m = l = 1
            self.state = torch.stack([theta + omega.clamp(-8, 8) * dt, omega.clamp(-8, 8)], 1)
        elif self.task == "cartpole":
            x, v, theta, omega = self.state.unbind(1)
            c, s = theta.cos(), theta.sin()
            temp = (force + 0.05 * omega**2 * s) / 1.1
            alpha = (9.8 * s - c * temp) / (0.5 * (4.0 / 3.0 - 0.1 * c**2 / 1.1))
            acceleration = temp - 0.05 * alpha * c / 1.1
            self.state = torch.stack([x + dt * v, v + dt * acceleration, theta + dt * omega, omega + dt * alpha], 1)
        else:
            mujoco = require("mujoco", extra="loop")
            model, data = self._mujoco
            data.ctrl[:] = float(force[0])
            mujoco.mj_step(model, data)
            self.state = torch.from_numpy(np.array([[data.qpos[0], data.qvel[0], data.qpos[1], data.qvel[1]]]))

    def _start_mujoco(self) -> None:
        gymnasium = require("gymnasium", extra="loop")
        inner = gymnasium.make("InvertedPendulum-v5").unwrapped
        inner.reset(seed=0)
        inner.model.opt.timestep = 1e-3
        x, v, theta, omega = self.state[0].tolist()
        inner.set_state(np.array([x, theta]), np.array([v, omega]))
        self._mujoco = (inner.model, inner.data)

    def render(self, state: Tensor) -> Tensor:
        """Intensities 0..255 `[N, 64, 64]`: a bright bar, anti-aliased, before a textured ground."""
        if self.task == "pendulum":
            foot_x, theta = torch.zeros(len(state)).double(), state[:, 0]
            foot_y, length = torch.zeros_like(foot_x), 0.8
        else:
            foot_x, theta = (state[:, 0] / 3.0).clamp(-0.9, 0.9), state[:, 2]
            foot_y, length = torch.full_like(foot_x, -0.5), 1.0
        # upright is angle 0; Gymnasium's pendulum turns counter-clockwise
        turn = -1.0 if self.task == "pendulum" else 1.0
        tip = torch.stack([turn * length * theta.sin(), length * theta.cos()], 1)[:, :, None, None]
        px, py = self._x - foot_x[:, None, None], self._y - foot_y[:, None, None]
        along = ((px * tip[:, 0] + py * tip[:, 1]) / length**2).clamp(0, 1)
        distance = ((px - along * tip[:, 0]).square() + (py - along * tip[:, 1]).square()).sqrt()
        cover = (0.5 + (0.06 - distance) * SIZE / 2).clamp(0, 1)
        return self.texture * (1 - cover) + 220.0 * cover


def gymnasium_name(task: str) -> str:
    """The Gymnasium task whose physics is used."""
    return {"pendulum": "Pendulum-v1", "cartpole": "CartPole-v1", "inverted-pendulum": "InvertedPendulum-v5"}[task]


assert math.isclose(TICK_US / FRAMES, 1000)
