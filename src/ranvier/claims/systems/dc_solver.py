"""DC-Solver on fields that are known exactly: what compensation gains, and the orders of the samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Ratio, Scale, Table, Trial, curves

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.diffusion import Denoiser, TimeGrid

PAPER = (
    "Zhao, Wang, Zhou and Lu (2024), DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic "
    "Compensation"
)
NFES = (5, 8, 10)
SCALES = (1.5, 7.5)


def mixtures(trial: Trial) -> dict[str, Outcome]:
    """All samplers on one random mixture of Gaussians, guided and hardly guided."""
    import torch

    from ranvier.diffusion import GaussianMixture, Guided, NoiseSchedule, reference_trajectory, time_grid

    torch.set_num_threads(1)  # tiny tensors; the runner sets it back
    schedule = NoiseSchedule.vp_linear()
    whole = GaussianMixture.random(8, 8, 0.25, schedule, seed=trial.seed)
    generator = torch.Generator().manual_seed(1000 + trial.seed)
    shown, tuned = (
        torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (trial.settings["noises"], 64)
    )  # fmt: skip
    metrics: dict[str, dict[str, float]] = {arm.name: {} for arm in trial.arms}
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {arm.name: {} for arm in trial.arms}
    for scale in SCALES:
        field = Guided(whole.part([0, 1]), whole, scale)
        for nfe in NFES:
            grid = time_grid(schedule, nfe)
            states = reference_trajectory(field, torch.cat([shown, tuned]), grid, substeps=60)
            exact = states[-1, : len(shown)]
            for arm in trial.arms:
                found = _sampled(field, shown, states[:, len(shown) :], grid, dict(arm.settings))
                each = (found - exact).square().mean(1).sqrt()
                metrics[arm.name][f"rms_cfg{scale:g}_nfe{nfe}"] = float((found - exact).square().mean().sqrt())
                metrics[arm.name][f"median_cfg{scale:g}_nfe{nfe}"] = float(each.median())
                lines[arm.name].setdefault(f"cfg{scale:g}", []).append((nfe, float(each.median())))
    return {name: Outcome(metrics[name], curves=lines[name]) for name in metrics}


def _sampled(field: Denoiser, shown: Tensor, tuned: Tensor, grid: TimeGrid, settings: dict[str, Any]) -> Tensor:
    """The end of an arm's sampler; `tuned` are the exact states of the noises that a search may see."""
    from ranvier.diffusion import SearchOptions, sample_ode, search_compensation_ratios

    solver, method = settings["solver"], settings.get("method")
    ratios: Any = [settings["constant"]] * grid.nfe if "constant" in settings else None
    corrector: Any = settings.get("corrector", True)
    if method is not None:
        ratios = search_compensation_ratios(
            field, tuned[0, : settings["points"]], grid, reference=tuned[:, : settings["points"]],
            method=method, solver=solver, corrector=corrector,
            loss=settings.get("loss", "mse"), dc_order=settings.get("dc_order", 2),
            options=SearchOptions(rounds=settings.get("rounds", 0)),
        )  # fmt: skip
        return sample_ode(field, shown, grid, ratios=ratios, **ratios.options())
    return sample_ode(field, shown, grid, solver, ratios=ratios, corrector=corrector)


def _mixture_figures(table: Table) -> list[Figure]:
    arms = ("ddim", "dpmpp_2m", "unipc", "dc", "dpmpp_2m_dc")
    return [
        curves(table, f"cfg{scale:g}", f"Distance to the exact end, guidance {scale:g}", "evaluations",
               "median distance", log_y=True, arms=arms)
        for scale in SCALES
    ]  # fmt: skip


_SEARCH = {"solver": "dc", "method": "auto", "points": 10}
MIXTURES = Claim(
    name="dc_solver_mixtures",
    title="Dynamic compensation at 5 to 10 evaluations, on mixtures known exactly",
    system="dc_solver",
    paper=f"{PAPER}, Tables 2 and 3 and the ablations",
    statement="Compensating the stored output brings a predictor-corrector sampler closer to the exact trajectory at "
    "the same number of evaluations, more so with guidance; ratios searched on ten samples suffice.",
    question="Is the gain there where the exact trajectory is known, for three fields, on noises that the search never "
    "saw?",
    data="simulated on purpose: mixtures of eight Gaussians in eight dimensions, whose exact score needs no training",
    arms=(
        Arm("ddim", "DDIM", {"solver": "ddim"}),
        Arm("dpmpp_2m", "DPM-Solver++(2M)", {"solver": "dpmpp_2m"}),
        Arm("unipc", "UniPC of order 2", {"solver": "unipc"}),
        Arm("constant", "UniPC with all ratios 1.1", {"solver": "dc", "constant": 1.1}),
        Arm("dc", "ratios searched on 10 noises, by grid", _SEARCH),
        Arm("dc_adamw", "the same by AdamW, as published", {**_SEARCH, "method": "adamw"}),
        Arm("dc_1", "ratios searched on 1 noise", {**_SEARCH, "points": 1}),
        Arm("dc_4", "ratios searched on 4 noises", {**_SEARCH, "points": 4}),
        Arm("dc_64", "ratios searched on 64 noises", {**_SEARCH, "points": 64}),
        Arm("dc_k1", "degree 1", {**_SEARCH, "dc_order": 1}),
        Arm("dc_k3", "degree 3", {**_SEARCH, "dc_order": 3}),
        Arm(
            "dc_huber", "Huber loss, corrector chosen by the search",
            {**_SEARCH, "loss": "huber", "corrector": "auto"},
        ),
        Arm("dc_joint", "two rounds of refining all ratios together", {**_SEARCH, "points": 64, "rounds": 2}),
        Arm("dpmpp_2m_dc", "DPM-Solver++(2M) with searched ratios", {**_SEARCH, "solver": "dpmpp_2m"}),
    ),
    metrics=tuple(
        Metric(f"{what}_cfg{scale:g}_nfe{nfe}",
               f"{text} distance to the exact end, guidance {scale:g}, {nfe} evaluations",
               higher_is_better=False, digits=4)
        for scale in SCALES for nfe in NFES for what, text in (("rms", "RMS"), ("median", "median"))
    ),
    rules=(
        *(Ratio(f"rms_cfg{s:g}_nfe5", "dc", "unipc", at_most=0.8) for s in SCALES),
        *(Ratio(f"rms_cfg{s:g}_nfe8", "dc", "unipc", at_most=0.5) for s in SCALES),
        *(Ratio(f"rms_cfg{s:g}_nfe10", "dc", "unipc", at_most=0.35) for s in SCALES),
        *(Order(f"rms_cfg7.5_nfe{n}", ("dc", "dpmpp_2m_dc")) for n in NFES),
        *(Ratio(f"rms_cfg{s:g}_nfe{n}", "dc", "dc_adamw", at_most=1.2, essential=False) for s in SCALES for n in NFES),
        *(Order(f"rms_cfg{s:g}_nfe{n}", ("constant", "unipc"), essential=False) for s in SCALES for n in NFES),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=2, settings={"noises": 256}),
            "full": Scale(seeds=tuple(range(10)), minutes=15, settings={"noises": 2048})},
    run=mixtures, joint=True, figures=_mixture_figures,
    comment="The last six rules report whether a constant ratio of 1.1 is better than none, as the paper's ablation "
    "has it; they do not decide.",
)  # fmt: skip


def orders(trial: Trial) -> dict[str, Outcome]:
    """Slopes of error against step size, between 80 and 160 steps."""
    import math

    import torch

    from ranvier.diffusion import GaussianMixture, NoiseSchedule, reference_trajectory, sample_ode, time_grid

    torch.set_num_threads(1)
    schedule = NoiseSchedule.vp_linear()
    field = GaussianMixture.random(4, 4, 0.25, schedule, seed=trial.seed)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(100 + trial.seed), dtype=torch.float64)
    exact = reference_trajectory(field, x, time_grid(schedule, 1, "logsnr", 0.9, 0.05), substeps=1500)[-1]
    span = schedule.lam(0.05) - schedule.lam(0.9)
    outcomes: dict[str, Outcome] = {}
    for arm in trial.arms:
        settings = dict(arm.settings)
        constant, curvature = settings.pop("constant", 0.0), settings.pop("curvature", 0.0)
        errors: list[tuple[float, float]] = []
        for n in (20, 40, 80, 160):
            rho = 1 + constant + curvature * (span / n) ** 2
            found = sample_ode(
                field, x, time_grid(schedule, n, "logsnr", 0.9, 0.05), ratios=[rho] * n, lower_order_final=False,
                **settings,
            )  # fmt: skip
            errors.append((n, float((found - exact).square().mean().sqrt())))
        slope = math.log2(errors[-2][1] / errors[-1][1])
        average = math.log2(errors[0][1] / errors[-1][1]) / 3
        metrics = {"slope": slope, "slope_20_160": average, "error_160": errors[-1][1]}
        outcomes[arm.name] = Outcome(metrics, curves={"error": errors})
    return outcomes


_ORDERS: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("ddim", "DDIM", {"solver": "ddim"}, 1),
    ("dpmpp_2m", "DPM-Solver++(2M)", {"solver": "dpmpp_2m"}, 2),
    ("unip_3", "UniP-3", {"solver": "unip", "order": 3}, 3),
    ("unipc_1", "UniPC-1", {"solver": "unipc", "order": 1}, 2),
    ("unipc_2_bh1", "UniPC-2, bh1", {"solver": "unipc", "variant": "bh1"}, 3),
    ("unipc_2_bh2", "UniPC-2, bh2", {"solver": "unipc"}, 3),
    ("unipc_2_noise", "UniPC-2, noise form, bh1", {"solver": "unipc", "variant": "bh1", "form": "noise"}, 3),
    ("unipc_3", "UniPC-3", {"solver": "unipc", "order": 3}, 4),
    ("constant", "UniPC-2, all ratios 1.1", {"solver": "dc", "constant": 0.1}, 1),
    ("curvature", "UniPC-2, ratios 1 + 2h²", {"solver": "dc", "curvature": 2.0}, 3),
)
_WIDE = {"unip_3": 0.3, "unipc_3": 0.5}
"""Their errors change sign near these step sizes, so that single slopes scatter."""

ORDERS = Claim(
    name="dc_solver_orders",
    title="Orders of convergence: UniP-p has p, UniPC-p p + 1, and a constant ratio has 1",
    system="dc_solver",
    paper="Zhao, Bai, Rao, Zhou and Lu (2023), UniPC, Theorems 3.1 and 3.3; " + PAPER,
    statement="UniP-p converges with order p, the corrector raises it by one, and compensation keeps the order as long "
    "as the ratios approach 1 like h^p.",
    question="Do the slopes of the error against the step size show it?",
    data="simulated on purpose: mixtures of four Gaussians in four dimensions, whose exact trajectory is known",
    arms=tuple(Arm(name, text, settings) for name, text, settings, _ in _ORDERS),
    metrics=(
        Metric("slope", "Slope between 80 and 160 steps", higher_is_better=None),
        Metric("slope_20_160", "Mean slope between 20 and 160 steps", higher_is_better=None),
        Metric("error_160", "RMS error at 160 steps", higher_is_better=False, digits=8),
    ),
    rules=tuple(
        Bound("slope_20_160" if name in _WIDE else "slope", name, order - _WIDE.get(name, 0.15),
              order + _WIDE.get(name, 0.15))
        for name, _, _, order in _ORDERS
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=1)},
    run=orders, joint=True,
    figures=lambda table: [curves(table, "error", "Error against steps", "steps", "RMS error", log_x=True, log_y=True)],
)  # fmt: skip

CLAIMS = (MIXTURES, ORDERS)
