"""Counts of up to four spikes against binary spikes and a ReLU, on solids, real shapes and digits (E-3DSNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Order, Outcome, Ratio, Scale, Trial, bars

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.claims import Table

SETS = ("solids", "shapes", "digits")


def run(trial: Trial) -> Outcome:
    """Train the arm's net on each of the three sets; turn it into binary spikes and count what it does."""
    import torch

    from ranvier import infer, measure
    from ranvier.claims.solids import accuracy, small_net, train

    assert trial.arm is not None
    torch.set_num_threads(1)  # so small a net gains nothing from more; the runner sets it back
    neuron = dict(trial.arm.settings)
    metrics: dict[str, float] = {}
    for name in SETS:
        x, y, tx, ty, shape = _data(name, trial.settings, trial.seed)
        torch.manual_seed(trial.seed)
        net = small_net({"neuron": neuron}, **shape)
        epochs = trial.settings[f"{name}_epochs"]
        train(net, x, y, epochs, 16, 4e-3, trial.seed)
        metrics[name] = accuracy(net, tx, ty)
        if name == "solids":
            spikes = neuron["type"] == "spike_count"
            metrics["energy"] = _microjoules(infer.convert(net, tx[:4], verify=False).net if spikes else net, tx[:32])
            same = 100.0
            if spikes:
                binary = infer.convert(net, tx[:4], verify=False).net
                same = accuracy_of_agreement(net, binary, tx[:100])
            metrics["same"] = same
            report = measure.count(net, tx[:32])
            metrics["count"] = sum(row.mean_count for row in report.neurons) / max(1, len(report.neurons))
    return Outcome(metrics)


def accuracy_of_agreement(net: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Percent of samples on which two nets decide alike."""
    import torch

    with torch.no_grad():
        pairs = [(net(p).mean(0).argmax(1), other(p).mean(0).argmax(1)) for p in x.split(25)]
    return 100 * sum(int((a == b).sum()) for a, b in pairs) / len(x)


def _data(name: str, settings: Any, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
    from ranvier.claims.solids import solids
    from ranvier.data import load

    n, m = settings["train"], settings["test"]
    if name == "solids":
        x, y = solids(n, 1000 + seed, points=500, noise=0.06, outliers=0.3)
        tx, ty = solids(m, 2000 + seed, points=500, noise=0.06, outliers=0.3)
        return x, y, tx, ty, {"in_channels": 3, "num_points": 500, "num_classes": 10, "voxel_size": 0.1}
    bundle = (
        load("modelnet_grids") if name == "shapes" else load("mnist_solids", height=6, train_size=2 * n, test_size=m)
    )
    x, y = bundle.train.batch(range(min(n if name == "shapes" else 2 * n, len(bundle.train))))
    if name == "shapes":  # the classes lie one after the other: take the same share of both
        import torch

        rows = torch.arange(0, len(bundle.train), max(1, len(bundle.train) // n))[:n]
        x, y = bundle.train.batch(rows)
    tx, ty = bundle.test.batch(range(len(bundle.test)))
    if name == "shapes":
        import torch.nn.functional as F

        x, tx = F.max_pool3d(x, 2), F.max_pool3d(tx, 2)
    return x, y, tx, ty, {"in_channels": 1, "positions": True, "num_classes": bundle.num_classes}


def _microjoules(net: nn.Module, x: Tensor) -> float:
    """0.9 pJ an addition of a spike, 4.6 pJ a multiplication of real values, as publications price them."""
    from ranvier import measure

    total = 0.0
    for row in measure.count(net, x).rows:
        total += 0.9 * row.unrolled if row.unrolled is not None else 4.6 * row.macs_dense
    return total / 1e6


def _figures(table: Table) -> Sequence[Figure]:
    return [bars(table, name) for name in (*SETS, "energy")]


_COUNT = "spike_count"
CLAIM = Claim(
    name="e3dsnn_levels",
    title="Counts of up to four spikes come close to a ReLU in sparse 3-D nets, for less energy",
    system="e3dsnn",
    paper="X. Qiu et al. (2025), Efficient 3D Recognition with Event-driven Spike Sparse Convolution, AAAI 2025",
    statement="A neuron trained as an integer count of 0 to 4 in one step, and run as four binary steps, loses little "
    "against a conventional net and much of its energy; binary spikes lose more.",
    question="Is D = 4 at least as good as D = 1, and at most two points below the same net with ReLU, on "
    "three sets of "
    "voxels? Are binary decisions those of the trained net? What does an exact count of operations say of energy?",
    data="Ten kinds of solids as 500 noisy surface points with 30 % outliers, simulated for their ground "
    "truth; chairs and "
    "monitors of ModelNet as real 32-voxel grids halved to 16; MNIST digits lifted to surfaces in space, turned.",
    arms=(
        Arm("d4", "counts up to 4", {"type": _COUNT, "levels": 4}),
        Arm("d1", "binary spikes", {"type": _COUNT, "levels": 1}),
        Arm("relu", "ReLU, the conventional net", {"type": "relu"}),
    ),
    metrics=(
        Metric("solids", "Test accuracy on solids", "%", digits=1),
        Metric("shapes", "Test accuracy on ModelNet grids", "%", digits=1),
        Metric("digits", "Test accuracy on lifted digits", "%", digits=1),
        Metric("energy", "Energy of synapses on solids", "µJ a sample", higher_is_better=False, digits=1),
        Metric("same", "Decisions that stay the same as binary spikes", "%", digits=1),
        Metric("count", "Mean output of a neuron", higher_is_better=None, digits=2),
    ),
    rules=(
        *(Order(name, ("d1", "d4"), margin=-1) for name in SETS),
        *(Order(name, ("relu", "d4"), margin=-2) for name in SETS),
        Ratio("energy", "d4", "relu", at_most=1),
        Bound("same", "d4", at_least=100, exact=True),
        Order("solids", ("d1", "d4"), essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=5,
            settings={"train": 400, "test": 300, "solids_epochs": 5, "shapes_epochs": 2, "digits_epochs": 2},
        ),
        "full": Scale(
            seeds=(0, 1, 2, 3, 4), minutes=120,
            settings={
                "train": 2000, "test": 2000, "solids_epochs": 10, "shapes_epochs": 10, "digits_epochs": 10,
            },
        ),
    },
    run=run,
    figures=_figures,
    comment="Energies use 0.9 pJ an addition and 4.6 pJ a multiplication on exact pairs of the kernel maps; "
    "first and last "
    "layer multiply real values in every arm and are charged for it.",
)  # fmt: skip
