"""Alignment over time, temporal coefficients, and the whole loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train import tet
from ranvier.train.transfer import (
    DomainAlignmentLoss,
    KnowledgeTransferLoss,
    SemanticLoss,
    TemporalCoefficients,
    TETLoss,
    cka,
)
from ranvier.train.transfer.semantic import strangers


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(T: int = 3, B: int = 6, K: int = 4) -> tuple[Tensor, ...]:
    labels = torch.arange(B) % K
    return draw(T, B, K), draw(T, B, K, seed=1), draw(T, B, 2, 3, 3, seed=2), draw(T, B, 2, 3, 3, seed=3), labels


def test_alignment_is_the_mean_over_the_steps() -> None:
    *_, z_s, z_e, _ = outputs()
    loss = DomainAlignmentLoss()
    steps = torch.stack([1 - cka(a, b, eps=1e-7).abs() for a, b in zip(z_s, z_e, strict=True)])
    torch.testing.assert_close(loss.steps(z_s, z_e), steps)
    weights = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(loss(z_s, z_e, weights), (weights * steps).sum() / 3)
    torch.testing.assert_close(loss(z_s[0].flatten(1), z_e[0].flatten(1)), steps[0])
    assert float(loss(z_e, z_e)) < 1e-5


def test_other_distances() -> None:
    x, y = draw(2, 6, 3), draw(2, 6, 3, seed=1)
    mmd, coral = (DomainAlignmentLoss(distance=d) for d in ("mmd", "coral"))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(mmd.steps(x, y)[1], (x[1].mean(0) - y[1].mean(0)).square().sum())
    difference = torch.cov(x[0].T) - torch.cov(y[0].T)
    torch.testing.assert_close(coral.steps(x, y)[0], difference.square().sum() / 36)
    rbf = DomainAlignmentLoss(kernel="rbf", distance="mmd")
    assert float(rbf(x, x)) == pytest.approx(0, abs=1e-12) and float(rbf(x, y + 3)) > float(rbf(x, y)) > 0


def test_published_start_of_the_coefficients() -> None:
    found = TemporalCoefficients(10)()
    assert found.shape == (10,) and float(found[0].detach()) == pytest.approx(0.731, abs=1e-3)
    low = TemporalCoefficients(2, init=-50.0, bounds=(0.05, 0.95))()
    torch.testing.assert_close(low, torch.full((2,), 0.05))
    fixed = TemporalCoefficients.fixed(4, 0.5)
    torch.testing.assert_close(fixed(), torch.full((4,), 0.5))
    assert not any(p.requires_grad for p in fixed.parameters())


def test_gradient_of_the_coefficients() -> None:
    o_s, o_e, z_s, z_e, y = outputs()
    coefficients = TemporalCoefficients(3).double()
    loss = KnowledgeTransferLoss(DomainAlignmentLoss(), coefficients, 0.5, TETLoss(1e-3, 0.5))
    loss(o_s, o_e, z_s, z_e, y).total.backward()
    sigma = coefficients().detach()
    entropy = torch.stack([F.cross_entropy(o, y) for o in o_e])
    square = (o_e - 0.5).square().mean((1, 2))
    distance = DomainAlignmentLoss().steps(z_s, z_e)
    expected = sigma * (1 - sigma) * (0.5 * distance - (1 - 1e-3) * entropy - 1e-3 * square) / 3
    assert coefficients.eta.grad is not None
    torch.testing.assert_close(coefficients.eta.grad, expected, rtol=1e-6, atol=0)


def test_terms_add_up() -> None:
    o_s, o_e, z_s, z_e, y = outputs()
    coefficients = TemporalCoefficients(3, entropy=0.3).double()
    loss = KnowledgeTransferLoss(DomainAlignmentLoss(), coefficients, 0.5)
    terms = loss(o_s, o_e, z_s, z_e, y)
    sigma = coefficients()
    torch.testing.assert_close(terms.static, tet(o_s, y, 1e-3, 0.5))
    torch.testing.assert_close(terms.event, ((1 - sigma) * TETLoss().steps(o_e, y)).mean())
    torch.testing.assert_close(terms.alignment, DomainAlignmentLoss()(z_s, z_e, sigma))
    torch.testing.assert_close(terms.total, terms.static + terms.event + 0.5 * terms.alignment + terms.penalty)
    torch.testing.assert_close(TETLoss()(o_e, y, torch.ones(3, dtype=torch.float64)), tet(o_e, y, 1e-3, 0.5))


def test_without_alignment_and_coefficients_it_is_plain_training() -> None:
    o_s, o_e, z_s, z_e, y = outputs()
    o_e.requires_grad_()
    (ours,) = torch.autograd.grad(KnowledgeTransferLoss()(o_s, o_e, z_s, z_e, y).total, o_e)
    (plain,) = torch.autograd.grad(tet(o_e, y, 1e-3, 0.5), o_e)
    assert torch.equal(ours, plain)
    mean = KnowledgeTransferLoss(classifier="cross_entropy")(o_s, o_e, z_s, z_e, y)
    torch.testing.assert_close(mean.event, F.cross_entropy(o_e.mean(0), y))


def test_equal_domains() -> None:
    _, o, _, z, y = outputs()
    terms = KnowledgeTransferLoss(DomainAlignmentLoss())(o, o, z, z, y)
    assert float(terms.alignment) < 1e-5 and torch.equal(terms.static, terms.event)


def test_entropy_gives_an_optimum_between_the_ends() -> None:
    """At the optimum σ = σ(g / entropy), where g is the event loss less the weighted alignment."""
    gain, entropy = torch.tensor([2.0, 0.1, -0.4], dtype=torch.float64), 0.5
    coefficients = TemporalCoefficients(3, entropy=entropy).double()
    optimizer = torch.optim.LBFGS(coefficients.parameters(), max_iter=200, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -(coefficients() * gain).mean() + coefficients.penalty()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(coefficients().detach(), torch.sigmoid(gain / entropy), rtol=1e-4, atol=1e-6)


def test_strangers_are_of_other_classes_drawn_evenly() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([strangers(labels, generator) for _ in range(4000)])
    assert bool((labels[drawn] != labels).all())
    share = torch.stack([(drawn[:, 4] == i).double().mean() for i in range(6)])
    # half of class 1's strangers are of class 2, whatever the sizes of the classes
    torch.testing.assert_close(share, torch.tensor([1, 1, 1, 1, 0, 4]).double() / 8, atol=0.03, rtol=0)


def test_semantic_term() -> None:
    *_, z_s, z_e, y = outputs(B=12)
    generator = torch.Generator().manual_seed(3)
    found = SemanticLoss(0.0)(z_s, z_e, y, generator)
    index = strangers(y, torch.Generator().manual_seed(3))
    expected = torch.stack([cka(a[index], b, eps=1e-7).abs() for a, b in zip(z_s, z_e, strict=True)]).mean()
    torch.testing.assert_close(found, expected)
    assert float(SemanticLoss(0.99)(z_s, z_e, y)) == 0  # within the margin
    assert float(SemanticLoss(0.0)(z_s, z_e, torch.zeros_like(y))) == 0  # there are no other classes


def test_the_semantic_term_counts_while_it_is_on() -> None:
    o_s, o_e, z_s, z_e, y = outputs()
    z_e.requires_grad_()
    plain = KnowledgeTransferLoss()(o_s, o_e, z_s, z_e, y)
    loss = KnowledgeTransferLoss(semantic=SemanticLoss(0.0), semantic_coefficient=0.5)
    terms = loss(o_s, o_e, z_s, z_e, y)
    assert float(terms.semantic.detach()) > 0
    torch.testing.assert_close(terms.total, plain.total + 0.5 * terms.semantic)
    terms.total.backward()
    assert z_e.grad is not None and bool(z_e.grad.abs().sum() > 0)
    loss.keeps_apart = False
    torch.testing.assert_close(loss(o_s, o_e, z_s, z_e, y).total, plain.total)


@pytest.mark.parametrize(
    ("call", "say"),
    [
        (lambda: SemanticLoss(1.0), "margin"),
        (lambda: SemanticLoss()(draw(3, 4, 2), draw(3, 4, 2), torch.arange(3)), "labels"),
        (lambda: strangers(torch.zeros(3).long()), "one class"),
        (lambda: KnowledgeTransferLoss(semantic_coefficient=-1.0), "semantic_coefficient"),
        (lambda: DomainAlignmentLoss()(draw(3, 4, 2), draw(2, 4, 2)), "same steps T: .* 3, .* 2"),
        (lambda: DomainAlignmentLoss()(draw(3, 4, 2), draw(3, 5, 2)), "same samples B"),
        (lambda: DomainAlignmentLoss()(draw(3, 1, 2), draw(3, 1, 2)), "batch of one"),
        (lambda: DomainAlignmentLoss()(draw(1, 2), draw(1, 2)), "batch of one"),
        (lambda: DomainAlignmentLoss()(draw(3, 4, 2), draw(3, 4, 2), draw(2)), "weights"),
        (lambda: DomainAlignmentLoss(kernel="x"), "kernel"),
        (lambda: DomainAlignmentLoss(distance="x"), "distance"),
        (lambda: TemporalCoefficients(0), "T must"),
        (lambda: TemporalCoefficients(3, bounds=(0.9, 0.1)), "bounds"),
        (lambda: TemporalCoefficients(3, init=math.nan), "init"),
        (lambda: TemporalCoefficients.fixed(3, 1.5), "value"),
        (lambda: KnowledgeTransferLoss(coefficients=TemporalCoefficients(2))(*outputs()), "T=3"),
        (lambda: KnowledgeTransferLoss(coefficients=TemporalCoefficients(2), classifier="cross_entropy"), "TETLoss"),
        (lambda: KnowledgeTransferLoss()(*outputs(T=2)[:1], *outputs()[1:]), "one shape"),
    ],
)
def test_bad_input(call: object, say: str) -> None:
    with pytest.raises((ArgumentError, ShapeError), match=say):
        call()  # pyright: ignore[reportCallIssue]
