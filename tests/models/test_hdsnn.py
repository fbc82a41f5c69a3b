from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ranvier
from ranvier.data.samples import Samples
from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.space_time import ConeMask, SpaceTimeConv
from ranvier.models import create_model
from ranvier.models.hdsnn import HDSNN, largest_share
from ranvier.models.motion_decision import (
    decide,
    evaluate_motion,
    fit_half_saturation,
    pruning_curve,
    shortening_curve,
)

SMALL: dict[str, Any] = {"img_size": 8, "num_classes": 4, "T": 6, "kernel": (3, 5, 5), "centre": 1.0, "spread": 0.3}


def stream(steps: int = 7, batch: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x = torch.rand(steps, batch, 8, 8)
    return torch.stack([x < 0.15, x > 0.85], 2).to(dtype)


# counts


def test_published_counts() -> None:
    with torch.device("meta"):
        model = create_model("hdsnn_36", mask=None)
    assert model.layer.weight.numel() == 436_968
    assert sum(p.numel() for p in model.parameters()) == 437_004
    assert model.layer.weight[0].numel() == 12_138
    small = create_model("hdsnn_16_small")
    assert small.layer.weight.numel() == 23_328
    assert len(small.to_synapses(0.05)) == round(0.05 * 23_328)


# the mask


def test_mask_values() -> None:
    mask = ConeMask()(21, 17, 17)
    assert mask.shape == (21, 17, 17) and mask.min() >= 0 and mask.max() <= 1
    assert mask[20, 8, 8] == 1
    assert float(mask[20, 8, 9]) == pytest.approx(0.085, abs=1.5e-3)
    assert float(mask[0, 0, 4]) == pytest.approx(0.091, abs=1e-3)
    assert float(mask[0, 4, 4]) == pytest.approx(0.720, abs=1e-3)
    assert torch.equal(mask, mask.flip(1)) and torch.equal(mask, mask.transpose(1, 2))
    assert ConeMask()(1, 9, 9)[0, 4, 4] == 1  # one delay only: that is 0


def test_training_keeps_the_weights_in_the_cone() -> None:
    model = HDSNN(**SMALL).train()
    with torch.no_grad():
        model.layer.weight.uniform_(-2, 2)
        model.layer.weight[:, :, 2, 2, 2] = 3
    model(stream(dtype=torch.float32))
    weight = model.layer.weight.detach()
    assert model.mask is not None
    assert (weight.abs() <= model.mask * 3 + 1e-6).all() and weight.abs().max() <= 3
    once = weight.clone()
    assert torch.equal(model.project_().layer.weight, once)  # nothing more to clip
    free = HDSNN(**SMALL, mask=None)
    with torch.no_grad():
        free.layer.weight.fill_(2.0)
    assert torch.equal(free.project_().layer.weight, torch.full_like(free.layer.weight, 2.0))


# the polarity frames


def frames_max(model: HDSNN, x: torch.Tensor) -> torch.Tensor:
    plain = SpaceTimeConv(2, 4, (3, 5, 5)).double()
    plain.load_state_dict(model.layer.state_dict())
    return torch.maximum(plain(x), plain(x.flip(2)))


def test_the_larger_of_both_polarity_frames_is_a_complex_cell() -> None:
    model = HDSNN(**SMALL).double().eval()
    x = stream()
    torch.testing.assert_close(model.logits(x), frames_max(model, x), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.logits(x.flip(2)), model.logits(x), rtol=0, atol=1e-12)
    single, y = HDSNN(**SMALL).eval(), stream(dtype=torch.float32)
    torch.testing.assert_close(single.logits(y.flip(2)), single.logits(y))


def test_signed_polarity_is_negated_by_the_exchange() -> None:
    model = HDSNN(**SMALL, polarity="signed").double().eval()
    bias = model.layer.bias
    assert bias is not None and model.layer.weight.shape == (4, 1, 3, 5, 5)
    x, b = stream(), bias.detach()[:, None, None]
    torch.testing.assert_close(model.logits(x.flip(2)) - b, b - model.logits(x))


# event-driven


@pytest.mark.parametrize("polarity", ["max", "signed", None])
@pytest.mark.parametrize("delays", ["free", "fixed", "shared"])
def test_events_give_what_the_convolution_gives(polarity: Any, delays: Any) -> None:
    model = HDSNN(**SMALL, polarity=polarity, delays=delays).double().eval()
    x = stream()
    with torch.no_grad():
        torch.testing.assert_close(model.logits_by_events(x), model.logits(x), rtol=0, atol=1e-12)
    if delays == "free":
        model.layer.prune_(0.1)
        with torch.no_grad():
            torch.testing.assert_close(model.logits_by_events(x), model.logits(x), rtol=0, atol=1e-12)


def test_operations_shrink_with_events_and_synapses() -> None:
    model = HDSNN(**SMALL).eval()
    x = stream(30, 1, torch.float32)
    whole, pruned = model.operations(x), model.operations(x, 0.1)
    assert whole["events"] == x.sum() and whole["dense"] == 2 * 30 * 64 * model.layer.weight.numel()
    # one in 0.15 voxels of each polarity has an event; borders and the end of the movie take the rest
    assert 0.5 * 0.15 < whole["synaptic"] / whole["dense"] < 0.16
    assert pruned["synaptic"] / whole["synaptic"] == pytest.approx(0.1, rel=0.35)


# controls of the delays


def test_delays_that_do_not_learn() -> None:
    fixed = SpaceTimeConv(2, 3, (5, 3, 3), delays="fixed")
    kernel = fixed.dense()
    assert fixed.weight.numel() == 3 * 2 * 9 and ((kernel != 0).sum(2) == 1).all()
    assert fixed.delay is not None
    place = fixed.delay[1, 0, 0, 0, 2]
    assert kernel[1, 0, 4 - place, 0, 2] == fixed.weight[1, 0, 0, 0, 2]
    assert (fixed.delay[:, :, 0, 1, 1] == 0).all() and "delay" in fixed.state_dict()
    shared = SpaceTimeConv(2, 3, (5, 3, 3), delays="shared").double()
    x = stream(12)[..., :8]
    # only the number of events in the last five steps counts
    counts = torch.stack([x[max(0, t - 4) : t + 1].sum(0) for t in range(12)])
    once = SpaceTimeConv(2, 3, (1, 3, 3)).double()
    once.load_state_dict(shared.state_dict())
    torch.testing.assert_close(shared(x), once(counts), rtol=0, atol=1e-12)
    with pytest.raises(ArgumentError, match="no weight for each delay"):
        fixed.shorten_(2)


# pruning


def test_pruning_and_shortening() -> None:
    model = HDSNN(**SMALL)
    weight = model.layer.weight.detach().clone()
    n = weight.numel()
    kept = model.layer.prune_(0.2).weight.detach()
    assert int(kept.count_nonzero()) == round(0.2 * n)
    assert kept[kept != 0].abs().min() >= weight[kept == 0].abs().max()
    model = HDSNN(**SMALL)
    model.layer.prune_(0.1, scope="per_neuron")
    each = model.layer.weight[0].numel()
    assert [int(w.count_nonzero()) for w in model.layer.weight] == [round(0.1 * each)] * 4
    model = HDSNN(**SMALL, mask=None)
    short = model.layer.shorten_(1).weight.detach()
    assert not short[:, :, :2].any() and short[:, :, 2].all()
    for bad in (-0.1, 1.5, True):
        with pytest.raises(ArgumentError, match="fraction must lie in"):
            model.layer.prune_(bad)
    with pytest.raises(ArgumentError, match="delays must be"):
        model.layer.shorten_(4)


def test_fit_of_the_half_saturation() -> None:
    q = torch.logspace(-4, 0, 32).tolist()
    points = [(x, 1 / 36 + (0.97 - 1 / 36) / (1 + math.exp(-(math.log10(x) + 2.8) / 0.15))) for x in q]
    fit = fit_half_saturation(points, 1 / 36)
    assert fit.log_half == pytest.approx(-2.8, abs=2e-3) and fit.slope == pytest.approx(0.15, abs=3e-3)
    assert fit.gain == pytest.approx(10**2.8, rel=0.01) and fit.fraction == pytest.approx(1 / fit.gain)
    with pytest.raises(ArgumentError, match="three or more"):
        fit_half_saturation(points[:2], 0.1)


# decisions


def test_quantile_of_any_number() -> None:
    values = torch.randperm(1000).float()
    for share in (0.001, 0.15, 0.5, 1.0):
        assert int((values >= largest_share(values, share)).sum()) == round(1000 * share)


def test_a_movie_is_decided_by_its_loudest_voxels() -> None:
    logits = torch.randn(5, 2, 3, 4, 4)
    evidence = decide(logits, 0.1)
    for b in range(2):
        flat = logits[:, b].permute(0, 2, 3, 1).reshape(-1, 3)
        top = flat.amax(1).argsort(descending=True)[:8]
        torch.testing.assert_close(evidence[b], flat[top].mean(0))
    torch.testing.assert_close(decide(logits, 1.0), logits.mean((0, 3, 4)))
    with pytest.raises(ShapeError, match="logits must be"):
        decide(logits[0])


class Squares(Samples):
    """Movies of one bright pixel that moves right (class 0) or left (class 1), a pixel a step."""

    def __init__(self, n: int = 6) -> None:
        self.labels, self.time_first = torch.arange(n) % 2, True

    def batch(self, indices: Any) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.as_tensor(list(indices))
        x = torch.zeros(8, len(index), 2, 9, 9)
        for t in range(8):
            for b, i in enumerate(index.tolist()):
                x[t, b, 1, 1 + i, t if i % 2 == 0 else 8 - t] = 1
        return x, self.labels[index]


def detector() -> HDSNN:
    """Its two neurons look for the trace of the pixel: that is the motif of its motion."""
    model = HDSNN(img_size=9, num_classes=2, T=8, kernel=(3, 3, 3), mask=None, spread=0.0, centre=1.0)
    with torch.no_grad():
        for c in range(2):
            model.layer.weight[c, 1, 1, 1, 0 if c == 0 else 2] = 1.0  # one step ago it was to the left (to the right)
        model.layer.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
    return model.train()


def test_evaluation_of_movies_and_steps() -> None:
    model = detector()
    model.readout_fraction = 1 / 81
    found = evaluate_motion(model, Squares(), share=0.02, skip=1, batch_size=4)
    assert found.movie == found.step == 1.0 and found.n == 6 and len(found.by_step) == 7
    assert model.training  # as it was
    none = evaluate_motion(model.train(), Squares(), skip=0)
    assert none.by_step[0] == 0.5  # nothing has moved yet
    for kept, accuracy in shortening_curve(model, Squares(), [3, 2, 1], share=0.01):
        assert accuracy == (1.0 if kept >= 2 else 0.5)
    curve = dict(pruning_curve(model, Squares(), [1.0, 6 / model.layer.weight.numel(), 0.0], share=0.01))
    assert list(curve.values()) == [1.0, 1.0, 0.5]
    with pytest.raises(ArgumentError, match="have none left"):
        evaluate_motion(model, Squares(), skip=8)


def test_spikes_are_winners_above_a_threshold() -> None:
    model = HDSNN(**SMALL).eval()
    x = stream(20, 1, torch.float32)
    spikes = model.spikes(x, rate=0.05)
    assert set(spikes.unique().tolist()) == {0.0, 1.0} and (spikes.sum(2) <= 1).all()
    assert int(spikes.sum()) == pytest.approx(0.05 * 20 * 64, abs=1.5)
    logits = model.logits(x)
    assert not (spikes * (logits - logits.amax(2, keepdim=True))).any()
    assert not model.spikes(x, threshold=1e9).any()


def test_steps_of_evidence_stream() -> None:
    model = HDSNN(**SMALL).double().eval()
    x = stream(9)
    with torch.no_grad():
        full = model(x)
        assert full.shape == (9, 2, 4)
        with ranvier.carry(model):
            parts = [model(x[a:b]) for a, b in ((0, 1), (1, 2), (2, 7), (7, 9))]
    torch.testing.assert_close(torch.cat(parts), full, rtol=0, atol=1e-12)


def test_voxels_are_the_steps_of_training() -> None:
    from ranvier.train.loss import cross_entropy, hits

    model = HDSNN(**SMALL, readout="voxels").train()
    x, y = stream(5, 2, torch.float32), torch.randint(0, 4, (2, 5))
    out = model(x)
    assert out.shape == (5 * 64, 2, 4)
    logits = model.logits(x)
    every = y.T[:, :, None, None].expand(5, 2, 8, 8)
    wanted = F.cross_entropy(logits.permute(1, 2, 0, 3, 4), every.transpose(0, 1))
    torch.testing.assert_close(cross_entropy(out, y), wanted)
    right = (logits.argmax(2) == every).float().mean((0, 2, 3)).sum()
    torch.testing.assert_close(hits(out, y), right)
    with pytest.raises(ShapeError, match="multiple of F"):
        cross_entropy(out, y[:, :3])


@pytest.mark.parametrize("polarity", ["max", "signed", None])
@pytest.mark.parametrize("delays", ["free", "fixed", "shared"])
def test_some_places_are_computed_alone(polarity: Any, delays: Any) -> None:
    layer = SpaceTimeConv(2, 3, (4, 3, 5), polarity, delays=delays).double()
    x, place = stream(), torch.randint(0, 64, (7, 9))
    whole = layer(x).flatten(3)  # [T, B, C, places]
    expected = torch.stack([whole[t][..., place[t]] for t in range(7)]).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer.at(x, place), expected, rtol=0, atol=1e-12)
    model = HDSNN(**SMALL, readout="voxels", sampled=0.25).train()
    out = model(stream(5, 2, torch.float32))
    assert out.shape == (5 * 16, 2, 4)
    out.sum().backward()
    assert model.layer.weight.grad is not None and model.layer.weight.grad.count_nonzero() > 100
    with pytest.raises(ShapeError, match=r"place must be \[7, M\]"):
        layer.at(x, place[:3])


def test_logistic_regression_finds_the_log_odds() -> None:
    """Section 2: the weights that maximise the likelihood are differences of logits, the bias their survival."""
    n, taps, channels, high, low = 40_000, 8, 6, 0.6, 0.05
    generator = torch.Generator().manual_seed(0)
    label = torch.rand(n, generator=generator) < 0.5
    rate = torch.full((channels, taps), low)
    motif = rate.clone()
    motif[torch.arange(channels), torch.randint(0, taps, (channels,), generator=generator)] = high
    draw = torch.rand(n, channels, taps, generator=generator)
    x = (draw < torch.where(label[:, None, None], motif, rate)).float().flatten(1)
    weight, bias = torch.zeros(channels * taps, requires_grad=True), torch.zeros(1, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weight + bias, label.float())
        value.backward()
        return value

    solver.step(loss)  # pyright: ignore[reportArgumentType]
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    there = (motif == high).flatten()
    wanted = torch.where(there, logit(high) - logit(low), 0.0)
    p = torch.sigmoid(x @ weight + bias).detach()
    whole = torch.cat([x, torch.ones(n, 1)], 1)
    error = torch.linalg.inv(whole.T @ (whole * (p * (1 - p))[:, None])).diagonal().sqrt()
    assert ((weight.detach() - wanted).abs() < 4 * error[:-1]).all()
    survival = channels * math.log((1 - high) / (1 - low))
    assert abs(bias.item() - survival) < 4 * float(error[-1])
    bayes = ((x @ wanted + survival > 0) == label).float().mean()
    assert abs(float(((p > 0.5) == label).float().mean() - bayes)) < 0.002


def test_start_of_the_weights() -> None:
    model = HDSNN(**{**SMALL, "spread": 0.0}, link="sigmoid")
    weight = model.layer.weight.detach()
    assert (weight[:, 1, 2, 2, 2] == 1).all() and (weight[:, 0, 2, 2, 2] == -1).all()
    assert int(weight.count_nonzero()) == 8
    assert model.layer.bias is not None
    torch.testing.assert_close(model.layer.bias.detach(), torch.full((4,), -math.log(3)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kernel": (3, 4, 5)}, "odd sides"), ({"kernel": (3, 5)}, r"\(delays, rows, columns\)|tuple"),
        ({"polarity": "both"}, "polarity must be"), ({"link": "probit"}, "link must be"),
        ({"readout": "x"}, "readout must be"), ({"readout_fraction": 0}, "readout_fraction"),
        ({"in_channels": 1}, "needs 2 input channels"), ({"delays": "learned"}, "delays must be"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        HDSNN(**{**SMALL, **arguments})
