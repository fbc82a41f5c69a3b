"""Execution of early exit: on nets, on compiled ones and on converted ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.infer.test_early_exit import CRITERIA
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer import compile, convert_ann
from ranvier.infer.early_exit import (
    Criterion,
    DynamicConfidence,
    EarlyExitRunner,
    Entropy,
    FixedSteps,
    Gap,
    evaluate_exit,
    record,
)


def net(**options: Any) -> torch.nn.Module:
    torch.manual_seed(3)
    lively: dict[str, Any] = {"neuron": {"type": "if", "threshold": 0.3}}  # outputs that differ from sample to sample
    model = ranvier.create_model("spiking_mlp", hidden=(16, 12), T=6, **lively | options)
    model(torch.rand(30, 1, 8, 8))  # some batch statistics
    return model.eval()


@pytest.mark.parametrize("criterion", CRITERIA[:7], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    "how",
    [{}, {"chunk": 2}, {"chunk": 4, "compact_below": 1.0}, {"compact_below": 0.1}, {"cache_static": False},
     {"mode": "throughput", "slots": 4}, {"mode": "throughput", "slots": 64, "chunk": 2},
     {"mode": "throughput", "slots": 3, "chunk": 5, "compact_below": 1.0}],
    ids=str,
)  # fmt: skip
def test_real_exits_are_the_recorded_ones(criterion: Criterion, how: dict[str, Any]) -> None:
    model = net()
    x = torch.rand(23, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits, _ = record(model, [(x, torch.zeros(23, dtype=torch.long))])
    before = criterion.threshold
    if isinstance(criterion, DynamicConfidence | Entropy | Gap) and not (
        isinstance(criterion, Gap) and criterion.per_step is not None
    ):
        criterion.threshold = float(criterion.scores(logits)[2].median())
    expected = evaluate_exit(logits, None, criterion)
    found = EarlyExitRunner(model, criterion, **how)(x)
    criterion.threshold = before
    if isinstance(criterion, DynamicConfidence | Entropy):
        assert len(expected.steps.unique()) > 2
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.predictions, expected.predictions)
    torch.testing.assert_close(
        found.logits, logits.cumsum(0)[expected.steps - 1, torch.arange(23)], rtol=1e-5, atol=1e-5
    )
    assert bool((found.steps_computed >= found.steps).all()) and found.row_steps >= int(found.steps_computed.sum())
    assert "forward" not in vars(model.linears[0])  # pyright: ignore[reportIndexIssue, reportArgumentType]


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("static", [True, False])
def test_a_compiled_net_exits_where_the_net_does(static: bool, chunk: int) -> None:
    model = net().double()
    x = torch.rand(*([9] if static else [7, 9]), 1, 8, 8, dtype=torch.float64)
    engine = compile(model, x[:2] if static else x)
    with torch.no_grad():
        middle = DynamicConfidence(alpha=8.0).scores(model(x).float())[2].median()
    criterion = DynamicConfidence(float(middle), alpha=8.0)
    plain = EarlyExitRunner(model, criterion, chunk=chunk)(x)
    found = EarlyExitRunner(model, criterion, chunk=chunk, engine=engine)(x)
    assert torch.equal(found.steps, plain.steps) and len(plain.steps.unique()) > 1
    assert torch.equal(found.predictions, plain.predictions)
    assert torch.equal(
        found.steps_computed, torch.minimum(-(-found.steps // chunk) * chunk, torch.tensor(6 + (not static)))
    )
    assert found.row_steps == int(found.steps_computed.sum())  # no row goes along with others
    torch.testing.assert_close(found.logits, plain.logits, rtol=1e-5, atol=1e-5)


def test_an_engine_must_be_that_of_the_model() -> None:
    model = net()
    engine = compile(model, torch.rand(2, 1, 8, 8))
    with pytest.raises(ArgumentError, match="one sample at a time"):
        EarlyExitRunner(model, DynamicConfidence(), mode="throughput", engine=engine)
    other = ranvier.create_model("spiking_mlp", img_size=12, hidden=(8,), T=6)
    with pytest.raises(ArgumentError, match="another net's"):
        EarlyExitRunner(other, DynamicConfidence(), engine=engine)


def test_order_and_batch_do_not_matter() -> None:
    model, x = net(), torch.rand(20, 1, 8, 8)
    runner = EarlyExitRunner(model, DynamicConfidence(0.12, alpha=8.0))
    whole, order = runner(x), torch.randperm(20)
    assert torch.equal(runner(x[order]).steps, whole.steps[order])
    alone = [runner(x[i : i + 1]) for i in range(20)]
    assert torch.equal(torch.cat([a.steps for a in alone]), whole.steps)
    assert torch.equal(torch.cat([a.predictions for a in alone]), whole.predictions)
    assert all(a.row_steps == int(a.steps) for a in alone)


def test_sequences_end_early_as_well() -> None:
    model, x = net(), torch.rand(9, 7, 1, 8, 8)
    with torch.no_grad():
        logits = model(x)
    criterion = DynamicConfidence(float(DynamicConfidence(alpha=8.0).scores(logits)[3].median()), alpha=8.0)
    expected = evaluate_exit(logits, None, criterion)
    for how in ({}, {"chunk": 4}, {"mode": "throughput", "slots": 3}):
        assert torch.equal(EarlyExitRunner(model, criterion, **how)(x).steps, expected.steps)  # pyright: ignore


def test_the_first_layer_of_a_static_image_runs_once() -> None:
    model, calls = net(), []
    model.linears[0].register_forward_hook(lambda m, i, o: calls.append("wrapped"))  # pyright: ignore
    weight = model.linears[0].weight  # pyright: ignore
    plain = torch.nn.functional.linear
    counted: list[int] = []

    def counting(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        counted.append(len(x)) if w is weight else None
        return plain(x, w, b)

    torch.nn.functional.linear = counting
    try:
        EarlyExitRunner(model, FixedSteps(6))(torch.rand(4, 1, 8, 8))
    finally:
        torch.nn.functional.linear = plain
    assert len(counted) == 1 and len(calls) == 6


@pytest.mark.parametrize("channels", [1, 3])
def test_converted_nets_one_at_a_time(channels: int) -> None:
    torch.manual_seed(0)
    model = ranvier.create_model(
        "vgg16_qcfs", layers=[8, "A", 8], hidden=12, img_size=8, in_channels=channels, start=0.5
    ).eval()
    snn, x = convert_ann(model, steps=6).net, torch.rand(9, channels, 8, 8)
    logits, _ = record(snn, [(x, torch.zeros(9, dtype=torch.long))])
    criterion = DynamicConfidence(float(DynamicConfidence(alpha=1.0).scores(logits)[2].median()), 1.0)
    expected = evaluate_exit(logits, None, criterion).steps
    for how in ({}, {"chunk": 2}, {"chunk": 4}, {"mode": "throughput", "slots": 1}):
        runner = EarlyExitRunner(snn, criterion, **how)  # pyright: ignore
        assert torch.equal(torch.cat([runner(part).steps for part in x.split(1)]), expected)
        assert torch.equal(runner(x).steps, expected)


def test_the_model_is_left_as_it_was() -> None:
    model = net().train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    EarlyExitRunner(model, FixedSteps(2), steps=9)(torch.rand(4, 1, 8, 8))
    assert model.training and model.T == 6
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_mistakes_are_named() -> None:
    with pytest.raises(ArgumentError, match="calibration set is empty"):
        record(net(), [])
    with pytest.raises(ArgumentError, match="steps"):
        EarlyExitRunner(net(), DynamicConfidence(), steps=0)
    with pytest.raises(ShapeError, match="at least one sample"):
        EarlyExitRunner(net(), DynamicConfidence())(torch.rand(0, 1, 8, 8))
    with pytest.raises(ArgumentError, match="looks at all steps"):
        EarlyExitRunner(net(neuron={"type": "psn", "steps": 6}), DynamicConfidence())
