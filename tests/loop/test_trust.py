"""Trust: exact regrets, gradients, curves, sums and states."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.loop import Cusum, FallbackFSM, LikelihoodRegret
from ranvier.loop.trust import Mahalanobis, Vae, adapt, auroc, fit_vae, spsa_gradient
from ranvier.loop.trust.lora import LoraLinear
from ranvier.loop.trust.verdict import DEGRADED, NOMINAL, SAFE_STOP, SUSPECT


def test_auroc_is_that_of_sklearn() -> None:
    score = torch.randint(0, 20, (500,)).double()
    label = torch.rand(500) < 0.3
    assert auroc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    with pytest.raises(ArgumentError, match="both classes"):
        auroc(score, torch.ones(500, dtype=torch.bool))


class LinearGaussian(Vae):
    """x = W z + noise with orthogonal columns: the true posterior is diagonal."""

    def __init__(self) -> None:
        super().__init__(6, 4, 3)
        basis, _ = torch.linalg.qr(torch.randn(6, 3).double())
        self.double()
        self.decoder = nn.Sequential(nn.Linear(3, 6, bias=False)).double()
        self.body = nn.Sequential(nn.Identity())
        self.head = nn.Linear(6, 6).double()
        with torch.no_grad():
            self.decoder[0].weight.copy_(basis * torch.tensor([2.0, 1.0, 0.5]).double())
            self.log_variance.fill_(-0.7)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        W, s = self.decoder[0].weight.detach(), self.log_variance.exp()[0]
        precision = 1 + (W.square().sum(0)) / s
        return (x @ W / s) / precision, (1 / precision).log().expand(len(x), 3)


@pytest.mark.parametrize("optimizer", ["adam", "spsa", "lora"])
def test_regret_of_a_linear_gaussian_model(optimizer: str) -> None:
    vae = LinearGaussian()
    x = torch.randn(5, 6).double()
    with torch.no_grad():
        mu, log_var = vae.encode(vae.standardise(x))
        mean, best = vae.posterior(vae.standardise(x))
        exact = 0.5 * ((log_var - best).exp() + (mean - mu) ** 2 / best.exp() - 1 + best - log_var).sum(1)
    steps = {"adam": 1200, "spsa": 3000, "lora": 2500}[optimizer]
    rank = {"rank": 3} if optimizer == "lora" else {}
    regret = LikelihoodRegret(vae, optimizer, steps=steps, lr=0.02, samples=16, **rank)(x)  # pyright: ignore[reportArgumentType]
    assert (regret >= 0).all()
    assert torch.allclose(regret, exact, atol=0.05 if optimizer == "spsa" else 1e-4)


def test_regret_tells_the_strange_from_the_known() -> None:
    torch.manual_seed(0)
    clean = torch.randn(600, 24) @ (torch.randn(24, 24) * (torch.arange(24) < 4)).T * 0.3
    vae = Vae()
    fit_vae(vae, clean, steps=600)
    strange = clean[:200] + 3 * torch.randn(200, 24) * (torch.rand(200, 24) < 0.2)
    both = torch.cat([clean[200:400], strange])
    label = torch.arange(400) >= 200
    found = {name: auroc(LikelihoodRegret(vae, name)(both), label) for name in ("adam", "spsa", "lora")}  # pyright: ignore[reportArgumentType]
    assert found["adam"] > 0.85 and abs(found["spsa"] - found["adam"]) < 0.1
    assert auroc(Mahalanobis(clean)(both), label) > 0.85
    adapt(vae, clean, steps=20)


def test_spsa_is_unbiased_on_a_quadratic() -> None:
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    x = torch.tensor([0.3, -0.7, 1.1, 0.2]).double().expand(100_000, 4)
    generator = torch.Generator().manual_seed(0)
    mean = spsa_gradient(lambda v: (weights * v.square()).sum(-1), x, 0.1, generator).mean(0)
    assert ((mean - 2 * weights * x[0]).norm() / (2 * weights * x[0]).norm()).item() < 0.01


def test_lora_starts_as_the_layer_and_merges() -> None:
    inner = nn.Linear(5, 3).double()
    x = torch.randn(7, 5).double()
    before = inner(x).detach().clone()
    adapted = LoraLinear(inner, 2)
    assert torch.equal(adapted(x), before)
    with torch.no_grad():
        adapted.up.normal_()
    changed = adapted(x).detach().clone()
    assert torch.allclose(adapted.merge()(x), changed) and not torch.allclose(changed, before)


def test_cusum_adds_up_and_comes_back() -> None:
    alarm = Cusum(0.0, 1.0, 0.5, 5.0)
    alarm.reset(1)
    raised = [bool(alarm.step(torch.tensor([2.0]))) for _ in range(5)]
    assert raised == [False, False, False, True, True] and alarm.value.item() == pytest.approx(7.5)
    back = [bool(alarm.step(torch.tensor([0.0]))) for _ in range(12)]
    assert back.index(False) == 9  # 7.5 − 10 x 0.5 is half the threshold
    quiet = Cusum.tuned(torch.randn(3000, 5).double())
    quiet.reset(5)
    assert sum(int(quiet.step(torch.randn(5).double()).sum()) for _ in range(2000)) < 20


def test_fallback_states() -> None:
    fsm = FallbackFSM(confirm_s=0.3, blind_s=0.2, calm_s=0.5)
    fsm.reset(1)
    yes, no = torch.tensor([True]), torch.tensor([False])
    modes = [int(fsm.step(yes, no)) for _ in range(5)]
    assert modes == [SUSPECT, SUSPECT, SUSPECT, DEGRADED, DEGRADED]
    assert [int(fsm.step(yes, yes)) for _ in range(4)] == [DEGRADED, DEGRADED, SAFE_STOP, SAFE_STOP]
    assert int(fsm.step(no, no)) == DEGRADED
    assert [int(fsm.step(no, no)) for _ in range(6)][-1] == NOMINAL
    blip = FallbackFSM()
    blip.reset(1)
    assert int(blip.step(yes, no)) == SUSPECT
    assert [int(blip.step(no, no)) for _ in range(3)][-1] == NOMINAL
