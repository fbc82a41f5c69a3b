"""Criteria and calibration of early exit, on recorded outputs."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.early_exit import (
    ALPHAS,
    CALIBRATED,
    Conformal,
    Criterion,
    DynamicConfidence,
    Entropy,
    FixedSteps,
    Gap,
    LearnedPolicy,
    Patience,
    PolicyNet,
    RandomLike,
    calibrate,
    calibrate_alpha,
    criterion_settings,
    evaluate_exit,
    fit_alpha,
    fit_policy,
    fitted,
    fixed_steps,
    named_criterion,
    oracle,
    smallest_sufficient,
    sweep,
    take_turns,
    train_policy,
)


def walk(
    steps: int = 12, samples: int = 200, classes: int = 5, drift: float = 0.4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=generator)
    logits = torch.randn(steps, samples, classes, generator=generator, dtype=torch.float64)
    return logits + drift * torch.nn.functional.one_hot(labels, classes), labels


CRITERIA = [DynamicConfidence(alpha=4.0), Entropy(alpha=4.0), Gap(), Gap(per_step=[9.0, 5.0, 3.0]), Patience(3),
            FixedSteps(4), RandomLike([1, 2, 3]), Conformal(torch.linspace(1.0, 2.0, 12).double())]  # fmt: skip


def test_extreme_thresholds() -> None:
    logits, labels = walk()
    never = evaluate_exit(logits, labels, DynamicConfidence(alpha=2.0), threshold=1.0)
    assert never.mean_steps == 12 and never.accuracy == fixed_steps(logits, labels)[-1]
    at_once = evaluate_exit(logits, labels, DynamicConfidence(alpha=2.0), threshold=0.19)
    assert at_once.mean_steps == 1 and at_once.accuracy == fixed_steps(logits, labels)[0]
    assert at_once.histogram == [200] + [0] * 11


def test_exit_is_nested_in_the_threshold() -> None:
    logits, labels = walk()
    before = torch.zeros(200)
    for threshold in torch.linspace(0.1, 1.0, 30).tolist():
        steps = evaluate_exit(logits, labels, DynamicConfidence(alpha=3.0), threshold).steps
        assert bool((steps >= before).all())
        before = steps


def test_confidence_is_invariant() -> None:
    logits, _ = walk()
    scores = DynamicConfidence(alpha=5.0).scores(logits)
    torch.testing.assert_close(DynamicConfidence(alpha=5.0).scores(logits + torch.randn(12, 1, 1)), scores)
    torch.testing.assert_close(DynamicConfidence(alpha=15.0).scores(logits * 3), scores)
    assert DynamicConfidence().scores(logits.half()).dtype == torch.float32


def test_two_classes_are_a_gap() -> None:
    logits, labels = walk(classes=2)
    for threshold in (0.6, 0.9):
        steps = evaluate_exit(logits, labels, DynamicConfidence(threshold, 3.0)).steps
        bound = 3.0 * math.log(threshold / (1 - threshold))
        assert torch.equal(steps, evaluate_exit(logits, labels, Gap(bound)).steps)


@pytest.mark.parametrize(("bound", "error", "steps"), [(3.0, 0.145, 10.43), (4.6, 0.0687, 18.02), (6.0, 0.0351, 24.59)])
def test_it_is_walds_test_on_a_random_walk(bound: float, error: float, steps: float) -> None:
    gap = 0.25 + torch.randn(300, 20_000, generator=torch.Generator().manual_seed(1))
    logits = torch.stack((gap, torch.zeros_like(gap)), -1)
    threshold = 1 / (1 + math.exp(-bound / 4.0))
    found = evaluate_exit(logits, torch.zeros(20_000, dtype=torch.long), DynamicConfidence(threshold, 4.0))
    assert found.mean_steps == pytest.approx(steps, rel=0.03)
    assert 1 - found.accuracy == pytest.approx(error, rel=0.05)
    fixed = (torch.special.ndtri(torch.tensor(error)) / 0.25) ** 2  # steps of a fixed net with the same error
    assert 0.38 < 1 - found.mean_steps / float(fixed) < 0.56


@pytest.mark.parametrize(
    "criterion", [DynamicConfidence(alpha=3.0), Entropy(alpha=3.0), Gap(), Patience()], ids=lambda c: type(c).__name__
)
def test_the_sweep_equals_trying_every_threshold(criterion: Criterion) -> None:
    logits, labels = walk(8, 60)
    found = sweep(logits, labels, criterion)
    assert bool((found.thresholds[1:] > found.thresholds[:-1]).all())
    assert bool((found.mean_steps[1:] >= found.mean_steps[:-1]).all())
    for i in range(0, len(found.thresholds), 7):
        tried = evaluate_exit(logits, labels, criterion, float(found.thresholds[i]))
        assert tried.mean_steps == pytest.approx(float(found.mean_steps[i]), abs=1e-9)
        assert tried.accuracy == pytest.approx(float(found.accuracy[i]), abs=1e-9)
    everything = set(criterion.scores(logits)[:-1].flatten().tolist())
    for threshold in sorted(everything)[::31]:  # between the listed ones nothing changes
        i = int((found.thresholds <= threshold).sum()) - 1
        assert evaluate_exit(logits, labels, criterion, threshold).mean_steps == pytest.approx(
            float(found.mean_steps[i])
        )


def test_the_front_is_the_brute_force_one() -> None:
    logits, labels = walk(8, 60)
    found = sweep(logits, labels, DynamicConfidence(alpha=3.0))
    points = list(zip(found.mean_steps.tolist(), found.accuracy.tolist(), strict=True))
    best = {p for p in points if not any((q[0] <= p[0] and q[1] >= p[1] and q != p) for q in points)}
    assert {(s, a) for _, s, a in found.front()} == best


def test_calibration_takes_the_fewest_steps_without_loss() -> None:
    logits, labels = walk(16, 400, drift=0.5)
    criterion = DynamicConfidence(alpha=4.0)
    found = calibrate(logits, labels, criterion)
    assert criterion.threshold == found.threshold
    result = evaluate_exit(logits, labels, criterion)
    assert (result.accuracy, result.mean_steps) == pytest.approx((found.accuracy, found.mean_steps))
    assert found.accuracy >= found.full_accuracy == pytest.approx(fixed_steps(logits, labels)[-1])
    swept = sweep(logits, labels, criterion)
    quicker = swept.mean_steps < found.mean_steps - 1e-9
    assert quicker.any() and (swept.accuracy[quicker] < found.full_accuracy - 1e-9).all()
    loose = calibrate(logits, labels, DynamicConfidence(alpha=4.0), tolerance=0.05)
    assert loose.mean_steps < found.mean_steps and loose.accuracy >= found.full_accuracy - 0.05


def test_a_margin_keeps_off_thresholds_that_were_lucky() -> None:
    logits, labels = walk(16, 400, drift=0.5)
    full = logits.sum(0).argmax(-1) == labels
    plain = calibrate(logits, labels, DynamicConfidence(alpha=4.0), tolerance=0.03)
    criterion = DynamicConfidence(alpha=4.0)
    found = calibrate(logits, labels, criterion, tolerance=0.03, margin=1.0)
    assert plain.mean_steps < found.mean_steps < 16

    def holds(threshold: float) -> bool:
        one = evaluate_exit(logits, labels, criterion, threshold)
        gain = (one.predictions == labels).double() - full.double()  # paired, sample by sample
        return float(gain.mean() - gain.std(unbiased=False) / 20) >= -0.03 - 1e-12

    swept = sweep(logits, labels, criterion)
    slowest_first = swept.thresholds[swept.mean_steps.argsort(descending=True)]
    quicker = slowest_first[swept.mean_steps.sort(descending=True).values < found.mean_steps - 1e-9].tolist()
    assert holds(found.threshold) and len(quicker) > 1000
    assert not any(holds(threshold) for threshold in quicker[:100] + quicker[100::50])
    sure = calibrate(logits, labels, DynamicConfidence(alpha=4.0), margin=1e9)
    assert sure.accuracy == sure.full_accuracy  # all steps, or a threshold that changes no decision
    with pytest.raises(ArgumentError, match="standard errors"):
        calibrate(logits, labels, criterion, margin=-1.0)


def test_oracle_bounds_everything() -> None:
    logits, labels = walk()
    best = oracle(logits, labels)
    assert best.accuracy >= max(fixed_steps(logits, labels))
    assert best.mean_steps_optimistic <= best.mean_steps <= 12
    for _, steps, accuracy in sweep(logits, labels, DynamicConfidence(alpha=3.0)).front():
        assert accuracy <= best.accuracy_by_steps[-1]
        if accuracy >= best.accuracy - 1e-9:
            assert steps >= best.mean_steps_optimistic
    monotone = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]], [[1.0, 0.0]]])
    assert oracle(monotone, torch.tensor([0])).mean_steps == 2
    assert oracle(monotone[:1], torch.tensor([0])).mean_steps_optimistic == 1


def test_smallest_sufficient_fixed_steps() -> None:
    logits, labels = walk()
    curve = fixed_steps(logits, labels)
    wanted = smallest_sufficient(logits, labels, curve[-1] - 0.02)
    assert (
        wanted is not None
        and curve[wanted - 1] >= curve[-1] - 0.02
        and all(a < curve[-1] - 0.02 for a in curve[: wanted - 1])
    )
    assert smallest_sufficient(logits, labels, 1.1) is None


def test_controls() -> None:
    logits, labels = walk()
    assert set(evaluate_exit(logits, labels, FixedSteps(4)).steps.tolist()) == {4}
    found = evaluate_exit(logits, labels, RandomLike([0, 1, 0, 3], seed=1))
    assert found.histogram[0] == found.histogram[2] == 0 and 120 < found.histogram[3] < 180
    assert torch.equal(found.steps, evaluate_exit(logits, labels, RandomLike([0, 1, 0, 3], seed=1)).steps)
    patient = evaluate_exit(
        torch.tensor([[[1.0, 0]], [[0, 2.0]], [[0, 1.0]], [[0, 1.0]]]), torch.tensor([1]), Patience(2)
    )
    assert patient.steps.tolist() == [3]


def test_conformal_sets_cover() -> None:
    logits, labels = walk(6, 3000, drift=0.7)
    criterion = Conformal.fit(logits[:, :1500], labels[:1500], miss=0.1)
    found = evaluate_exit(logits[:, 1500:], labels[1500:], criterion)
    total = logits[:, 1500:].cumsum(0)[found.steps - 1, torch.arange(1500)]
    covered = criterion.sets(total, found.steps)[torch.arange(1500), labels[1500:]].double().mean()
    assert float(covered) >= 0.9 - 0.02
    assert bool(torch.isinf(Conformal.fit(logits[:, :5], labels[:5], miss=0.01).quantiles).all())


def test_top_k_cutoff_keeps_its_accuracy() -> None:
    logits, labels = walk(6, 2000, drift=0.7)
    criterion = Gap.cutoff(logits, labels, 0.9)
    first = criterion.scores(logits)[0] > 0
    right = (logits[0].argmax(-1) == labels)[first]
    assert len(right) == 0 or float(right.double().mean()) >= 0.9


def test_a_policy_learns_which_samples_are_easy() -> None:
    torch.manual_seed(0)
    easy = torch.rand(400) < 0.5
    x = torch.stack((easy.float(), torch.rand(400)), 1)
    labels = torch.zeros(400, dtype=torch.long)
    right = torch.where(easy, 1.0, -1.0)
    logits = torch.stack((torch.stack((right, -right), 1), torch.tensor([[5.0, 0.0]]).expand(400, 2)))
    policy = train_policy(torch.nn.Linear(2, 2), x, logits, labels, epochs=60, lr=0.05)
    found = evaluate_exit(logits, labels, policy, x=x)
    assert found.accuracy > 0.98 and found.mean_steps < 1.6
    with pytest.raises(ArgumentError, match="needs the samples"):
        evaluate_exit(logits, labels, policy)
    fitted_on = fit_policy(x, logits, labels, betas=(1.0, 4.0), epochs=40)
    assert fitted_on.found.accuracy > 0.98 and fitted_on.found.mean_steps < 1.6
    assert torch.equal(fitted_on.kept, torch.arange(2, 400, 3))  # measured on what its training has not seen
    again = fit_policy(x, logits, labels, betas=(1.0, 4.0), epochs=40)
    assert torch.equal(again.found.steps, fitted_on.found.steps) and again.beta == fitted_on.beta
    with pytest.raises(ArgumentError, match="six samples"):
        fit_policy(x[:5], logits[:, :5], labels[:5])


def test_a_policy_net_takes_images_and_vectors() -> None:
    assert PolicyNet((3, 9, 7), 6)(torch.rand(2, 3, 9, 7)).shape == (2, 6)
    assert PolicyNet((5,), 4)(torch.rand(3, 5)).shape == (3, 4)
    with pytest.raises(ShapeError, match="3, 9, 7"):
        PolicyNet((3, 9, 7), 6)(torch.rand(2, 3, 9, 8))
    with pytest.raises(ArgumentError, match="positive"):
        PolicyNet((3, 0, 7), 6)


@pytest.mark.parametrize("name", CALIBRATED)
def test_criteria_are_plain_data(name: str) -> None:
    logits, labels = walk(10, 300)
    criterion = fitted(name, logits, labels, alpha=3.0)
    if name not in ("cutoff", "conformal"):
        calibrate(logits, labels, criterion)
    settings = json.loads(json.dumps(criterion_settings(name, criterion), allow_nan=False))
    again = named_criterion(name, **settings)
    assert torch.equal(evaluate_exit(logits, labels, again).steps, evaluate_exit(logits, labels, criterion).steps)
    criterion.threshold = -math.inf
    if name not in ("cutoff", "conformal"):
        assert named_criterion(name, **criterion_settings(name, criterion)).threshold == -math.inf


def test_alpha_is_searched_with_the_threshold() -> None:
    logits, labels = walk(12, 500)
    criterion, found = calibrate_alpha(logits, labels)
    assert isinstance(criterion, DynamicConfidence) and criterion.threshold == found.threshold
    for alpha in ALPHAS:
        assert found.mean_steps <= calibrate(logits, labels, DynamicConfidence(alpha=alpha)).mean_steps
    total = logits.sum(0)
    loss = {a: float(torch.nn.functional.cross_entropy(total / a, labels)) for a in (0.5, 1.0, 2.0, 4.0, 8.0)}
    best = fit_alpha(logits, labels)
    assert float(torch.nn.functional.cross_entropy(total / best, labels)) <= min(loss.values())
    with pytest.raises(ArgumentError, match="alphas"):
        calibrate_alpha(logits, labels, [])
    with pytest.raises(ArgumentError, match="did you mean 'entropy'"):
        named_criterion("entropie")
    with pytest.raises(ArgumentError, match="takes no setting 'alhpa'; did you mean 'alpha'"):
        named_criterion("confidence", alhpa=1)
    with pytest.raises(ArgumentError, match="not calibrated"):
        fitted("random", logits, labels)


def test_ways_take_turns() -> None:
    seen: list[tuple[str, int]] = []
    ways = {name: (lambda x, name=name: seen.append((name, len(x)))) for name in ("a", "b")}
    spent = take_turns(ways, torch.rand(5, 2), batch=2, rounds=2)
    assert {name: len(seconds) for name, seconds in spent.items()} == {"a": 2, "b": 2}
    assert [name for name, _ in seen[2:]] == ["a", "b", "b", "a", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert [size for _, size in seen[2:8]] == [2, 2, 2, 2, 1, 1]
    with pytest.raises(ArgumentError, match="rounds"):
        take_turns(ways, torch.rand(1), rounds=0)


def test_mistakes_are_named() -> None:
    logits, labels = walk(4, 10)
    with pytest.raises(ArgumentError, match="NaN"):
        evaluate_exit(logits * math.nan, labels, DynamicConfidence())
    with pytest.raises(ShapeError, match="at least one step"):
        evaluate_exit(logits[:0], labels, DynamicConfidence())
    with pytest.raises(ArgumentError, match="too few for 5 classes"):
        calibrate(logits[:, :3], labels[:3], DynamicConfidence())
    with pytest.raises(ArgumentError, match="class 2 only"):
        calibrate(logits, torch.full((10,), 2), DynamicConfidence())
    with pytest.raises(ArgumentError, match="labels must be 0"):
        calibrate(logits, labels + 5, DynamicConfidence())
    with pytest.raises(ArgumentError, match="alpha"):
        DynamicConfidence(alpha=0)
    with pytest.raises(ArgumentError, match="histogram"):
        RandomLike([0, 0])
    assert isinstance(LearnedPolicy(torch.nn.Linear(1, 1)), Criterion)
