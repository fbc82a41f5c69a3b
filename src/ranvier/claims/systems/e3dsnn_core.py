"""Where sparse convolution beats dense convolution on the CPU, by occupancy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Figure, Metric, Outcome, Scale, Trial, bars

if TYPE_CHECKING:
    from ranvier.claims import Table


def run(trial: Trial) -> dict[str, Outcome]:
    """Time forward and backward of both at every occupancy of one grid, in turns, and keep the fastest of each."""
    import torch
    import torch.nn.functional as F

    from ranvier.ops.sparse_conv import kernel_map, sparse_conv

    torch.set_num_threads(1)  # the runner sets it back
    side, channels = trial.settings["side"], trial.settings["channels"]
    torch.manual_seed(trial.seed)
    weight = torch.randn(27, channels, channels, requires_grad=True)
    dense_weight = weight.detach().permute(2, 1, 0).unflatten(2, (3, 3, 3)).contiguous().requires_grad_()
    volume = torch.randn(1, channels, side, side, side, requires_grad=True)
    grad = torch.randn_like(volume)

    def dense() -> None:
        F.conv3d(volume, dense_weight, padding=1).backward(grad)

    dense_ms = _fastest(dense, trial.settings["repeats"])
    outcomes: dict[str, Outcome] = {}
    for arm in trial.arms:
        share = arm.settings["occupancy"]
        place = torch.randperm(side**3)[: round(share * side**3)].sort().values
        axes = [place // side**i % side for i in (2, 1, 0)]
        coords = torch.stack([torch.zeros_like(place), *axes], 1)
        kmap = kernel_map(coords, 3)
        feats = torch.randn(len(coords), channels, requires_grad=True)
        back = torch.randn(len(coords), channels)

        def sparse(feats: torch.Tensor = feats, back: torch.Tensor = back, kmap: object = kmap) -> None:
            sparse_conv(feats, weight, kmap).backward(back)  # pyright: ignore[reportArgumentType]

        sparse_ms = _fastest(sparse, trial.settings["repeats"])
        map_ms = _fastest(lambda c=coords: kernel_map(c, 3), trial.settings["repeats"])
        outcomes[arm.name] = Outcome({
            "gain": dense_ms / sparse_ms, "with_map": dense_ms / (sparse_ms + map_ms), "sparse_ms": sparse_ms,
            "map_ms": map_ms, "dense_ms": dense_ms, "pairs": kmap.pairs / len(coords),
        })  # fmt: skip
    return outcomes


def _fastest(work: Callable[[], object], repeats: int) -> float:
    """The least process time of some runs, ms: what others do on the machine does not count."""
    work()
    found: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1e3 * min(found)


def _figures(table: Table) -> Sequence[Figure]:
    return [bars(table, "gain"), bars(table, "with_map")]


_SHARES = (2, 5, 10, 20, 50, 95)
CLAIM = Claim(
    name="e3dsnn_core",
    title="Sparse convolution beats dense convolution below a fifth of the voxels",
    system="e3dsnn",
    paper="X. Qiu et al. (2025), Efficient 3D Recognition with Event-driven Spike Sparse Convolution, AAAI 2025",
    statement="Work on occupied voxels only makes 3-D recognition cheap, since almost all of space is empty.",
    question="On a CPU, up to which share of occupied voxels is gather, multiply, scatter faster than a "
    "dense convolution, "
    "forward and backward, the search for neighbours included?",
    data="A grid of 32 voxels on every side, voxels occupied at random (the worst case for neighbours), 32 "
    "channels, kernel "
    "3, one thread. LiDAR sweeps occupy well below 1 % of their grid.",
    arms=tuple(Arm(f"p{share}", f"{share} % occupied", {"occupancy": share / 100}) for share in _SHARES),
    metrics=(
        Metric("gain", "Dense time over sparse time, forward and backward", "x", digits=1),
        Metric("with_map", "The same with the kernel map made anew each time", "x", digits=1),
        Metric("sparse_ms", "Sparse, forward and backward", "ms", higher_is_better=False, digits=1),
        Metric("map_ms", "Kernel map", "ms", higher_is_better=False, digits=2),
        Metric("dense_ms", "Dense, forward and backward", "ms", higher_is_better=False, digits=1),
        Metric("pairs", "Pairs a voxel", higher_is_better=None, digits=1),
    ),
    rules=(
        Bound("gain", "p2", at_least=10),
        Bound("gain", "p10", at_least=2),
        Bound("gain", "p20", at_least=1),
        Bound("with_map", "p20", at_least=1),
        Bound("gain", "p95", at_most=1, essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=2, settings={"side": 32, "channels": 32, "repeats": 4})},
    run=run,
    joint=True,
    figures=_figures,
)  # fmt: skip
