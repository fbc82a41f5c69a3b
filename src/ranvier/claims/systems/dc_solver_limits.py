"""How far DC-Solver's ratios reach: settings that were not searched, and denoisers with coarse outputs."""

from __future__ import annotations

from typing import Any

from ranvier.claims import Arm, Claim, Metric, Order, Outcome, Ratio, Scale, Trial
from ranvier.claims.systems.dc_solver import PAPER

NFES, CFGS = (5, 6, 8, 10, 12, 15), (1.5, 3.0, 5.0, 7.5, 9.0)
HELD_OUT = tuple((nfe, cfg) for nfe in (7, 9) for cfg in (2.0, 4.0, 6.0))
LEVELS = (4, 8, 16)


def _field(seed: int) -> Any:
    from ranvier.diffusion import GaussianMixture, NoiseSchedule

    return GaussianMixture.random(8, 8, 0.25, NoiseSchedule.vp_linear(), seed=seed)


def regression(trial: Trial) -> dict[str, Outcome]:
    """Fit the searched ratios, then sample where nothing was searched."""
    import torch

    from ranvier.diffusion import (
        CascadePolynomialRegression,
        Guided,
        SearchOptions,
        reference_trajectory,
        sample_ode,
        search_compensation_ratios,
        time_grid,
    )

    torch.set_num_threads(1)  # tiny tensors; the runner sets it back
    whole = _field(trial.seed)
    part = whole.part([0, 1])
    generator = torch.Generator().manual_seed(2000 + trial.seed)
    shown, tuned = (
        torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (256, trial.settings["points"])
    )

    def search(nfe: int, cfg: float) -> Any:
        grid = time_grid(whole.schedule, nfe)
        options = SearchOptions(substeps=8)
        return search_compensation_ratios(Guided(part, whole, cfg), tuned, grid, loss="huber", options=options)

    fitted = CascadePolynomialRegression(ridge=trial.settings["ridge"]).fit([search(n, c) for n in NFES for c in CFGS])
    squares: dict[str, list[float]] = {"unipc": [], "searched": [], "regression": []}
    for nfe, cfg in HELD_OUT:
        grid, field = time_grid(whole.schedule, nfe), Guided(part, whole, cfg)
        exact = reference_trajectory(field, shown, grid, substeps=60)[-1]
        ratios: dict[str, Any] = {"unipc": None, "searched": search(nfe, cfg), "regression": fitted.predict(nfe, cfg)}
        for name, values in ratios.items():
            squares[name].append(float((sample_ode(field, shown, grid, ratios=values) - exact).square().mean().sqrt()))
    return {name: Outcome({"rms": sum(values) / len(values)}) for name, values in squares.items()}


def coarse(trial: Trial) -> dict[str, Outcome]:
    """The exact noise rounded to multiples of 1/L, as a net that counts spikes would give it."""
    import torch
    from torch import Tensor

    from ranvier.diffusion import Guided, reference_trajectory, sample_ode, search_compensation_ratios, time_grid

    torch.set_num_threads(1)
    whole = _field(trial.seed)
    field = Guided(whole.part([0, 1]), whole, 1.5)
    generator = torch.Generator().manual_seed(3000 + trial.seed)
    shown, tuned = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (256, 64))
    metrics: dict[str, dict[str, float]] = {arm.name: {} for arm in trial.arms}
    for nfe in (5, 10):
        grid = time_grid(whole.schedule, nfe)
        states = reference_trajectory(field, torch.cat([shown, tuned]), grid, substeps=60)
        exact, target = states[-1, : len(shown)], states[:, len(shown) :]
        for levels in LEVELS:

            def rounded(x: Tensor, t: float, levels: int = levels) -> Tensor:
                return (field(x, t) * levels).round() / levels

            for arm in trial.arms:
                options: dict[str, Any] = {key: value for key, value in arm.settings.items() if key != "search"}
                ratios = None
                if arm.settings.get("search"):
                    ratios = search_compensation_ratios(rounded, tuned, grid, reference=target, **options)
                found = sample_ode(rounded, shown, grid, ratios=ratios, **options)
                rms = float((found - exact).square().mean().sqrt())
                metrics[arm.name][f"rms_nfe{nfe}_L{levels}"] = rms
    return {name: Outcome(values) for name, values in metrics.items()}


REGRESSION = Claim(
    name="dc_solver_regression",
    title="Ratios predicted for unseen numbers of steps and guidance",
    system="dc_solver",
    paper=f"{PAPER}, section 3.3",
    statement="A polynomial fitted to searched ratios predicts those of other settings, without a search.",
    question="Are predicted ratios nearly as good as searched ones, and better than none, at 7 and 9 evaluations and "
    "guidance 2, 4 and 6, when only others were searched?",
    data="simulated on purpose: mixtures of eight Gaussians in eight dimensions, whose exact trajectory is known",
    arms=(
        Arm("unipc", "no compensation"), Arm("searched", "ratios searched for the setting itself"),
        Arm("regression", "ratios predicted by the regression"),
    ),
    metrics=(Metric("rms", "RMS distance to the exact end, mean of six held-out settings", higher_is_better=False,
                    digits=4),),
    rules=(Ratio("rms", "regression", "searched", at_most=1.25), Ratio("rms", "regression", "unipc", at_most=1.0)),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=2, settings={"points": 64, "ridge": 1e-4})},
    run=regression, joint=True,
)  # fmt: skip

COARSE = Claim(
    name="dc_solver_coarse",
    title="Coarse denoiser outputs spoil high orders, and compensation last",
    system="dc_solver",
    paper="Cao et al. (2024), Spiking Denoising Diffusion Probabilistic Models, Table 4 (a solver of high order stays "
    "at FID 31 however many steps it takes)",
    statement="A solver of high order gains nothing from a spiking denoiser, whose output is a staircase.",
    question="With the noise rounded to multiples of 1/L: is order 3 worse than order 2, and down to which L does "
    "compensation pay?",
    data="simulated on purpose: mixtures of eight Gaussians in eight dimensions, guidance 1.5, rounded noise",
    arms=(
        Arm("ddim", "DDIM", {"solver": "ddim"}), Arm("dpmpp_2m", "DPM-Solver++(2M)", {"solver": "dpmpp_2m"}),
        Arm("unip_3", "UniP-3", {"solver": "unip", "order": 3}), Arm("unipc_2", "UniPC-2", {"solver": "unipc"}),
        Arm("unipc_3", "UniPC-3", {"solver": "unipc", "order": 3}),
        Arm("dc_2", "UniPC-2 with ratios searched on 64 noises", {"solver": "dc", "search": True}),
    ),
    metrics=tuple(
        Metric(f"rms_nfe{n}_L{levels}", f"RMS distance to the exact end, {n} evaluations, {levels} levels",
               higher_is_better=False, digits=4)
        for n in (5, 10) for levels in LEVELS
    ),
    rules=(
        *(Order(f"rms_nfe5_L{levels}", ("unipc_2", "unipc_3")) for levels in LEVELS),
        *(Order(f"rms_nfe{n}_L{levels}", ("dc_2", "unipc_2")) for n in (5, 10) for levels in (8, 16)),
        *(Order(f"rms_nfe{n}_L4", ("dc_2", "unipc_2"), essential=False) for n in (5, 10)),
        *(Order(f"rms_nfe10_L{levels}", ("dc_2", "dpmpp_2m"), essential=False) for levels in LEVELS),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=2)},
    run=coarse, joint=True,
)  # fmt: skip

CLAIMS = (REGRESSION, COARSE)
