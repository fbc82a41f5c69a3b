"""Adaptive whitening by interneurons whose gains change: frames, best gains, online rules, slow synapses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError

DIVERGED = 200.0
"""Gains beyond this have diverged, as in the published experiments."""


def mercedes_frame() -> Tensor:
    """Three unit vectors at 120° in the plane, `[2, 3]`."""
    angle = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3 + math.pi / 2
    return torch.stack((angle.cos(), angle.sin()))


def equiangular_frame() -> Tensor:
    """Six equiangular lines in space, the diagonals of an icosahedron, `[3, 6]`."""
    golden = (1 + math.sqrt(5)) / 2
    rows = [(0, 1, golden), (0, 1, -golden), (1, golden, 0), (1, -golden, 0), (golden, 0, 1), (-golden, 0, 1)]
    frame = torch.tensor(rows, dtype=torch.float64).T
    return frame / frame.norm(dim=0)


def random_frame(primary: int, interneurons: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Random unit vectors `[N, K]`; K = N(N + 1)/2 by default, enough to whiten any covariance."""
    count = primary * (primary + 1) // 2 if interneurons is None else interneurons
    frame = torch.randn(primary, count, dtype=torch.float64, generator=generator)
    return frame / frame.norm(dim=0)


def conv_frame(height: int, width: int, reach: int = 1) -> Tensor:
    """A convolutional frame for images: one interneuron a pixel, and one a pair of pixels at most `reach` apart.

    `[height · width, K]`; a pair has weights (1, 1)/√2 (Duong et al., ICML 2023).
    """
    if min(height, width) < 1 or reach < 0:
        raise ArgumentError(f"height and width must be >= 1 and reach >= 0, got {height}, {width}, {reach}")
    pixels = height * width
    columns = [torch.eye(pixels, dtype=torch.float64)]
    for a in range(pixels):
        for b in range(a + 1, pixels):
            if max(abs(a // width - b // width), abs(a % width - b % width)) <= reach:
                pair = torch.zeros(pixels, 1, dtype=torch.float64)
                pair[[a, b]] = 1 / math.sqrt(2)
                columns.append(pair)
    return torch.cat(columns, 1)


def _covariance(c: Tensor, n: int) -> None:
    if c.shape[-2:] != (n, n):
        raise ShapeError(f"covariance must be [..., {n}, {n}], got shape {tuple(c.shape)}")
    if not bool(torch.isfinite(c).all()) or not torch.allclose(c, c.mT, rtol=1e-6, atol=1e-9 * float(c.abs().max())):
        raise ArgumentError("covariance must be symmetric and finite")
    smallest = float(torch.linalg.eigvalsh(c).min())
    if smallest <= 1e-12 * float(c.diagonal(dim1=-2, dim2=-1).max()):
        raise ArgumentError(
            f"covariance is singular (smallest eigenvalue {smallest:.2g}); no gains whiten a direction without variance"
        )


class FrameWhitening(nn.Module):
    """A circuit that whitens by gains alone (Duong, Lipshutz et al., ICML 2023, arXiv 2301.11955).

    Primary neurons y and interneurons n = g ∘ (Wᵀy) settle at y = (αI + W diag(g) Wᵀ)⁻¹ x. Called with inputs
    `[..., N]` it gives y; `observe` also moves the gains: g ← g + η (mean z² − ‖w‖²), with z = Wᵀy.

    Args:
        frame: W `[N, K]` without zero columns.
        rate: η > 0.
        leak: α > 0.
        nonnegative: keep gains at 0 or above (then only variance above 1 is compressed).
    """

    frame: Tensor
    gains: Tensor

    def __init__(self, frame: Tensor, rate: float = 5e-3, leak: float = 1.0, nonnegative: bool = False) -> None:
        super().__init__()
        if frame.dim() != 2 or not bool(torch.isfinite(frame).all()) or bool((frame.norm(dim=0) == 0).any()):
            raise ArgumentError(f"frame must be a finite matrix [N, K] without zero columns, got {tuple(frame.shape)}")
        for name, value in (("rate", rate), ("leak", leak)):
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ArgumentError(f"{name} must be a positive number, got {value!r}")
        self.rate, self.leak, self.nonnegative = float(rate), float(leak), nonnegative
        self.register_buffer("frame", frame.clone())
        self.register_buffer("gains", torch.ones(frame.shape[1], dtype=frame.dtype))

    def filter(self, gains: Tensor | None = None) -> Tensor:
        """F = (αI + W diag(g) Wᵀ)⁻¹, `[..., N, N]`; `ArgumentError` when the circuit is not stable with these gains."""
        g = self.gains if gains is None else gains
        identity = torch.eye(self.frame.shape[0], dtype=self.frame.dtype)
        inner = self.leak * identity + (self.frame * g.unsqueeze(-2)) @ self.frame.T
        if not float(torch.linalg.eigvalsh(inner.detach()).min()) > 0:
            raise ArgumentError(
                "gains: the circuit is not stable with them (αI + W diag(g) Wᵀ is not positive definite)"
            )
        return torch.linalg.inv(inner)

    def forward(self, x: Tensor) -> Tensor:
        """Steady state y `[..., N]` for input x `[..., N]`."""
        if x.dim() == 0 or x.shape[-1] != self.frame.shape[0]:
            raise ShapeError(f"x must be [..., {self.frame.shape[0]}], got shape {tuple(x.shape)}")
        return x @ self.filter()

    @torch.no_grad()
    def observe(self, x: Tensor) -> Tensor:
        """Respond to a batch x `[B, N]` and adapt the gains to it; returns y."""
        y = self(x)
        self._move((y @ self.frame).square().mean(0))
        return y

    def _move(self, power: Tensor) -> None:
        self.gains += self.rate * (power - self.frame.square().sum(0))
        if self.nonnegative:
            self.gains.clamp_(min=0)
        if not bool((self.gains.abs() < DIVERGED).all()):
            raise ArgumentError(
                f"rate: gains have diverged (beyond {DIVERGED:g}) with rate {self.rate:g}; take a smaller one"
            )

    def best_gains(self, covariance: Tensor) -> Tensor:
        """g* = ((WᵀW)∘²)⁻¹ diag(Wᵀ(C^½ − αI)W), `[..., K]`, for a covariance `[..., N, N]`.

        With K ≥ N(N + 1)/2 vectors in general position the outputs are then white; with fewer, whitened as far as the
        frame reaches (least squares). Raises `ArgumentError` for a singular covariance.
        """
        _covariance(covariance, self.frame.shape[0])
        values, vectors = torch.linalg.eigh(covariance)
        root = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
        identity = torch.eye(self.frame.shape[0], dtype=self.frame.dtype)
        wanted = (self.frame * ((root - self.leak * identity) @ self.frame)).sum(-2)
        gram = (self.frame.T @ self.frame).square()
        return (torch.linalg.pinv(gram, hermitian=True) @ wanted.unsqueeze(-1)).squeeze(-1)

    def output_covariance(self, covariance: Tensor, gains: Tensor | None = None) -> Tensor:
        """C_yy = F C Fᵀ, `[..., N, N]`."""
        f = self.filter(gains)
        return f @ covariance @ f.mT

    def error(self, covariance: Tensor, gains: Tensor | None = None) -> Tensor:
        """‖C_yy − I‖² / N² (Frobenius)."""
        n = self.frame.shape[0]
        identity = torch.eye(n, dtype=self.frame.dtype)
        return (self.output_covariance(covariance, gains) - identity).square().sum((-1, -2)) / n**2


class MultiTimescaleWhitening(FrameWhitening):
    """Whitening with fast gains and slow synapses (Duong et al., NeurIPS 2023, arXiv 2308.13633).

    Per context the gains change quickly, g ← g + η_g (mean z² − ‖w‖²); synapses learn over many contexts what these
    have in common, W ← W + η_w (mean y nᵀ − W diag(g)), n = g ∘ z.

    Args:
        frame: W to start from, `[N, K]`.
        rate: η_g of the gains.
        synapse_rate: η_w ≥ 0 of the synapses, much smaller.
    """

    def __init__(self, frame: Tensor, rate: float = 5e-2, synapse_rate: float = 1e-3, leak: float = 1.0,
                 nonnegative: bool = False) -> None:  # fmt: skip
        super().__init__(frame, rate, leak, nonnegative)
        if not (isinstance(synapse_rate, int | float) and 0 <= synapse_rate < math.inf):
            raise ArgumentError(f"synapse_rate must be a number >= 0, got {synapse_rate!r}")
        self.synapse_rate = float(synapse_rate)

    @torch.no_grad()
    def observe(self, x: Tensor) -> Tensor:
        """Respond to a batch x `[B, N]`, adapt gains and learn synapses; returns y."""
        y = self(x)
        z = y @ self.frame
        change = y.T @ (z * self.gains) / len(y) - self.frame * self.gains
        self._move(z.square().mean(0))
        self.frame += self.synapse_rate * change
        return y

    @torch.no_grad()
    def learn_context(self, covariance: Tensor, steps: int, learn: bool = True) -> Tensor:
        """`steps` noiseless updates for a context, from gains of 1; returns the errors `[steps]`, each before it."""
        _covariance(covariance, self.frame.shape[0])
        self.gains.fill_(1.0)
        errors = torch.empty(steps, dtype=self.frame.dtype)
        for step in range(steps):
            output = self.output_covariance(covariance)
            errors[step] = self.error(covariance)
            power = (self.frame * (output @ self.frame)).sum(0)
            change = output @ self.frame * self.gains - self.frame * self.gains
            self._move(power)
            if learn:
                self.frame += self.synapse_rate * change
        return errors
