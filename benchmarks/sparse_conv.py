"""Sparse convolution on real scenes: time against active voxels, beside dense `conv3d` and the CPU path of spconv.

`RANVIER_DATA=... python -m benchmarks sparse_conv [--threads 1] [--channels 16 32 64] [--rounds 5]` reads the KITTI,
nuScenes and ScanNet scenes of that folder, voxelises each at several sizes, and times the kernel map (spconv makes its
own inside the call), the submanifold 3 x 3 x 3 convolution forward, and forward with backward. No figure is printed
unless outputs agree with spconv's (1e-3) and with a dense convolution of a crop (1e-4). Times are those of the process,
so that others on the machine count little.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.timing import in_turn, store
from ranvier.data.points import read_sweep
from ranvier.layers.sparse import voxelize
from ranvier.ops.sparse_conv import kernel_map, sparse_conv

SCENES = (
    ("KITTI", "lidar/kitti_000008.bin", 4, (0.8, 0.2, 0.1, 0.05)),
    ("nuScenes", "lidar/nuscenes_sample.pcd.bin", 5, (1.6, 0.4, 0.2, 0.1)),
    ("ScanNet", "lidar/scannet_scene0000_00.bin", 6, (0.16, 0.08, 0.04, 0.02)),
)
CROP = 24  # voxels a side of the crop that is compared with a dense convolution


def dense_agrees(coords: torch.Tensor, feats: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the sparse convolution of a crop is the dense one."""
    middle = coords[len(coords) // 2, 1:]
    inside = ((coords[:, 1:] - middle).abs() < CROP // 2).all(1)
    own = coords[inside]
    local = own[:, 1:] - own[:, 1:].amin(0)
    volume = torch.zeros(1, feats.shape[1], *(local.amax(0) + 1).tolist())
    at = (slice(None), *local.long().unbind(1))
    volume[0][at] = feats[inside].T
    kernel = weight.permute(2, 1, 0).unflatten(2, (3, 3, 3))
    expected = F.conv3d(volume, kernel, padding=1)[0][at].T
    return torch.allclose(sparse_conv(feats[inside], weight, kernel_map(own, 3)), expected, atol=1e-4, rtol=1e-4)


def peer(coords: torch.Tensor, feats: torch.Tensor, weight: torch.Tensor) -> tuple[Any, Any] | None:
    """spconv's layer with our weights and its input, or None where it is not installed."""
    try:
        import spconv.pytorch as spconv
    except ImportError:
        return None
    own = coords.clone()
    own[:, 1:] -= own[:, 1:].amin(0)
    layer = spconv.SubMConv3d(weight.shape[1], weight.shape[2], 3, bias=False, indice_key="a")
    with torch.no_grad():
        layer.weight.copy_(weight.permute(2, 0, 1).unflatten(1, (3, 3, 3)))
    x = spconv.SparseConvTensor(feats, own.int().contiguous(), (own[:, 1:].amax(0) + 1).tolist(), 1)
    return layer, x


def rows_of(scene: str, coords: torch.Tensor, channels: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    n = len(coords)
    feats = torch.randn(n, channels)
    weight = torch.randn(27, channels, channels) / (27 * channels) ** 0.5
    kmap = kernel_map(coords, 3)
    if not dense_agrees(coords, feats, weight):
        raise SystemExit(f"{scene}: the sparse convolution differs from the dense one; no figures")
    leaf, w = feats.clone().requires_grad_(), weight.clone().requires_grad_()
    grad = torch.randn(n, channels)
    contenders: dict[str, Any] = {
        "map": lambda: kernel_map(coords, 3),
        "forward": lambda: sparse_conv(feats, weight, kmap),
        "both": lambda: sparse_conv(leaf, w, kmap).backward(grad),
    }
    made = peer(coords, feats, weight)
    if made is not None:
        layer, x = made
        with torch.no_grad():
            ours, theirs = sparse_conv(feats, weight, kmap), layer(x).features
            if not torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3):
                raise SystemExit(f"{scene}: spconv gives something else; no figures")

        def fresh() -> None:
            import spconv.pytorch as spconv

            with torch.no_grad():
                layer(spconv.SparseConvTensor(feats, x.indices, x.spatial_shape, 1))

        def cached() -> None:
            with torch.no_grad():
                layer(x)

        contenders |= {"spconv_map_and_forward": fresh, "spconv_forward": cached}
    found, _ = in_turn(contenders, rounds, time.process_time)
    row: dict[str, Any] = {"scene": scene, "voxels": n, "pairs": kmap.pairs, "channels": channels}
    return row | {f"{name}_ms": 1e3 * seconds for name, seconds in found.items()}


def dense_ms(shape: list[int], channels: int, rounds: int) -> float | None:
    """A dense convolution of the bounding box, where that fits into 2 GB."""
    cells = shape[0] * shape[1] * shape[2]
    if cells * channels * 4 > 5e8:
        return None
    volume, kernel = torch.zeros(1, channels, *shape), torch.randn(channels, channels, 3, 3, 3)
    with torch.no_grad():
        found, _ = in_turn({"dense": lambda: F.conv3d(volume, kernel, padding=1)}, min(2, rounds), time.process_time)
    return 1e3 * found["dense"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = os.environ.get("RANVIER_DATA")
    if not folder:
        raise SystemExit("error: set RANVIER_DATA to the folder with lidar/")
    rows: list[dict[str, Any]] = []
    for scene, name, columns, sizes in SCENES:
        points = torch.from_numpy(read_sweep(Path(folder) / name, columns))[:, :3].contiguous()
        for size in sizes:
            x, _ = voxelize(points, None, size)
            for channels in options.channels:
                row = rows_of(f"{scene} {size:g} m", x.coords, channels, options.rounds)
                row["occupancy"] = len(x) / torch.tensor(x.spatial_shape).prod().item()
                row["dense_forward_ms"] = dense_ms(list(x.spatial_shape or ()), channels, options.rounds)
                rows.append(row)
                shown = [f"{row['scene']:<16} {len(x):>7} voxels C={channels:<3}"]
                shown += [f"{k.removesuffix('_ms')} {v:.2f}" for k, v in row.items() if k.endswith("_ms") and v]
                if "spconv_forward_ms" in row:
                    shown.append(f"spconv/ours {row['spconv_forward_ms'] / row['forward_ms']:.1f}x")
                print("  ".join(shown), flush=True)
    for scene, *_ in SCENES:
        own = [r for r in rows if r["scene"].startswith(scene) and r["channels"] == options.channels[-1]]
        per = [f"{1e6 * r['forward_ms'] / r['voxels']:.0f}" for r in own]
        print(f"{scene}: forward, ns a voxel from coarse to fine: {', '.join(per)}")
    print(store("sparse_conv", f"python -m benchmarks sparse_conv --threads {options.threads}", rows))


if __name__ == "__main__":
    main()
