"""DC-Solver on small trained denoisers of digits, conventional and spiking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Figure, Metric, Order, Outcome, Ratio, Scale, Table, Trial, curves

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.diffusion import TimeGrid
    from ranvier.models import Denoiser

PAPER = (
    "Zhao, Wang, Zhou and Lu (2024), DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic "
    "Compensation, Table 3; Cao et al. (2024), Spiking Denoising Diffusion Probabilistic Models"
)
NFES = (5, 8, 10)
_COMMON = 40
"""The uniform grids of 5, 8 and 10 steps are parts of the one of 40, and so of its multiples."""


@dataclass(frozen=True)
class _Bench:
    """A trained net with its noises and its fine trajectories at one guidance."""

    net: Denoiser
    guidance: float
    labels: Tensor
    shown: Tensor
    tuned: Tensor
    fine: Tensor
    """States `[41, shown + tuned, ...]` at the times of the common grid."""

    def states(self, grid: TimeGrid) -> Tensor:
        return self.fine[:: _COMMON // grid.nfe]


def run(trial: Trial) -> dict[str, Outcome]:
    """Train the nets of the scale, then every sampler on each of them."""
    import torch

    torch.set_num_threads(1)  # small nets on small images; the runner sets it back
    with _scratch() as folder:
        classifier, real = _classifier(trial, folder)
        metrics: dict[str, dict[str, float]] = {arm.name: {} for arm in trial.arms}
        lines: dict[str, dict[str, list[tuple[float, float]]]] = {arm.name: {} for arm in trial.arms}
        for kind, guidances in trial.settings["nets"].items():
            net = _trained(trial, kind, folder)
            for guidance in guidances:
                bench = _prepare(trial, net, guidance)
                for nfe in NFES:
                    images = _ends(trial, bench, nfe)
                    wanted = bench.fine[-1, : len(bench.shown)]
                    for name, x in images.items():
                        where = f"{kind}_cfg{guidance:g}_nfe{nfe}"
                        error = float((x - wanted).square().mean())
                        metrics[name][f"mse_{where}"] = error
                        with torch.no_grad():
                            metrics[name][f"fid_{where}"] = _distance(classifier, x, real)
                        lines[name].setdefault(f"{kind}_cfg{guidance:g}", []).append((nfe, error))
        return {name: Outcome(metrics[name], curves=lines[name]) for name in metrics}


@contextmanager
def _scratch() -> Iterator[Any]:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="ranvier-claim-") as folder:
        yield Path(folder)


def _fit(trial: Trial, folder: Any, name: str, model: Mapping[str, Any], train: Mapping[str, Any]) -> Any:
    from ranvier.train import fit, load_run, parse_recipe

    recipe = parse_recipe({
        "name": name, "seed": trial.seed, "model": dict(model),
        "data": {"batch_size": 64, "validation": 0.1, **trial.settings["data"]},
        "train": {"threads": 1, "accelerator": "cpu", **train},
    })  # fmt: skip
    fit(recipe, folder / name, progress=False)
    return load_run(folder / name)[0]


def _trained(trial: Trial, kind: str, folder: Any) -> Denoiser:
    spiking = kind.startswith("T")
    # A small net's error in the noise is divided by the signal's share, 0.006 at the start, an error in v is not.
    arguments = {"channels": trial.settings["channels"], "img_size": trial.settings["side"], "prediction": "v"}
    model = {
        "name": "spiking_unet_small" if spiking else "relu_unet_small",
        "args": {**arguments, **({"T": int(kind[1:])} if spiking else {})},
    }
    train = {"loss": "denoising", "optimizer": "adam", "lr": 2e-3, "schedule": "cosine", "warmup_epochs": 1,
             "clip_norm": 1.0, "ema": 0.99, "epochs": trial.settings["epochs"]}  # fmt: skip
    return _fit(trial, folder, kind, model, train)


def _classifier(trial: Trial, folder: Any) -> tuple[Any, Tensor]:
    """A convolutional classifier, and its features of the test images."""
    from ranvier.data import load

    model = {"name": "spiking_conv_net", "args": {"T": 1, "neuron": "relu", "channels": [16, 32], "hidden": 64}}
    train = {"optimizer": "adamw", "lr": 3e-3, "schedule": "onecycle", "epochs": trial.settings["classifier_epochs"]}
    net = _fit(trial, folder, "classifier", model, train)
    settings = trial.settings["data"]
    test = load(settings["name"], **settings.get("options", {})).test
    real, _ = test.batch(range(min(360, len(test))))
    return net, _features(net, 2 * real - 1)


def _features(net: Any, x: Tensor) -> Tensor:
    """What enters the last layer, for images in −1 .. 1."""
    import torch

    seen: list[Tensor] = []
    handle = net.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean(0)))
    try:
        with torch.no_grad():
            net(((x + 1) / 2).clamp(0, 1))
    finally:
        handle.remove()
    return seen[0]


def _distance(classifier: Any, x: Tensor, real: Tensor) -> float:
    from ranvier.diffusion import frechet_distance

    return frechet_distance(_features(classifier, x), real)


def _prepare(trial: Trial, net: Denoiser, guidance: float) -> _Bench:
    import torch

    from ranvier.diffusion import custom_grid, denoiser_of, reference_trajectory, schedule_of, time_grid

    generator = torch.Generator().manual_seed(5000 + trial.seed)
    count, points = trial.settings["noises"], trial.settings["points"]
    shape = (net.in_channels, *net.img_size)
    noise = torch.randn(count + points, *shape, generator=generator)
    labels = torch.arange(count + points) % net.num_classes
    grid = time_grid(schedule_of(net), _COMMON)
    with torch.no_grad():
        fine = reference_trajectory(
            denoiser_of(net, labels, guidance), noise, custom_grid(grid.schedule, grid.times), "ddim", net.prediction,
            ddim_steps=trial.settings["reference_steps"],
        )  # fmt: skip
    return _Bench(net, guidance, labels, noise[:count], noise[count:], fine)


def _ends(trial: Trial, bench: _Bench, nfe: int) -> dict[str, Tensor]:
    """The ends of all samplers at `nfe` evaluations."""
    import torch

    from ranvier.diffusion import (
        SearchOptions,
        denoiser_of,
        sample_ode,
        schedule_of,
        search_compensation_ratios,
        time_grid,
    )

    net, count = bench.net, len(bench.shown)
    grid = time_grid(schedule_of(net), nfe)
    states = bench.states(grid)
    show, tune = (denoiser_of(net, part, bench.guidance) for part in (bench.labels[:count], bench.labels[count:]))
    ends: dict[str, Tensor] = {}
    with torch.no_grad():
        for arm in trial.arms:
            options: dict[str, Any] = {"solver": arm.settings["solver"], "prediction": net.prediction}
            ratios = None
            if arm.settings.get("search"):
                ratios = search_compensation_ratios(
                    tune, bench.tuned, grid, reference=states[:, count:],
                    options=SearchOptions(points=trial.settings["search_points"], golden=8), **options,
                )  # fmt: skip
                options = ratios.options()
            ends[arm.name] = sample_ode(show, bench.shown, grid, ratios=ratios, **options)
    return ends


ARMS = (
    Arm("ddim", "DDIM", {"solver": "ddim"}),
    Arm("dpmpp_2m", "DPM-Solver++(2M)", {"solver": "dpmpp_2m"}),
    Arm("unipc", "UniPC of order 2", {"solver": "unipc"}),
    Arm("dc", "DC-Solver: UniPC with searched ratios", {"solver": "dc", "search": True}),
)
_PLAIN = ("ddim", "dpmpp_2m", "unipc")


def _metrics(nets: Mapping[str, Sequence[float]]) -> tuple[Metric, ...]:
    said = {"relu": "conventional net", "T4": "spiking net, 4 steps", "T8": "spiking net, 8 steps"}
    return tuple(
        Metric(f"{short}_{net}_cfg{g:g}_nfe{n}", f"{text}, {said[net]}, guidance {g:g}, {n} evaluations",
               higher_is_better=False, digits=4)
        for net, guidances in nets.items() for g in guidances for n in NFES
        for short, text in (("mse", "Mean square distance to the fine trajectory's end"),
                            ("fid", "Fréchet distance of classifier features to test images"))
    )  # fmt: skip


def _figures(nets: Mapping[str, Sequence[float]]) -> Any:
    def draw(table: Table) -> list[Figure]:
        return [
            curves(table, f"{net}_cfg{g:g}", f"{net}, guidance {g:g}", "evaluations", "mean square distance",
                   log_y=True, arms=("ddim", "dpmpp_2m", "unipc", "dc"))
            for net, guidances in nets.items() for g in guidances
        ]  # fmt: skip

    return draw


_STATEMENT = (
    "At the same number of evaluations, dynamic compensation ends nearer to the trajectory of a 999-step DDIM than "
    "DDIM, DPM-Solver++(2M) and UniPC do."
)
_GUIDANCES = (1.0, 4.0)
_DIGITS = {"relu": [1.0, 4.0], "T4": [1.0, 4.0], "T8": [1.0]}
_MNIST = {"relu": [1.0, 4.0], "T4": [1.0, 4.0]}
DIGITS = Claim(
    name="dc_solver_digits",
    title="Few-step sampling of trained denoisers of digits, conventional and spiking",
    system="dc_solver", paper=PAPER, statement=_STATEMENT,
    question="Does it hold for small trained nets, and when the denoiser spikes, so that its output is a staircase? "
    "The ratios are searched on other noises than those measured; nothing is tuned on them.",
    data="scikit-learn's digits (8 × 8 scans), nets trained here with 10 % label dropout",
    arms=ARMS, metrics=_metrics(_DIGITS),
    rules=(
        *(Order(f"mse_relu_cfg{g:g}_nfe{n}", ("dc", plain)) for g in _GUIDANCES for n in NFES for plain in _PLAIN),
        *(Ratio("mse_T8_cfg1_nfe8", "dc", plain, at_most=0.9) for plain in _PLAIN),
        *(Ratio("mse_T4_cfg1_nfe8", "dc", plain, at_most=1.0) for plain in _PLAIN),
        *(Ratio(f"mse_T4_cfg4_nfe{n}", "dc", plain, at_most=1.0, essential=False) for n in NFES for plain in _PLAIN),
    ),
    scales={
        "quick": Scale(seeds=(0, 1, 2), minutes=10, settings={
            "data": {"name": "digits"}, "side": 8, "channels": 8, "epochs": 40, "classifier_epochs": 10,
            "nets": _DIGITS, "noises": 60, "points": 30, "reference_steps": 200,
            "search_points": 21,
        }, note="the fine trajectory has 200 steps instead of 999"),
        "full": Scale(seeds=(0, 1, 2), minutes=180, settings={
            "data": {"name": "digits"}, "side": 8, "channels": 16, "epochs": 160, "classifier_epochs": 20,
            "nets": _DIGITS, "noises": 360, "points": 64, "reference_steps": 1000,
            "search_points": 41,
        }),
    },
    run=run, joint=True, figures=_figures(_DIGITS),
    comment="The nets predict v. A first run of the quick scale, with the same rules, predicted the noise: the "
    "trajectories of one of its three conventional nets ended at values of 10,000 and above, so that its distances "
    "said nothing.",
)  # fmt: skip

MNIST = Claim(
    name="dc_solver_mnist",
    title="Few-step sampling of trained denoisers of MNIST, conventional and spiking",
    system="dc_solver", paper=PAPER, statement=_STATEMENT,
    question="The same question as for the digits, with more and larger images: 14 × 14 at the quick scale.",
    data="MNIST, pooled to 14 × 14 at the quick scale; nets trained here with 10 % label dropout",
    arms=ARMS, metrics=_metrics(_MNIST),
    rules=(
        *(Order(f"mse_relu_cfg{g:g}_nfe{n}", ("dc", plain)) for g in (1.0, 4.0) for n in NFES for plain in _PLAIN),
        *(Ratio("mse_T4_cfg1_nfe8", "dc", plain, at_most=1.0) for plain in _PLAIN),
    ),
    scales={
        "quick": Scale(seeds=(0, 1), minutes=12, settings={
            "data": {"name": "mnist", "options": {"pool": 2}, "limit_train": 3000, "limit_test": 500}, "side": 14,
            "channels": 8, "epochs": 12, "classifier_epochs": 3, "nets": _MNIST,
            "noises": 40, "points": 20, "reference_steps": 200,
            "search_points": 21,
        }, note="3,000 training images; the fine trajectory has 200 steps instead of 999"),
        "full": Scale(seeds=(0, 1, 2), minutes=1500, settings={
            "data": {"name": "mnist"}, "side": 28, "channels": 32, "epochs": 30, "classifier_epochs": 5,
            "nets": _MNIST, "noises": 360, "points": 64, "reference_steps": 1000,
            "search_points": 41,
        }),
    },
    run=run, joint=True, figures=_figures(_MNIST),
)  # fmt: skip

CLAIMS = (DIGITS, MNIST)
