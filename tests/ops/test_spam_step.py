"""The kernels of the SPAM update against the plain form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ranvier.ops.spam_step import SpamUpdate, numba_cpu, spam_step, spam_step_reference

UPDATES = [
    {"root": None}, {"root": 2.0}, {"root": 2.0, "guard": False}, {"root": 2.0, "zero": True},
    {"root": 2.0, "maximize": True, "decay": 0.1},
]  # fmt: skip


def tensors(size: int, dtype: torch.dtype) -> list[Tensor]:
    p, g, m, v = torch.randn(size), torch.randn(size) * 3, torch.randn(size), torch.rand(size)
    v[::5] = 0
    return [t.to(dtype) for t in (p, g, m, v)]


@pytest.mark.parametrize("options", UPDATES)
@pytest.mark.parametrize("size", [1, 5, 9000])
@pytest.mark.parametrize("kernels", ["numba_cpu", "triton_cuda"])
def test_kernels(options: dict[str, Any], size: int, kernels: str) -> None:
    if kernels == "triton_cuda":
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            pytest.skip("the interpreter runs without a GPU")
        from ranvier.ops.spam_step import triton_cuda as module
    else:
        module = numba_cpu
    update = SpamUpdate(**{"beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "decay": 0.0, **options})
    own = tensors(size, torch.float64)
    plain = [t.clone() for t in own]
    found = module.update(*own, 0.1, update)
    counted = spam_step_reference(*([t] for t in plain), [0.1], update)
    assert int(found) == (int(counted[0]) if counted else 0)
    for a, b in zip(own, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_and_empty_tensors_run(dtype: torch.dtype) -> None:
    p, g, m, v = tensors(10, torch.float32)
    p, g = p.to(dtype), g.to(dtype)
    start = p.clone()
    empty = torch.zeros(0)
    counts = spam_step(
        [p, empty], [g, empty], [m, empty], [v, empty], [0.1, 0.1], SpamUpdate(0.9, 0.99, 1e-6, 0.0, 2.0)
    )  # fmt: skip
    assert counts[1] == 0 and not torch.equal(p, start) and p.dtype == dtype
