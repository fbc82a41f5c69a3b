"""Whitening by gains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ranvier.circuits import (
    FrameWhitening,
    MultiTimescaleWhitening,
    conv_frame,
    equiangular_frame,
    mercedes_frame,
    random_frame,
)
from ranvier.errors import ArgumentError


def covariance(n: int, condition: float, seed: int = 0) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return (q * torch.linspace(1, condition, n, dtype=torch.float64)) @ q.T


@pytest.mark.parametrize(
    "frame", [mercedes_frame(), equiangular_frame(), random_frame(8, generator=torch.Generator().manual_seed(0))],
    ids=["mercedes", "equiangular", "random"],
)  # fmt: skip
def test_best_gains_whiten(frame: Tensor) -> None:
    torch.testing.assert_close(frame.norm(dim=0), torch.ones(frame.shape[1], dtype=torch.float64))
    circuit = FrameWhitening(frame)
    c = covariance(frame.shape[0], 5.0)
    white = circuit.output_covariance(c, circuit.best_gains(c))
    assert float((white - torch.eye(len(c))).norm()) < 1e-8
    both = torch.stack((c, covariance(len(c), 3.0, 1)))
    torch.testing.assert_close(circuit.best_gains(both)[0], circuit.best_gains(c))


def test_equiangular_lines_meet_at_one_angle() -> None:
    gram = (equiangular_frame().T @ equiangular_frame()).abs()
    off = gram[~torch.eye(6, dtype=torch.bool)]
    torch.testing.assert_close(off, torch.full_like(off, 5**-0.5))


def test_online_gains_whiten() -> None:
    circuit, c = FrameWhitening(mercedes_frame(), rate=5e-3), covariance(2, 3.0)
    root = torch.linalg.cholesky(c)
    generator = torch.Generator().manual_seed(1)
    assert float(circuit.error(c)) > 1e-2
    for _ in range(1024):
        circuit.observe(torch.randn(64, 2, dtype=torch.float64, generator=generator) @ root.T)
    assert float(circuit.error(c)) < 1e-2


def test_few_interneurons_whiten_what_they_reach() -> None:
    frame = torch.eye(3, dtype=torch.float64)[:, :2]
    circuit, c = FrameWhitening(frame), torch.diag(torch.tensor([4.0, 9.0, 2.0], dtype=torch.float64))
    white = circuit.output_covariance(c, circuit.best_gains(c))
    torch.testing.assert_close(white, torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)))


def test_nonnegative_gains_only_compress() -> None:
    circuit, c = FrameWhitening(mercedes_frame(), rate=0.05, nonnegative=True), covariance(2, 1.0) * 0.25
    for _ in range(400):
        power = (circuit.frame * (circuit.output_covariance(c) @ circuit.frame)).sum(0)
        circuit._move(power)
    assert torch.equal(circuit.gains, torch.zeros(3, dtype=torch.float64))


def test_conv_frame_pairs_neighbours() -> None:
    frame = conv_frame(3, 4)
    assert frame.shape == (12, 12 + 29)  # 9 horizontal, 8 vertical, 12 diagonal pairs
    torch.testing.assert_close(frame.norm(dim=0), torch.ones(41, dtype=torch.float64))


def test_slow_synapses_learn_what_contexts_share() -> None:
    generator = torch.Generator().manual_seed(5)
    shared, _ = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=generator))

    def context() -> Tensor:
        size = 3 * torch.rand(2, dtype=torch.float64, generator=generator)
        inner = torch.eye(2) + (shared * size) @ shared.T
        return inner @ inner

    start = random_frame(2, 2, generator)
    learned, fixed = MultiTimescaleWhitening(start, 0.1, 0.01), MultiTimescaleWhitening(start, 0.1, 0.0)
    for _ in range(60):
        learned.learn_context(context(), 60)
    fresh = context()
    after = [float(m.learn_context(fresh, 200, learn=False)[-1]) for m in (learned, fixed)]
    assert after[0] < 0.2 * after[1]


def test_the_synapse_rule_on_a_batch_is_that_of_its_covariance() -> None:
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    frame = random_frame(3, 4, torch.Generator().manual_seed(3))
    online, offline = MultiTimescaleWhitening(frame, 0.01, 0.01), MultiTimescaleWhitening(frame, 0.01, 0.01)
    online.observe(x)
    offline.learn_context(x.T @ x / 50, 1)
    torch.testing.assert_close(online.frame, offline.frame)
    torch.testing.assert_close(online.gains, offline.gains)
    assert not torch.equal(online.frame, frame)


def test_gains_survive_a_checkpoint() -> None:
    circuit = FrameWhitening(mercedes_frame())
    circuit.observe(torch.randn(8, 2, dtype=torch.float64))
    other = FrameWhitening(mercedes_frame())
    other.load_state_dict(circuit.state_dict())
    assert torch.equal(other.gains, circuit.gains)


def test_mistakes_are_named() -> None:
    circuit = FrameWhitening(mercedes_frame())
    with pytest.raises(ArgumentError, match="covariance is singular"):
        circuit.best_gains(torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)))
    with pytest.raises(ArgumentError, match="symmetric"):
        circuit.best_gains(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    with pytest.raises(ArgumentError, match="not stable"):
        circuit.filter(torch.full((3,), -1.0, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="rate"):
        FrameWhitening(mercedes_frame(), rate=0)
    with pytest.raises(ArgumentError, match="zero columns"):
        FrameWhitening(torch.zeros(2, 3))
    wild = FrameWhitening(mercedes_frame(), rate=1e6)
    with pytest.raises(ArgumentError, match="diverged"):
        wild.observe(torch.randn(4, 2, dtype=torch.float64))
