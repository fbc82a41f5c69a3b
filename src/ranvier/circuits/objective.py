"""Adaptive efficient coding by gains: fidelity, activity and a pull to rest, and the gains that are best for it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ranvier.circuits.recurrent import LinearRecurrent
from ranvier.errors import ArgumentError, ShapeError

Decoder = Literal["ridge", "inverse"]


def _number(name: str, value: float | Tensor) -> None:
    if isinstance(value, Tensor):
        if value.numel() != 1 or not bool(value.detach() >= 0):
            raise ArgumentError(f"{name} must be a number >= 0, got {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name} must be a number >= 0, got {value!r}")


class GainObjective:
    """The adaptive efficient-coding objective of gains (Duong et al. 2023, arXiv 2305.19869),

        L(g; p) = E_{s~p} [ ‖f(s) − D r*(s, g)‖² + α ‖r*(s, g)‖² ] + γ ‖g − 1‖²,    r*(s, g) = M (g ∘ f(s)),

    a quadratic in g with Hessian 2 (A ∘ C_p + γ I), where C_p = E_p[f fᵀ] and A = Mᵀ(DᵀD + αI)M. By the Schur product
    theorem it is positive definite for γ > 0, so the best gains are unique and one linear solve away. Gains, losses and
    gradients are differentiable in the circuit's weights, α and γ. Contexts are batched: `p` may be `[..., S]`.

    Args:
        circuit: the recurrent circuit.
        drive: f(s) of all stimuli, `[S, N]`.
        alpha: price of activity, ≥ 0.
        gamma: pull of the gains to 1, ≥ 0.
        decoder: D `[N, N]`, or "ridge" (regression of f on r under `reference`, regularised by 1e-3 of the mean
            variance), or "inverse" (M⁻¹, perfect at unit gains). It is fixed and does not follow adaptation.
        reference: probabilities `[S]` under which the ridge decoder is fitted; uniform by default.
    """

    def __init__(
        self, circuit: LinearRecurrent, drive: Tensor, alpha: float | Tensor, gamma: float | Tensor,
        decoder: Decoder | Tensor = "inverse", reference: Tensor | None = None, ridge: float = 1e-3,
    ) -> None:  # fmt: skip
        if drive.dim() != 2 or drive.shape[1] != circuit.neurons or drive.shape[0] == 0:
            raise ShapeError(f"drive must be [S, {circuit.neurons}], got shape {tuple(drive.shape)}")
        _number("alpha", alpha)
        _number("gamma", gamma)
        self.circuit, self.drive, self.alpha, self.gamma = circuit, drive, alpha, gamma
        self.matrix = circuit.matrix()
        self.decoder = self._decoder(decoder, reference, ridge)
        gram = self.decoder.T @ self.decoder + alpha * torch.eye(circuit.neurons, dtype=drive.dtype)
        self.cost = self.matrix.T @ gram @ self.matrix
        self.match = self.decoder @ self.matrix

    def _decoder(self, given: Decoder | Tensor, reference: Tensor | None, ridge: float) -> Tensor:
        n = self.circuit.neurons
        if isinstance(given, Tensor):
            if given.shape != (n, n):
                raise ShapeError(f"decoder must be [{n}, {n}], got shape {tuple(given.shape)}")
            return given
        identity = torch.eye(n, dtype=self.drive.dtype)
        if given == "inverse":
            return (identity - self.circuit.weights) / self.circuit.scale
        if given != "ridge":
            raise ArgumentError(f"decoder must be 'ridge', 'inverse' or a matrix, got {given!r}")
        p = (
            self.probabilities(reference)
            if reference is not None
            else torch.full_like(self.drive[:, 0], 1 / len(self.drive))
        )
        responses = self.drive @ self.matrix.T
        weighted = responses * p.unsqueeze(1)
        moment, cross = weighted.T @ responses, (self.drive * p.unsqueeze(1)).T @ responses
        return torch.linalg.solve(moment + ridge * moment.trace() / n * identity, cross.T).T

    def probabilities(self, p: Tensor) -> Tensor:
        """`p` (`[..., S]`) if it is one; `ArgumentError` for negative entries or a sum other than 1."""
        if p.dim() == 0 or p.shape[-1] != len(self.drive):
            raise ShapeError(f"p must be [..., {len(self.drive)}], got shape {tuple(p.shape)}")
        if not bool((p >= 0).all()) or not torch.allclose(p.sum(-1), torch.ones((), dtype=p.dtype), atol=1e-6):
            raise ArgumentError("p must hold probabilities: at least 0, and with a sum of 1")
        return p

    def gains(self, g: Tensor) -> Tensor:
        """`g` (`[..., N]`) if it fits; `ArgumentError` for gains that are not finite."""
        if g.dim() == 0 or g.shape[-1] != self.circuit.neurons:
            raise ShapeError(f"gains must be [..., {self.circuit.neurons}], got shape {tuple(g.shape)}")
        if not bool(torch.isfinite(g).all()):
            raise ArgumentError("gains must be finite")
        return g

    def responses(self, g: Tensor) -> Tensor:
        """r*(s, g) of all stimuli, `[..., S, N]` for gains `[..., N]`."""
        return self.circuit.steady_state(self.gains(g).unsqueeze(-2) * self.drive)

    def loss(self, g: Tensor, p: Tensor) -> Tensor:
        """L(g; p), `[...]`."""
        r = self.responses(g)
        misses = (self.drive - r @ self.decoder.T).square().sum(-1) + self.alpha * r.square().sum(-1)
        return (self.probabilities(p) * misses).sum(-1) + self.gamma * (g - 1).square().sum(-1)

    def moments(self, p: Tensor) -> Tensor:
        """C_p = E_p[f fᵀ], `[..., N, N]`."""
        p = self.probabilities(p)
        return (p.unsqueeze(-2) * self.drive.T) @ self.drive

    def system(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """H `[..., N, N]` and b `[..., N]` with ∇L = 2 (H g − b)."""
        moments = self.moments(p)
        identity = torch.eye(self.circuit.neurons, dtype=moments.dtype)
        target = (self.match.T * moments).sum(-1)
        return self.cost * moments + self.gamma * identity, target + self.gamma

    def grad(self, g: Tensor, p: Tensor) -> Tensor:
        """∇L, `[..., N]`."""
        hessian, target = self.system(p)
        return 2 * ((hessian @ self.gains(g).unsqueeze(-1)).squeeze(-1) - target)

    def solve(self, p: Tensor, nonnegative: bool = False) -> Tensor:
        """The best gains, `[..., N]`; `nonnegative` keeps them at 0 or above (by projected gradient, to 1e-10).

        Raises `ArgumentError` when the system is singular, which needs γ = 0.
        """
        hessian, target = self.system(p)
        least = torch.linalg.eigvalsh(hessian.detach()).amin()
        if not float(least) > 1e-13 * float(hessian.detach().abs().max()):
            raise ArgumentError(
                f"gamma: with gamma = {float(self.gamma):g} the stimuli do not determine the gains (smallest "
                f"eigenvalue {float(least):.2g}); a neuron that is never driven needs gamma > 0"
            )
        g = torch.linalg.solve(hessian, target)
        if not nonnegative or bool((g >= 0).all()):
            return g
        return _projected(hessian.detach(), target.detach())

    def descend(self, p: Tensor, steps: int = 300, start: Tensor | None = None) -> Tensor:
        """Gains after gradient descent with step 1/λ_max(H) from `start` (1 by default): reaches `solve`."""
        hessian, target = self.system(p)
        rate = 1 / torch.linalg.eigvalsh(hessian)[..., -1:]
        g = torch.ones_like(target) if start is None else start.expand_as(target)
        for _ in range(steps):
            g = g - rate * ((hessian @ g.unsqueeze(-1)).squeeze(-1) - target)
        return g


def _projected(hessian: Tensor, target: Tensor, most: int = 100_000) -> Tensor:
    """Minimise ½ gᵀHg − bᵀg over g ≥ 0 by accelerated projected gradient with restarts."""
    rate = 1 / torch.linalg.eigvalsh(hessian)[..., -1:]
    g = torch.linalg.solve(hessian, target).clamp(min=0)
    ahead, momentum = g, 1.0
    for _ in range(most):
        new = (ahead - rate * ((hessian @ ahead.unsqueeze(-1)).squeeze(-1) - target)).clamp(min=0)
        change = new - g
        if float(change.abs().max()) < 1e-13:
            return new
        uphill = bool(((ahead - new) * change).sum() > 0)
        following = 1.0 if uphill else (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new if uphill else new + (momentum - 1) / following * change
        g, momentum = new, following
    return g
