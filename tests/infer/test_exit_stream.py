"""Decisions as frames and events arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.data import Events, load, to_frames
from ranvier.data.sets.nmnist import RecordingSamples
from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.infer.early_exit import (
    Criterion,
    DynamicConfidence,
    EventExit,
    FixedSteps,
    FrameExit,
    Patience,
    evaluate_exit,
)


def net(size: int = 8, **options: Any) -> nn.Module:
    torch.manual_seed(4)
    model = ranvier.create_model("spiking_mlp", hidden=(16,), in_channels=2, img_size=size, **options)
    for _ in range(3):
        model((torch.rand(6, 20, 2, size, size) < 0.2).float())
    return model.eval()


def made_up(count: int = 3000, seed: int = 0, size: int = 8) -> Events:
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(5000, 105_000, count))
    x, y = (draw.integers(0, size, count).astype(np.uint16) for _ in range(2))
    return Events(t, x, y, draw.integers(0, 2, count).astype(np.uint8))


def middling(logits: Tensor) -> DynamicConfidence:
    """A threshold that is passed half-way."""
    return DynamicConfidence(float(DynamicConfidence(alpha=8.0).scores(logits)[len(logits) // 2].median()) - 1e-6, 8.0)


@pytest.mark.parametrize("kind", ["confidence", "patience", "fixed"])
def test_frames_are_decided_as_recorded_ones(kind: str) -> None:
    model, x = net(), (torch.rand(9, 6, 2, 8, 8) < 0.2).float()
    with torch.no_grad():
        logits = model(x)
    criterion: Criterion = {"confidence": middling(logits), "patience": Patience(3), "fixed": FixedSteps(4)}[kind]
    expected = evaluate_exit(logits, None, criterion)
    looking = FrameExit(model, criterion)
    for sample in range(6):
        looking.reset()
        found = None
        for t in range(9):
            found = found or looking.push(x[t, sample])
        found = looking.finish()
        assert (found.steps, found.prediction) == (int(expected.steps[sample]), int(expected.predictions[sample]))
        assert looking.push(x[0, sample]) is found  # nothing changes any more
        torch.testing.assert_close(found.logits, logits[: found.steps, sample].sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("packet", [1, 7, 500, 5000])
def test_events_in_packets_of_any_size(packet: int) -> None:
    model, events = net(), made_up(600 if packet == 1 else 3000)
    window, start = 10_000, int(events.t[0])
    steps = -(-(int(events.t[-1]) + 1 - start) // window)
    frames = to_frames(events, steps, (8, 8), window=(start, start + steps * window))
    with torch.no_grad():
        logits = model(frames.unsqueeze(1))
    criterion = middling(logits)
    expected = evaluate_exit(logits, None, criterion)
    looking = EventExit(model, criterion, window, (8, 8))
    seen = 0
    for begin in range(0, len(events), packet):
        seen = min(begin + packet, len(events))
        if looking.push(events[begin:seen]) is not None:
            break
    found = looking.finish()
    assert (found.steps, found.prediction) == (int(expected.steps[0]), int(expected.predictions[0]))
    assert found.time_us == start + found.steps * window
    assert found.time_us is not None
    if found.sure and packet <= 7:  # nothing behind the window was needed but the event that ended it
        assert seen - packet <= int(np.searchsorted(events.t, found.time_us)) < seen


def test_the_clock_ends_windows_without_events() -> None:
    model, events = net(), made_up(50)
    looking = EventExit(model, FixedSteps(4), 10_000, (8, 8))
    start = int(events.t[0])
    assert looking.push(events[:20]) is None or True
    found = looking.advance(start + 40_000)
    assert found is not None and found.steps == 4 and found.time_us == start + 40_000 and found.sure
    looking.reset()
    assert looking.advance(10**9) is None  # a stream begins with its first event
    limited = EventExit(model, DynamicConfidence(1.0), 10_000, (8, 8), steps=3)
    limited.push(events)
    assert limited.finish().steps == 3 and not limited.finish().sure


def test_mistakes_are_named() -> None:
    model, events = net(), made_up(50)
    looking = EventExit(model, FixedSteps(90), 10_000, (8, 8))
    looking.push(events)
    with pytest.raises(DataError, match="order of time"):
        looking.push(events)
    with pytest.raises(DataError, match="before its first frame"):
        EventExit(model, FixedSteps(2), 10_000, (8, 8)).finish()
    with pytest.raises(ArgumentError, match="window_us"):
        EventExit(model, FixedSteps(2), 0, (8, 8))
    with pytest.raises(ArgumentError, match="steps"):
        FrameExit(model, FixedSteps(2), steps=0)
    with pytest.raises(ShapeError, match="frame must be"):
        FrameExit(model, FixedSteps(2)).push(torch.zeros(1, 8, 8))
    with pytest.raises(ArgumentError, match="looks at all steps"):
        FrameExit(net(neuron={"type": "psn", "steps": 6}), FixedSteps(2))


def test_recordings_of_a_camera(ranvier_data: Path) -> None:
    samples = load("nmnist", ranvier_data, in_memory=False, T=6).test
    assert isinstance(samples, RecordingSamples)
    model, window = net(34), 50_000
    for index in (0, 30, 60, 90):
        events = samples.events(index)
        start = int(events.t[0])
        steps = -(-(int(events.t[-1]) + 1 - start) // window)
        frames = to_frames(events, steps, (34, 34), window=(start, start + steps * window))
        with torch.no_grad():
            logits = model(frames.unsqueeze(1))
        criterion = middling(logits)
        looking = EventExit(model, criterion, window, (34, 34))
        used = 0
        for begin in range(0, len(events), 200):
            used = begin + 200
            if looking.push(events[begin : begin + 200]) is not None:
                break
        found, expected = looking.finish(), evaluate_exit(logits, None, criterion)
        assert (found.steps, found.prediction) == (int(expected.steps[0]), int(expected.predictions[0]))
        if found.steps < steps:
            assert used < len(events) and found.sure  # decided before the recording has ended
