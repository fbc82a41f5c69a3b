from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier import encode
from ranvier.encode import ENCODERS, TTFS, Direct, Encoder, Phase, Rate
from ranvier.errors import ArgumentError, ShapeError, UnknownNameError

SPARSE = ["rate", "ttfs", "phase"]
unit = st.floats(0, 1, width=32)
values = st.lists(unit, min_size=1, max_size=20)


def as_batch(x: list[float]) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float32).unsqueeze(1)


def test_registry_holds_the_encoders() -> None:
    assert sorted(ENCODERS) == ["deterministic_rate", "direct", "phase", "rate", "ttfs"]
    assert {name: ENCODERS[name].name for name in ENCODERS} == {name: name for name in ENCODERS}


@pytest.mark.parametrize("name", ["direct", *SPARSE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, 4, 5).to(dtype)
    out = encode.build(name)(x, 7)
    assert out.shape == (7, 2, 3, 4, 5)
    assert out.dtype == dtype


# Direct


def test_direct_without_statistics_is_a_view_of_the_image() -> None:
    x = torch.rand(2, 3, 4, 4)
    out = Direct()(x, 5)
    assert out.data_ptr() == x.data_ptr() and out.stride(0) == 0
    assert all(torch.equal(out[t], x) for t in range(5))


def test_direct_normalises_each_channel_and_still_does_not_copy_over_time() -> None:
    x = torch.rand(2, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    out = Direct(mean=mean, std=std)(x, 3)
    assert out.stride(0) == 0
    for c in range(3):
        torch.testing.assert_close(out[1, :, c], (x[:, c] - mean[c]) / std[c])


def test_direct_statistics_are_not_in_the_state_dict_but_move_with_the_module() -> None:
    encoder = Direct(mean=0.5, std=0.5).double()
    assert not encoder.state_dict()
    assert encoder.mean is not None and encoder.mean.dtype == torch.float64


def test_direct_passes_gradients() -> None:
    x = torch.rand(1, 2, 2, 2, requires_grad=True)
    Direct(mean=[0.0, 0.0], std=[2.0, 4.0])(x, 3).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[0, :, 0, 0], torch.tensor([1.5, 0.75]))


def test_direct_accepts_values_outside_the_unit_interval() -> None:
    assert torch.equal(Direct()(torch.tensor([[-2.0]]), 2), torch.full((2, 1, 1), -2.0))


def test_direct_names_a_wrong_channel_count() -> None:
    with pytest.raises(ShapeError, match=r"3 channels.*\(2, 1, 4, 4\)"):
        Direct(mean=[0.0] * 3, std=[1.0] * 3)(torch.rand(2, 1, 4, 4), 2)


@pytest.mark.parametrize(
    "arguments", [{"std": 0.0}, {"std": [1.0, -1.0]}, {"mean": math.nan}, {"mean": []}, {"mean": "grey"}]
)
def test_direct_rejects_bad_statistics(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        Direct(**arguments)


# Rate


def test_rate_mean_is_within_three_sigma_of_the_image() -> None:
    x = torch.tensor([[0.05, 0.25, 0.5, 0.8, 0.95]])
    T = 20_000
    mean = Rate(seed=3)(x, T).mean(0)
    assert ((mean - x).abs() < 3 * (x * (1 - x) / T).sqrt()).all()


@given(values, st.integers(1, 12), st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_rate_is_binary_and_exact_at_the_ends(x: list[float], T: int, seed: int) -> None:
    out = Rate(seed=seed)(as_batch([*x, 0.0, 1.0]), T)
    assert set(out.unique().tolist()) <= {0.0, 1.0}
    assert out[:, -2].sum() == 0 and out[:, -1].sum() == T


def test_rate_steps_are_independent() -> None:
    out = Rate(seed=0)(torch.full((1, 20_000), 0.5), 2)
    assert abs((out[0] * out[1]).mean().item() - 0.25) < 3 * math.sqrt(0.25 * 0.75 / 20_000)


def test_rate_seed_repeats_and_the_global_generator_does_not() -> None:
    x = torch.rand(2, 50)
    seeded = Rate(seed=5)
    assert torch.equal(seeded(x, 4), seeded(x, 4))
    assert not torch.equal(Rate(seed=6)(x, 4), seeded(x, 4))
    torch.manual_seed(0)
    first = Rate()(x, 4)
    assert not torch.equal(first, Rate()(x, 4))
    torch.manual_seed(0)
    assert torch.equal(first, Rate()(x, 4))


def test_rate_takes_a_generator_and_still_checks_its_input() -> None:
    x = torch.rand(2, 50)
    draws = [Rate(seed=1)(x, 4, generator=torch.Generator().manual_seed(9)) for _ in range(2)]
    assert torch.equal(*draws)
    with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
        Rate()(x + 1, 4, generator=torch.Generator())


# Time to first spike


@given(values, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_ttfs_fires_at_most_once_and_only_zero_is_silent(x: list[float], T: int) -> None:
    batch = as_batch(x)
    spikes = TTFS(amplitude="one")(batch, T)
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(spikes.sum(0), (batch > 0).float())


@given(values, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_ttfs_time_does_not_increase_with_brightness(x: list[float], T: int) -> None:
    spikes = TTFS(amplitude="one")(as_batch(sorted(x)), T).squeeze(-1)
    time = torch.where(spikes.any(0), spikes.argmax(0), T)
    assert (time.diff() <= 0).all()


def test_ttfs_matches_the_definition_on_all_levels_of_an_image() -> None:
    levels = torch.arange(256)
    for T in (1, 2, 4, 5, 8, 10, 16, 32):
        first = 1 + (255 - levels) * T // 255  # floor((1 − k/255) T) in integers
        expected = torch.zeros(T + 1, 256)
        expected[first - 1, levels] = 1 / first
        torch.testing.assert_close(TTFS()((levels / 255).unsqueeze(1), T).squeeze(-1), expected[:T], rtol=0, atol=0)


def test_ttfs_worked_values() -> None:
    out = TTFS()(torch.tensor([[1.0, 0.5, 0.25, 0.1, 0.0]]), 4)[:, 0]
    expected = torch.zeros(4, 5)
    expected[0, 0], expected[2, 1], expected[3, 2], expected[3, 3] = 1, 1 / 3, 1 / 4, 1 / 4
    assert torch.equal(out, expected)


def test_ttfs_rejects_an_unknown_amplitude() -> None:
    with pytest.raises(ArgumentError, match="amplitude"):
        encode.build({"type": "ttfs", "amplitude": "half"})


# Phase


@given(values)
@settings(max_examples=100, deadline=None)
def test_phase_of_eight_steps_decodes_to_eight_bits(x: list[float]) -> None:
    batch = as_batch(x)
    assert torch.equal(Phase()(batch, 8).sum(0), (batch * 256).floor().clamp(max=255) / 256)


def test_phase_white_is_not_silent() -> None:
    assert torch.equal(Phase()(torch.ones(1, 1), 8).flatten(), 2.0 ** -torch.arange(1.0, 9.0))


def test_phase_repeats_with_period_eight_and_uses_the_paper_weights() -> None:
    out = Phase()(torch.tensor([[0.5, 129 / 256]]), 17)[:, 0]
    assert torch.equal(out[:8], out[8:16]) and torch.equal(out[16], out[0])
    expected = torch.zeros(8, 2)
    expected[0] = 0.5
    expected[7, 1] = 1 / 256
    assert torch.equal(out[:8], expected)


# Bad input and specs


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
def test_sparse_encoders_reject_values_outside_the_unit_interval(name: str, bad: float) -> None:
    x = torch.rand(2, 8)
    x[1, 3] = bad
    with pytest.raises(ArgumentError, match=rf"'{name}': x must lie in \[0, 1\].*before"):
        encode.build(name)(x, 4)


@pytest.mark.parametrize("name", ["direct", *SPARSE])
@pytest.mark.parametrize("T", [0, -1, 2.0, True, None])
def test_bad_step_count(name: str, T: Any) -> None:
    with pytest.raises(ArgumentError, match="T must be"):
        encode.build(name)(torch.rand(1, 1), T)


@pytest.mark.parametrize("name", ["direct", *SPARSE])
def test_bad_tensors(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"floating point.*uint8"):
        encode.build(name)(torch.zeros(1, 1, dtype=torch.uint8), 4)
    with pytest.raises(ShapeError, match="scalar"):
        encode.build(name)(torch.tensor(0.5), 4)


@pytest.mark.parametrize("name", ["direct", *SPARSE])
def test_empty_batch_and_meta_tensors_work(name: str) -> None:
    assert encode.build(name)(torch.rand(0, 3), 4).shape == (4, 0, 3)
    assert encode.build(name)(torch.rand(2, 3, device="meta"), 4).shape == (4, 2, 3)


@pytest.mark.parametrize("name", ["direct", "ttfs", "phase"])
def test_vmap(name: str) -> None:
    x, encoder = torch.rand(3, 2, 4), encode.build(name)
    together = torch.vmap(lambda one: encoder(one, 5))(x)
    assert torch.equal(together, torch.stack([encoder(one, 5) for one in x]))


@pytest.mark.parametrize("name", ["direct", "ttfs", "phase"])
def test_compiles_without_a_graph_break(name: str) -> None:
    x, encoder = torch.rand(2, 3), encode.build(name)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, 4), encoder(x, 4))


@pytest.mark.parametrize(
    "spec",
    ["rate", {"type": "rate", "seed": 4}, {"type": "ttfs", "amplitude": "one"}, {"type": "phase"},
     {"type": "direct", "mean": [0.5], "std": [0.25]}, {"type": "direct"}],
)  # fmt: skip
def test_config_round_trip(spec: Any) -> None:
    encoder = encode.build(spec)
    again = encode.build(encoder.config())
    assert type(again) is type(encoder) and again.config() == encoder.config()
    assert isinstance(spec, str) or spec.items() <= encoder.config().items()


def test_build_passes_a_module_through_and_explains_mistakes() -> None:
    encoder: Encoder = Phase()
    assert encode.build(encoder) is encoder
    with pytest.raises(UnknownNameError, match="did you mean 'rate'"):
        encode.build("rat")
    with pytest.raises(ArgumentError, match=r"'rate' takes no argument 'sed'; did you mean 'seed'"):
        encode.build({"type": "rate", "sed": 1})
    with pytest.raises(ArgumentError, match="takes no argument 'mean'"):
        encode.build({"type": "phase", "mean": [0.5]})
    with pytest.raises(ArgumentError, match="got 3"):
        encode.build(3)  # pyright: ignore[reportArgumentType]
