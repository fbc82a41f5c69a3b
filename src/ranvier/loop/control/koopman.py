"""Spectral Koopman control: a latent in which dynamics are diagonal, and a regulator on top (after RoboKoop)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError, ShapeError
from ranvier.loop.control.lqr import lqr


class SpectralKoopman(nn.Module):
    """z' = exp((μ + jω) dt) ∘ z + B u with z in C^d, kept as 2d real numbers (real parts first).

    Args:
        state: numbers of a state (or of an encoder's output) that is lifted to z.
        inputs: numbers of a control.
        d: complex modes.
        dt: seconds of a step.
        stable: μ = −softplus(·), as published: every mode decays. An unstable equilibrium cannot be represented so;
            `False` leaves μ free up to `growth`.
        growth: largest μ, 1/s, where not `stable`.
        hidden: width of the lifting net; 0 lifts linearly.
    """

    def __init__(self, state: int, inputs: int = 1, d: int = 16, dt: float = 0.02, stable: bool = True,
                 growth: float = 8.0, hidden: int = 64) -> None:  # fmt: skip
        super().__init__()
        if min(state, inputs, d) < 1 or not dt > 0 or hidden < 0:
            raise ArgumentError(f"expected positive sizes and dt, got {state}, {inputs}, {d}, {dt}, {hidden}")
        self.d, self.dt, self.stable, self.growth = d, dt, stable, growth
        self.decay = nn.Parameter(torch.full((d,), -1.0))
        self.omega = nn.Parameter(0.1 * torch.arange(d) * torch.pi)
        self.input = nn.Parameter(0.1 * torch.randn(2 * d, inputs))
        self.lift = nn.Linear(state, 2 * d, bias=False)
        self.bend = (
            nn.Sequential(nn.Linear(state, hidden), nn.Tanh(), nn.Linear(hidden, 2 * d, bias=False)) if hidden else None
        )
        if self.bend is not None:
            nn.init.zeros_(self.bend[2].weight)  # pyright: ignore[reportArgumentType]
        self.read = nn.Linear(2 * d, state, bias=False)
        self.weight = nn.Parameter(torch.zeros(2 * d))

    @property
    def mu(self) -> Tensor:
        """Growth rates, 1/s `[d]`."""
        if self.stable:
            return -F.softplus(self.decay)
        return self.growth - F.softplus(self.growth - self.decay)

    def eigenvalues(self) -> Tensor:
        """Of one step, complex `[d]`."""
        return torch.exp(torch.complex(self.mu, self.omega) * self.dt)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The real form: A `[2d, 2d]` of blocks [[Re, −Im], [Im, Re]], and B `[2d, m]`."""
        eigen = self.eigenvalues()
        re, im = torch.diag(eigen.real), torch.diag(eigen.imag)
        return torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)]), self.input

    def encode(self, x: Tensor) -> Tensor:
        """States `[..., n]` to latents `[..., 2d]`; the origin goes to the origin."""
        z = self.lift(x)
        if self.bend is not None:
            z = z + self.bend(x) - self.bend(torch.zeros_like(x))
        return z

    def forward(self, z: Tensor, u: Tensor) -> Tensor:
        """One step `[..., 2d]`: O(d) work."""
        if z.shape[-1] != 2 * self.d:
            raise ShapeError(f"z must end in 2d = {2 * self.d}, got {tuple(z.shape)}")
        eigen = self.eigenvalues()
        re, im = z.chunk(2, -1)
        turned = torch.cat([re * eigen.real - im * eigen.imag, re * eigen.imag + im * eigen.real], -1)
        return turned + u @ self.input.T

    def regulator(self, state_cost: Tensor | None = None, control_cost: float = 0.1, learned: bool = False,
                  unroll: int | None = None) -> Tensor:  # fmt: skip
        """LQR gain on the latent, `[m, 2d]`, float64: u = −K z.

        Args:
            state_cost: `[n, n]` on the decoded state; None: the identity.
            learned: use the learned diagonal instead.
            unroll: a differentiable unroll of so many Riccati steps.
        """
        A, B = (t.double() for t in self.matrices())
        eye = torch.eye(2 * self.d, dtype=torch.float64)
        C = self.read.weight.double()
        cost = torch.eye(len(C), dtype=torch.float64) if state_cost is None else state_cost.double()
        Q = torch.diag(F.softplus(self.weight.double())) if learned else C.T @ cost @ C + 1e-9 * eye
        R = control_cost * torch.eye(B.shape[1], dtype=torch.float64)
        if unroll is not None:  # finitely many steps have a solution whatever the controls reach
            return lqr(A, B, Q, R, unroll=unroll)[0]
        # a real eigenvalue has a second, idle dimension in C; what no control can reach is left to itself
        U = _reachable(A, B)
        return lqr(U.T @ A @ U, U.T @ B, U.T @ Q @ U, R, unroll=unroll)[0] @ U.T


def _reachable(A: Tensor, B: Tensor, steps: int = 60, tolerance: float = 1e-6) -> Tensor:
    """Orthonormal basis `[n, r]` of the states that controls reach (Kalman's decomposition)."""
    part, columns = B, [B]
    for _ in range(steps):
        part = A @ part
        part = part / part.norm().clamp_min(1e-300) * B.norm()
        columns.append(part)
    U, size, _ = torch.linalg.svd(torch.cat(columns, 1).detach(), full_matrices=False)
    return U[:, size > tolerance * size[0]]


@torch.no_grad()
def spectral_start(model: SpectralKoopman, states: Tensor, controls: Tensor) -> None:
    """Set the first modes from the best linear model of the states (dynamic mode decomposition with control).

    Gradients alone find frequencies and, above all, growth rates badly; from here they only have to bend the lift.
    """
    x, y = states[:, :-1].flatten(0, 1).double(), states[:, 1:].flatten(0, 1).double()
    u = controls.flatten(0, 1).double()
    solution = torch.linalg.lstsq(torch.cat([x, u], 1), y).solution
    n = x.shape[1]
    A, B = solution[:n].T, solution[n:].T
    eigen, vectors = torch.linalg.eig(A)
    modes = min(n, model.d)
    order = eigen.abs().argsort(descending=True)[:modes]
    eigen, inverse, vectors = eigen[order], torch.linalg.pinv(vectors)[order], vectors[:, order]
    mu, omega = eigen.abs().clamp_min(1e-6).log() / model.dt, eigen.angle() / model.dt
    if model.stable:
        model.decay[:modes] = torch.log(torch.expm1((-mu).clamp(1e-3, 1e3))).float()
    else:
        room = (model.growth - mu).clamp(1e-3, 1e3)
        model.decay[:modes] = (model.growth - torch.log(torch.expm1(room))).float()
    model.omega[:modes] = omega.float()
    push = inverse @ B.to(inverse.dtype)
    model.lift.weight.mul_(0.01)
    model.read.weight.mul_(0.01)
    model.input.mul_(0.01)
    for part, row in ((0, lambda t: t.real), (model.d, lambda t: t.imag)):
        rows = slice(part, part + modes)
        model.lift.weight[rows] = row(inverse).float()
        model.input[rows] = row(push).float()
    model.read.weight[:, :modes] = vectors.real.float()
    model.read.weight[:, model.d : model.d + modes] = -vectors.imag.float()


def info_nce(query: Tensor, key: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrastive loss of matching rows `[N, D]` against all others, after normalisation."""
    similarity = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(query)))


def fit_koopman(
    model: SpectralKoopman, states: Tensor, controls: Tensor, *, horizon: int = 8, discount: float = 0.9,
    steps: int = 300, batch: int = 256, lr: float = 5e-4, contrast: float = 0.01, momentum: float = 0.99,
    noise: float = 0.02, state_cost: Tensor | None = None, spectral: bool = True, seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> list[float]:  # fmt: skip
    """Fit to trajectories: K-step latent prediction, decoding, contrast of augmented views, and the task's cost.

    Args:
        states: `[N, T + 1, n]`; controls: `[N, T, m]` with T ≥ `horizon`.
        spectral: begin with `spectral_start`.
        contrast: weight of the InfoNCE loss between two noisy views, the second through a slow copy of the encoder.

    Returns the loss, averaged over a hundred steps each.
    """
    import copy

    if states.dim() != 3 or controls.dim() != 3 or states.shape[1] != controls.shape[1] + 1:
        raise ShapeError(f"expected states [N, T + 1, n] and controls [N, T, m], got {tuple(states.shape)}, "
                         f"{tuple(controls.shape)}")  # fmt: skip
    if controls.shape[1] < horizon:
        raise ArgumentError(f"trajectories of {controls.shape[1]} steps are shorter than the horizon {horizon}")
    if spectral:
        spectral_start(model, states, controls)
    generator = torch.Generator().manual_seed(seed)
    slow = copy.deepcopy(model).requires_grad_(False)
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    scale = states.flatten(0, 1).std(0).clamp_min(1e-6)
    cost = torch.eye(states.shape[2]) if state_cost is None else state_cost.to(states.dtype)
    history: list[float] = []
    summed = 0.0
    for step in range(steps):
        rows = torch.randint(len(states), (batch,), generator=generator)
        first = torch.randint(controls.shape[1] - horizon + 1, (batch,), generator=generator)
        index = first[:, None] + torch.arange(horizon + 1)
        x, u = states[rows[:, None], index], controls[rows[:, None], index[:, :-1]]
        target = model.encode(x)
        z, loss = target[:, 0], ((model.read(target) - x) / scale).square().mean()
        size = target.detach().square().mean().clamp_min(1e-6)
        for k in range(horizon):
            z = model(z, u[:, k])
            loss = loss + discount**k * (
                (z - target[:, k + 1]).square().mean() / size + ((model.read(z) - x[:, k + 1]) / scale).square().mean()
            )
        views = [x[:, 0] + noise * scale * torch.randn(x[:, 0].shape, generator=generator) for _ in range(2)]
        loss = loss + contrast * info_nce(model.encode(views[0]), slow.encode(views[1]))
        price = (x[:, 0] @ cost * x[:, 0]).sum(1)
        decoded = (F.softplus(model.weight) * target[:, 0].square()).sum(1)
        loss = loss + 0.1 * ((decoded - price) / price.mean().clamp_min(1e-6)).square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        adam.step()
        schedule.step()
        with torch.no_grad():
            for a, b in zip(slow.parameters(), model.parameters(), strict=True):
                a.mul_(momentum).add_(b, alpha=1 - momentum)
        summed += float(loss.detach())
        if (step + 1) % 100 == 0:
            history.append(summed / 100)
            summed = 0.0
            if say is not None:
                say(f"step {step + 1}/{steps}: loss {history[-1]:.4f}")
    return history
