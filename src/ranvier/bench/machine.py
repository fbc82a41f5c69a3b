"""The machine a cell ran on, as the result file wants it."""

from __future__ import annotations

import platform

import torch

import ranvier
from ranvier.bench.result import Environment
from ranvier.measure.machine import available_cores, processor


def environment(threads: int, device: str = "cpu") -> Environment:
    """The machine and the versions, as the result file wants them."""
    return Environment(
        ranvier=ranvier.__version__, torch=torch.__version__, python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}", processor=processor(),
        cores=available_cores(), threads=threads, device=device,
    )  # fmt: skip
