"""Centred kernel alignment against its closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer import DomainAlignmentLoss, cka, cka_matrix
from ranvier.train.transfer.cka import centred, centred_gram


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(draw(size, size, seed=9))[0]


def test_centring_is_jkj() -> None:
    x = draw(7, 4)
    k, j = x @ x.T, torch.eye(7, dtype=torch.float64) - 1 / 7
    torch.testing.assert_close(centred(k), j @ k @ j, rtol=0, atol=1e-10)
    assert float(centred(k).sum(0).abs().max()) < 1e-10
    torch.testing.assert_close(centred_gram(x[None])[0], j @ k @ j, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_one_for_itself_rotated_scaled_and_shifted(dtype: torch.dtype, atol: float) -> None:
    x = draw(20, 6).to(dtype)
    moved = 3.5 * x @ rotation(6).to(dtype) + 2
    for other in (x, moved):
        torch.testing.assert_close(cka(x, other), x.new_ones(()), rtol=0, atol=atol)
        torch.testing.assert_close(cka(x, other, debiased=True), x.new_ones(()), rtol=0, atol=atol)
        torch.testing.assert_close(cka(x, other, kernel="rbf"), x.new_ones(()), rtol=0, atol=atol)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_symmetric_and_between_nought_and_one(kernel: str) -> None:
    for seed in range(5):
        x, y = draw(12, 5, seed=seed), draw(12, 8, seed=50 + seed)
        value = float(cka(x, y, kernel))  # pyright: ignore[reportArgumentType]
        assert 0 <= value <= 1
        assert value == pytest.approx(float(cka(y, x, kernel)), abs=1e-12)  # pyright: ignore[reportArgumentType]


def test_gram_route_equals_feature_route() -> None:
    x, y = draw(15, 6), draw(15, 9, seed=1)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = (a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())
    torch.testing.assert_close(cka(x, y), expected, rtol=1e-8, atol=0)


def test_rbf_by_hand() -> None:
    x, y = draw(9, 3), draw(9, 4, seed=1)

    def gram(f: Tensor) -> np.ndarray:
        d = ((f[:, None] - f[None]) ** 2).sum(-1).numpy()
        return np.exp(-d / (2 * np.median(d)))

    j = np.eye(9) - 1 / 9
    k, m = (j @ gram(f) @ j for f in (x, y))
    assert float(cka(x, y, "rbf")) == pytest.approx((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m), rel=1e-9)


def test_debiased_by_hand() -> None:
    x, y = draw(8, 3), draw(8, 5, seed=1)

    def hsic(a: Tensor, b: Tensor) -> float:
        n = 8
        k, m = (f @ f.T for f in (a, b))
        k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
        one = torch.ones(n, dtype=torch.float64)
        first = (k @ m).trace() + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return float((first - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
    assert float(cka(x, y, debiased=True)) == pytest.approx(expected, rel=1e-9)


def test_unrelated_features_need_the_debiased_estimate() -> None:
    found = {True: [], False: []}
    for seed in range(50):
        x, y = (torch.randn(120, 512, generator=torch.Generator().manual_seed(s)) for s in (seed, 1000 + seed))
        for debiased, values in found.items():
            values.append(float(cka(x, y, debiased=debiased)))
    assert abs(np.mean(found[True])) < 0.01
    assert abs(np.mean(found[False]) - 0.81) < 0.02


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_gradients(kernel: str, debiased: bool) -> None:
    loss = DomainAlignmentLoss(kernel=kernel, debiased=debiased)  # pyright: ignore[reportArgumentType]
    x, y = draw(6, 5).requires_grad_(), draw(6, 5, seed=1).requires_grad_()
    if kernel == "linear":  # the bandwidth of the other is held constant
        assert torch.autograd.gradcheck(loss, (x, y))
    (grad,) = torch.autograd.grad(loss(x, x.detach().clone()), x)
    assert float(grad.abs().max()) < 1e-7


def test_constant_features_have_no_alignment_and_no_gradient() -> None:
    x, y = torch.ones(5, 3, dtype=torch.float64, requires_grad=True), draw(5, 3).requires_grad_()
    assert float(cka(x.detach(), y.detach())) == 0
    loss = DomainAlignmentLoss()(x, y)
    assert loss.item() == 1
    loss.backward()
    assert x.grad is not None and y.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x)) and torch.equal(y.grad, torch.zeros_like(y))


def test_half_precision_is_computed_in_single() -> None:
    x, y = draw(16, 4).half(), draw(16, 4, seed=1).half()
    torch.testing.assert_close(cka(x, y), cka(x.float(), y.float()))


def test_matrix_of_layers() -> None:
    a = {"one": draw(10, 3), "two": draw(10, 4, 2, seed=1)}
    b = {"three": draw(10, 5, seed=2)}
    found = cka_matrix(a, b)
    assert found.shape == (2, 1)
    assert float(found[1, 0]) == pytest.approx(float(cka(a["two"], b["three"], debiased=True)), abs=1e-12)
    torch.testing.assert_close(cka_matrix(a, a).diagonal(), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("x", "y", "say"),
    [
        (torch.ones(1, 3), torch.ones(1, 3), "at least 2"), (torch.ones(4, 3), torch.ones(5, 3), "same"),
        (torch.ones(4), torch.ones(4), "features"), (torch.full((4, 2), torch.nan), torch.ones(4, 2), "finite"),
    ],
)  # fmt: skip
def test_what_has_no_alignment(x: Tensor, y: Tensor, say: str) -> None:
    with pytest.raises(ArgumentError, match=say):
        cka(x, y)
    with pytest.raises(ShapeError, match="at least 4"):
        cka(torch.ones(3, 2), torch.ones(3, 2), debiased=True)
    with pytest.raises(ArgumentError, match="kernel"):
        cka(torch.ones(3, 2), torch.ones(3, 2), kernel="cubic")  # pyright: ignore[reportArgumentType]
