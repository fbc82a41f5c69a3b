"""Delay nets: published sizes, equations written out, checkpoints of the release, training schedule."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError, CheckpointError, ShapeError, StateError
from ranvier.layers import delay_layers, integer_delays
from ranvier.models import DelayMLP, OfficialMismatchError, create_model, load_official

PUBLISHED = {
    "delay_mlp_shd": 214_016,
    "delay_mlp_ssc_2l_1kc": 705_536, "delay_mlp_ssc_3l_1kc": 1_230_848,
    "delay_mlp_ssc_2l_2kc": 1_409_024, "delay_mlp_ssc_3l_2kc": 2_458_624,
    "delay_mlp_gsc_2l_1kc": 705_536, "delay_mlp_gsc_3l_1kc": 1_230_848,
    "delay_mlp_gsc_2l_2kc": 1_409_024, "delay_mlp_gsc_3l_2kc": 2_458_624,
    "delay_mlp_shd_dense": 2_663_424, "delay_mlp_ssc_2l_dense": 10_906_112, "delay_mlp_ssc_3l_dense": 19_033_600,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == PUBLISHED[name]


def test_by_the_class() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in model.parameters())
            for model in (DelayMLP.shd(), DelayMLP.ssc(), DelayMLP.gsc(2, 1), DelayMLP.ssc(layers=2, kernel_count=2))
        ]
    assert sizes == [214_016, 2_458_624, 705_536, 1_409_024]


def original(layers: int, inputs: int, width: int, classes: int, count: int, taps: int) -> dict[str, Tensor]:
    """A state dict as the release writes it, with spikes in every layer."""
    state: dict[str, Tensor] = {}
    widths = [inputs, *[width] * layers, classes]
    for i in range(layers + 1):
        fan_in, fan_out = widths[i], widths[i + 1]
        state[f"model.{4 * i}.weight"] = torch.randn(fan_out, fan_in, count) / math.sqrt(fan_in * count)
        state[f"model.{4 * i}.P"] = (torch.rand(1, fan_out, fan_in, count) - 0.5) * (taps - 1)
        state[f"model.{4 * i}.SIG"] = torch.full((1, fan_out, fan_in, count), 0.23)
        if i < layers:
            norm = f"model.{4 * i + 1}"
            state |= {
                f"{norm}.weight": torch.rand(width) + 0.5, f"{norm}.bias": torch.rand(width),
                f"{norm}.running_mean": torch.randn(width) * 0.1, f"{norm}.running_var": torch.rand(width) + 0.3,
                f"{norm}.num_batches_tracked": torch.tensor(5),
            }  # fmt: skip
    return state


def evaluate_original(state: dict[str, Tensor], x: Tensor, layers: int, taps: int, tau: float) -> Tensor:
    """Its evaluation, written out: rounded positions, triangles of half-width one, both paddings, membranes out."""
    for i in range(layers + 1):
        p = state[f"model.{4 * i}.P"][0].round().clamp(-(taps // 2), taps // 2) + taps // 2
        bump = (1 - (torch.arange(taps) - p.unsqueeze(-1)).abs()).relu()
        kernel = (state[f"model.{4 * i}.weight"].unsqueeze(-1) * bump / (bump.sum(-1, keepdim=True) + 1e-7)).sum(2)
        x = F.conv1d(F.pad(x.permute(1, 2, 0), (taps - 1, (taps - 1) // 2)), kernel).permute(2, 0, 1)
        if i < layers:
            norm = {key.split(".")[-1]: value for key, value in state.items() if key.startswith(f"model.{4 * i + 1}.")}
            x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
        v, out = torch.zeros_like(x[0]), []
        for x_t in x:
            v = v * (1 - 1 / tau) + x_t
            fired = v >= (1.0 if i < layers else 1e9)
            out.append(fired.float() if i < layers else v)
            v = torch.where(fired, 0.0, v)
        x = torch.stack(out)
    return x


@pytest.mark.parametrize(("layers", "count", "taps", "tau"), [(2, 1, 9, 1.005), (3, 2, 7, 1.5)])
def test_checkpoints_of_the_release(layers: int, count: int, taps: int, tau: float) -> None:
    state = original(layers, 10, 16, 4, count, taps)
    model = DelayMLP(10, num_classes=4, hidden=(16,) * layers, max_delay=taps - 1, kernel_count=count, tau=tau).eval()
    report = load_official(model, state)
    assert report.complete and f"{(taps - 1) // 2} zero steps" in report.notes[0]
    assert model.tail == (taps - 1) // 2 and all(float(s.sigma) == pytest.approx(0.23) for s in delay_layers(model))
    x = (torch.rand(20, 3, 10) < 0.3).float()
    wanted = evaluate_original(state, x, layers, taps, tau)
    with torch.no_grad():
        y = model(x)
    assert y.shape == (20 + (layers + 1) * ((taps - 1) // 2), 3, 4)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(StateError, match="set tail = 0"), ranvier.carry(model):
        model(x)
    model.tail = 0
    with torch.no_grad():
        assert model(x).shape[0] == 20


def test_checkpoints_that_do_not_fit() -> None:
    state = original(2, 10, 16, 4, 1, 9)
    with pytest.raises(CheckpointError, match="give create_model the max_delay"):
        load_official(DelayMLP(10, num_classes=4, hidden=(16, 16), max_delay=4), state)
    with pytest.raises(OfficialMismatchError, match="not used by the model"):
        load_official(DelayMLP(10, num_classes=4, hidden=(16,), max_delay=8), state)
    uneven = {**state, "model.0.SIG": torch.rand(1, 16, 10, 1)}
    with pytest.raises(CheckpointError, match="different widths"):
        load_official(DelayMLP(10, num_classes=4, hidden=(16, 16), max_delay=8), uneven)


def test_sequences_of_vectors_and_of_frames() -> None:
    model = DelayMLP(6, img_size=(2, 3), num_classes=3, hidden=(8,), max_delay=4).eval()
    x = torch.rand(7, 2, 36)
    with torch.no_grad():
        y = model(x)
        assert torch.equal(model(x.view(7, 2, 6, 2, 3)), y) and y.shape == (7, 2, 3)
        assert model(torch.rand(2, 6, 2, 3)).shape == (100, 2, 3)
    for wrong in (torch.rand(7, 2, 35), torch.rand(0, 2, 36), torch.rand(7, 36)):
        with pytest.raises(ShapeError):
            model(wrong)


def test_the_course_of_a_training() -> None:
    model = DelayMLP(6, num_classes=3, hidden=(8, 8), max_delay=24, rounded=0.25)
    first = delay_layers(model)[0]
    assert first.sigma == 12
    model.begin_epoch(0, 40)
    assert first.sigma == 12 and not first.frozen
    model.begin_epoch(5, 40)
    assert float(first.sigma) == pytest.approx(12 * (0.23 / 12) ** 0.5)
    model.begin_epoch(29, 40)
    assert float(first.sigma) == pytest.approx(0.23) and not first.frozen
    model.begin_epoch(30, 40)
    assert first.frozen and torch.equal(first.delay, first.delay.round())
    model.begin_epoch(3, 40)  # as a resumed run would
    assert not first.frozen
    constant = DelayMLP(6, num_classes=3, hidden=(8,), anneal=0.0)
    assert float(delay_layers(constant)[0].sigma) == pytest.approx(0.23)


def test_controls() -> None:
    fixed = DelayMLP(6, num_classes=3, hidden=(8,), learn_delay=False, interpolation="max")
    assert all(torch.equal(s.delay, s.delay.round()) and s.sigma == 0 for s in delay_layers(fixed))
    assert not any(s.delay.requires_grad for s in delay_layers(fixed))
    x = (torch.rand(9, 2, 6) < 0.4).float()
    fixed.eval()
    with torch.no_grad(), integer_delays(fixed, integer=False):
        soft = fixed(x)
    with torch.no_grad():
        torch.testing.assert_close(fixed(x), soft, rtol=1e-4, atol=1e-4)
    none = DelayMLP(6, num_classes=3, hidden=(8,), max_delay=0)
    assert sum(p.numel() for p in none.parameters() if p.requires_grad) == 6 * 8 + 8 * 3 + 16


def test_bad_arguments() -> None:
    for arguments in ({"hidden": ()}, {"anneal": 2}, {"rounded": -1}, {"synapses": "x"}, {"tail": "y"}, {"tau": 0.5}):
        with pytest.raises(ArgumentError):
            DelayMLP(**arguments)  # pyright: ignore[reportArgumentType]
