"""What is here and what is not: versions, devices, kernels, optional packages, data; and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

import ranvier
from ranvier.measure.machine import available_cores, processor

Status = Literal["ok", "note", "problem"]
OLDEST_TORCH = (2, 6)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do and is empty where nothing has to be done."""

    area: str
    subject: str
    status: Status
    found: str
    remedy: str = ""


def examine(data_root: str | Path | None = None) -> list[Finding]:
    """Everything, in the order of a first look: what runs, on what, how fast, and what is missing."""
    return [*_versions(), *_devices(), *_kernels(), *_extras(), *_data(data_root), _cache()]


def _versions() -> list[Finding]:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    old = version < OLDEST_TORCH
    return [
        Finding("versions", "Ranvier", "ok", f"{ranvier.__version__} in {Path(ranvier.__file__).parent}"),
        Finding("versions", "Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding(
            "versions", "PyTorch", "problem" if old else "ok", torch.__version__,
            f"Ranvier needs PyTorch {'.'.join(map(str, OLDEST_TORCH))} or newer" if old else "",
        ),
    ]  # fmt: skip


def _devices() -> list[Finding]:
    cores, threads = available_cores(), torch.get_num_threads()
    spread = Finding("devices", "processor", "ok", f"{processor()}, {cores} cores, {threads} threads in use")
    if threads > cores:
        spread = Finding(
            "devices", "processor", "problem", f"{spread.found}",
            f"more threads than cores make everything slower: set OMP_NUM_THREADS={cores}",
        )  # fmt: skip
    found = [spread]
    if not torch.cuda.is_available():
        return [
            *found,
            Finding("devices", "CUDA", "note", "none that PyTorch can use; everything runs on the processor"),
        ]
    for index in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(index)
        found.append(Finding("devices", f"cuda:{index}", "ok", f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB"))
    return found


def _kernels() -> list[Finding]:
    from ranvier.ops import team
    from ranvier.ops.backend import use_kernels

    if not use_kernels("cpu"):
        found = [
            Finding(
                "kernels", "processor", "note", "RANVIER_BACKEND=reference: plain PyTorch, slow",
                "unset RANVIER_BACKEND for the fused kernels",
            )
        ]  # fmt: skip
    else:
        found = [Finding("kernels", "processor", *_agreement("cpu", f"Numba {metadata.version('numba')}"))]
        shared = team._gnu_openmp() is not None
        found.append(
            Finding("kernels", "threads", "ok", "those of PyTorch (GNU OpenMP)" if shared else "a pool of its own")
        )
    if torch.cuda.is_available():
        if use_kernels("cuda"):
            found.append(Finding("kernels", "CUDA", *_agreement("cuda", f"Triton {metadata.version('triton')}")))
        else:
            found.append(
                Finding("kernels", "CUDA", "problem", "no Triton: neurons run step by step", "pip install triton")
            )
    return found


def _agreement(device: str, name: str) -> tuple[Status, str, str]:
    """Run the fused LIF beside its definition: equal spikes, and how much faster."""
    from ranvier.measure.timing import latency
    from ranvier.neurons import LIF

    x = torch.randn(64, 16, 256, generator=torch.Generator().manual_seed(0)).to(device)
    neuron = LIF()
    times: dict[str, float] = {}
    spikes: dict[str, torch.Tensor] = {}
    before = os.environ.get("RANVIER_BACKEND")
    try:
        for backend in ("auto", "reference"):
            os.environ["RANVIER_BACKEND"] = backend
            spikes[backend] = neuron(x)
            times[backend] = latency(neuron, x, runs=5, time_first=True).median_ms
    except Exception as error:  # whatever a broken compiler or driver raises is the finding
        return "problem", f"{name} fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}", (
            "reinstall it, or set RANVIER_BACKEND=reference to go on without kernels"
        )  # fmt: skip
    finally:
        if before is None:
            os.environ.pop("RANVIER_BACKEND", None)
        else:
            os.environ["RANVIER_BACKEND"] = before
    if not torch.equal(spikes["auto"], spikes["reference"]):
        return "problem", f"{name} gives other spikes than the definition", "please report this with the lines above"
    fused, stepwise = times["auto"], times["reference"]
    return "ok", f"{name}: LIF over 64 steps in {fused:.2f} ms, step by step in {stepwise:.1f} ms", ""


def _extras() -> list[Finding]:
    wanted: dict[str, set[str]] = {}
    for line in metadata.requires("ranvier") or []:
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", line)
        package = re.match(r"[\w.-]+", line)
        if extra and package and package[0] != "ranvier" and extra[1] not in ("dev", "all"):
            wanted.setdefault(extra[1], set()).add(package[0])
    found: list[Finding] = []
    for extra, packages in wanted.items():
        missing = sorted(p for p in packages if not _installed(p))
        found.append(
            Finding("extras", extra, "note", f"missing: {', '.join(missing)}", f"pip install 'ranvier[{extra}]'")
            if missing
            else Finding("extras", extra, "ok", ", ".join(sorted(packages)))
        )
    return found


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _data(root: str | Path | None) -> list[Finding]:
    from ranvier.data import list_datasets

    given = os.environ.get("RANVIER_DATA") if root is None else str(root)
    if given and not Path(given).is_dir():
        return [Finding("data", "RANVIER_DATA", "problem", f"{given} is not a folder", "point it to your data sets")]
    remedy = "" if given else "set RANVIER_DATA to the folder of your data sets"
    found = [Finding("data", "RANVIER_DATA", "ok" if given else "note", given or "not set", remedy)]
    infos = list_datasets(root)
    here = [info.name for info in infos if info.available]
    away = [info.name for info in infos if not info.available]
    found.append(Finding("data", "here", "ok", ", ".join(here) or "none"))
    if away:
        found.append(Finding("data", "not here", "note", ", ".join(away), "ranvier data says where to get each"))
    return found


def _cache() -> Finding:
    from ranvier.data.cache import cache_folder

    folder = cache_folder()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        return Finding(
            "cache", "folder", "problem", f"{folder} cannot be written", "set RANVIER_CACHE to a folder of your own"
        )
    return Finding("cache", "folder", "ok", str(folder))
