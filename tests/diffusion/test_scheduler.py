"""The scheduler: diffusers' own UniPC when all ratios are 1, what diffusers asks of every scheduler, ratios."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.compat import Later
from torch import Tensor

import ranvier.diffusion as room
from ranvier.diffusion import (
    CascadePolynomialRegression,
    OutsideFitWarning,
    sample_ode,
    search_compensation_ratios,
)
from ranvier.errors import ArgumentError

if find_spec("diffusers") is None:
    pytest.skip("diffusers is not installed", allow_module_level=True)
diffusers: Any = Later("diffusers")

# diffusers' own schedulers convert tensors in a way that NumPy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
        "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "sigma_min"}  # fmt: skip


def _sample() -> Tensor:
    return (torch.arange(4 * 3 * 8 * 8).reshape(3, 8, 8, 4).float() / (4 * 3 * 8 * 8)).permute(3, 0, 1, 2)


def _loop(scheduler: Any, n: int = 10, x: Tensor | None = None, start: int = 0) -> Tensor:
    """The public test loop of diffusers: the network is x·t/(t + 1)."""
    scheduler.set_timesteps(n)
    if start:
        scheduler.set_begin_index(start)
    x = _sample() if x is None else x
    for t in scheduler.timesteps[start:]:
        x = scheduler.scale_model_input(x, t)
        x = scheduler.step(x * t / (t + 1), t, x).prev_sample
    return x


def _ours(**changes: Any) -> Any:
    return room.DCSolverMultistepScheduler(**{**BASE, **changes})


@pytest.mark.parametrize(
    "changes,mean",
    [
        ({}, 0.2464),
        ({"use_karras_sigmas": True}, 0.2925),
        ({"prediction_type": "v_prediction"}, 0.1014),
        ({"prediction_type": "v_prediction", "use_karras_sigmas": True}, 0.1966),
    ],
)
def test_known_means(changes, mean: float) -> None:
    assert _loop(_ours(**changes)).abs().mean().item() == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"solver_order": 1}, {"solver_order": 3}, {"solver_type": "bh1"}, {"predict_x0": False},
        {"final_sigmas_type": "zero"}, {"lower_order_final": False}, {"disable_corrector": [0, 2]},
        {"thresholding": True, "sample_max_value": 1.5}, {"timestep_spacing": "trailing"},
        {"timestep_spacing": "leading", "steps_offset": 1}, {"use_exponential_sigmas": True},
        {"prediction_type": "sample"}, {"beta_schedule": "scaled_linear"}, {"beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("n", [1, 2, 10])
def test_is_unipc_of_diffusers(changes, n: int) -> None:
    wanted = _loop(diffusers.UniPCMultistepScheduler(**{**BASE, **changes}), n)
    found = _loop(_ours(**changes), n)
    # diffusers' scalars are float32, and these cancel where a step starts from almost pure noise
    coarse = n < 10 and ("predict_x0" in changes or changes.get("beta_schedule") == "squaredcos_cap_v2")
    rtol, atol = (2e-2, 2e-2) if coarse else (1e-4, 1e-5)
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol * float(wanted.abs().max()))


def test_is_dpm_solver_multistep_without_corrector() -> None:
    other = diffusers.DPMSolverMultistepScheduler(
        **{k: v for k, v in BASE.items() if k not in ("solver_type",)}, algorithm_type="dpmsolver++",
        solver_type="midpoint",
    )  # fmt: skip
    torch.testing.assert_close(_loop(_ours(use_corrector=False)), _loop(other), rtol=1e-5, atol=1e-5)


def test_ones_change_no_bit() -> None:
    assert torch.equal(_loop(_ours()), _loop(_ours(compensation_ratios=[1.0] * 10)))
    assert not torch.equal(_loop(_ours()), _loop(_ours(compensation_ratios=[1.0] * 9 + [1.1])))


@pytest.mark.parametrize("solver_type", ["bh1", "bh2"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_always_finite(solver_type: str, final: str, lower: bool, order: int) -> None:
    for prediction in ("epsilon", "sample", "v_prediction", "flow_prediction"):
        for extra in ({}, {"use_karras_sigmas": True}, {"predict_x0": False}):
            flow = {"use_flow_sigmas": True} if prediction == "flow_prediction" else {}
            scheduler = _ours(
                solver_type=solver_type, final_sigmas_type=final, lower_order_final=lower, solver_order=order,
                prediction_type=prediction, compensation_ratios=[1.0, 1.0, 1.2, 0.9, 1.1], **extra, **flow,
            )  # fmt: skip
            assert _loop(scheduler, 5).isfinite().all(), (prediction, extra)


def test_sampler_and_scheduler_are_one_method() -> None:
    ratios = [1.0, 1.0, 1.2, 0.9, 1.1, 0.95]
    scheduler = _ours(compensation_ratios=ratios)
    found = _loop(scheduler, 6, _sample().double())
    grid = scheduler.grid()

    def denoise(x: Tensor, t: float) -> Tensor:
        label = grid.schedule.label(t)
        return x * label / (label + 1)

    wanted = sample_ode(denoise, _sample().double(), grid, ratios=ratios, **scheduler.solver_options())  # fmt: skip
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_ratios_searched_for_the_scheduler(tmp_path: Path) -> None:
    scheduler = _ours()
    scheduler.set_timesteps(6)
    grid = scheduler.grid()

    def denoise(x: Tensor, t: float) -> Tensor:
        return torch.tanh(x) * grid.schedule.sigma(t)

    found = search_compensation_ratios(denoise, torch.randn(4, 3, 8, 8), grid, **scheduler.solver_options())
    scheduler.set_compensation(found)
    before = _loop(scheduler, 6)
    assert not torch.equal(before, _loop(_ours(), 6))
    scheduler.save_pretrained(tmp_path)
    json.loads((tmp_path / "scheduler_config.json").read_text())
    again = room.DCSolverMultistepScheduler.from_pretrained(tmp_path)
    assert torch.equal(before, _loop(again, 6))
    with pytest.raises(ArgumentError, match="NFE 6"):
        scheduler.set_timesteps(7)
    other = _ours(timestep_spacing="trailing")
    other.set_compensation(found)
    with pytest.raises(ArgumentError, match="grid"):
        other.set_timesteps(6)
    scheduler.set_timesteps(6)
    with pytest.raises(ArgumentError, match="guidance"):
        scheduler.set_compensation(cfg=7.5)


def test_ratios_by_steps_and_guidance() -> None:
    table = {"5:7.5": [1.0, 1.0, 1.1, 0.9, 1.2], "4": [1.0, 1.0, 1.0, 1.3]}
    scheduler = _ours(compensation_ratios=table)
    scheduler.set_compensation(cfg=7.5)
    expected = _loop(_ours(compensation_ratios=table["5:7.5"]), 5)
    assert torch.equal(_loop(scheduler, 5), expected)
    with pytest.warns(room.NoRatiosWarning, match="6 steps"):
        assert torch.equal(_loop(scheduler, 6), _loop(_ours(), 6))
    with pytest.raises(ArgumentError, match="5 for NFE 5, got 4"):
        _loop(_ours(compensation_ratios=[1.0] * 4), 5)
    with pytest.raises(ArgumentError, match="nfe:cfg"):
        _loop(_ours(compensation_ratios={"five": [1.0] * 5}), 5)


def test_ratios_by_regression() -> None:
    regression = CascadePolynomialRegression()
    regression.fit([(n, f, [1.0, 1.0, *[1 + 0.01 * f] * (n - 2)]) for n in (5, 6, 8, 10) for f in (1.0, 4.0, 8.0)])
    scheduler = _ours(cpr=regression.to_json())
    scheduler.set_compensation(cfg=6.0)
    expected = _ours(compensation_ratios=list(regression.predict(7, 6.0)))
    assert torch.equal(_loop(scheduler, 7), _loop(expected, 7))
    with pytest.warns(OutsideFitWarning):
        scheduler.set_timesteps(30)
    published = _ours(cpr=regression.official().tolist())
    published.set_compensation(cfg=6.0)
    assert torch.equal(_loop(published, 5), _loop(scheduler, 5))


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
                                  "UniPCMultistepScheduler", "EulerDiscreteScheduler"])  # fmt: skip
def test_from_config_of_other_schedulers(name: str) -> None:
    other = getattr(diffusers, name)(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    found = room.DCSolverMultistepScheduler.from_config(other.config)
    torch.testing.assert_close(found.alphas_cumprod, other.alphas_cumprod)
    assert _loop(found, 5).isfinite().all()
    back = getattr(diffusers, name).from_config(found.config)
    torch.testing.assert_close(back.alphas_cumprod, other.alphas_cumprod)


def test_in_a_pipeline(tmp_path: Path) -> None:
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipe = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler())
    pipe.scheduler = room.DCSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe.scheduler.set_timesteps(4)
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(unet(x, t).sample, t, x).prev_sample
    assert x.isfinite().all()


# What diffusers asks of every scheduler (tests/schedulers/test_schedulers.py), for this one.


@pytest.mark.parametrize("n", [10, 50, 100])
def test_steps_are_alike_after_a_save(n: int, tmp_path: Path) -> None:
    for order in (1, 2, 3):
        scheduler = _ours(solver_order=order)
        scheduler.save_pretrained(tmp_path)
        loaded = room.DCSolverMultistepScheduler.from_pretrained(tmp_path)
        outputs = []
        for one in (scheduler, loaded):
            one.set_timesteps(n)
            one.model_outputs = [0.1 * _sample() + k for k in (0.2, 0.15, 0.1)][:order]
            t = one.timesteps[n // 2]
            x = _sample()
            for _ in range(2):
                x = one.step(0.1 * _sample(), t, x).prev_sample
            outputs.append(x)
        assert torch.equal(*outputs)


def test_shapes_and_outputs() -> None:
    scheduler = _ours()
    scheduler.set_timesteps(10)
    t, x = scheduler.timesteps[0], _sample()
    output = scheduler.step(0.1 * x, t, x)
    assert output.prev_sample.shape == x.shape
    scheduler.set_timesteps(10)
    (as_tuple,) = scheduler.step(0.1 * x, t, x, return_dict=False)
    assert torch.equal(as_tuple, output.prev_sample)
    assert len(scheduler) == 1000
    assert scheduler.order == 1
    assert scheduler.init_noise_sigma == 1.0
    assert room.DCSolverMultistepScheduler._compatibles
    for name in ("betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "sigmas", "timesteps",
                 "num_inference_steps", "model_outputs",
                 "timestep_list", "lower_order_nums", "last_sample"):  # fmt: skip
        assert hasattr(scheduler, name)
    noisy = scheduler.add_noise(x, torch.randn_like(x), torch.tensor([15]))
    assert noisy.shape == x.shape


def test_starts_in_the_middle() -> None:
    """Image to image: the same as a scheduler that begins there, and as diffusers."""
    wanted = _loop(diffusers.UniPCMultistepScheduler(**BASE), 10, start=5)
    torch.testing.assert_close(_loop(_ours(), 10, start=5), wanted, rtol=1e-4, atol=1e-5)
    ratios = [1.0] * 6 + [1.2, 1.1, 0.9, 1.0]
    assert _loop(_ours(compensation_ratios=ratios), 10, start=5).isfinite().all()


def test_half_precision() -> None:
    full = _loop(_ours(), 10)
    half = _loop(_ours(), 10, _sample().half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), full, rtol=1e-2, atol=1e-2)


def test_custom_timesteps_and_refusals() -> None:
    scheduler = _ours()
    scheduler.set_timesteps(timesteps=[999, 700, 300, 50])
    assert scheduler.timesteps.tolist() == [999, 700, 300, 50]
    x = _sample()
    for t in scheduler.timesteps:
        x = scheduler.step(0.1 * x, t, x).prev_sample
    assert x.isfinite().all()
    for arguments, what in (
        ({"timesteps": [10, 20]}, "decreasing"), ({"timesteps": [1000, 20]}, "999"),
        ({"num_inference_steps": 0}, ">= 1"),
        ({"num_inference_steps": 3, "timesteps": [5, 1]}, "not two"), ({}, "num_inference_steps"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=what):
            scheduler.set_timesteps(**arguments)
    with pytest.raises(ArgumentError, match="set_timesteps"):
        _ours().step(x, 5, x)
    with pytest.raises(ArgumentError, match="dc_order"):
        _ours(dc_order=0)


def test_other_predictor() -> None:
    other = diffusers.DPMSolverMultistepScheduler.from_config(_ours().config, final_sigmas_type="sigma_min")
    wanted = _loop(diffusers.UniPCMultistepScheduler(**BASE, solver_p=other), 8)
    other = diffusers.DPMSolverMultistepScheduler.from_config(_ours().config, final_sigmas_type="sigma_min")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(_loop(_ours(solver_p=other), 8), wanted, rtol=1e-4, atol=1e-5)


def test_names() -> None:
    assert room.DCSolverScheduler is room.DCSolverMultistepScheduler
    with pytest.raises(AttributeError, match="NoSuch"):
        _ = room.NoSuch  # pyright: ignore[reportAttributeAccessIssue]
