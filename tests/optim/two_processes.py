"""SPAM and Stable-SPAM on weights sharded over two processes (FSDP2), beside the same steps in one process."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ranvier.optim import SPAM, StableSPAM
from ranvier.train.sharding import _complete_streams

STEPS = 15


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def make(kind: str, parameters: Any) -> torch.optim.Optimizer:
    if kind == "stable":
        return StableSPAM(parameters, lr=0.05, reset_interval=6)
    density = 0.5 if kind == "sparse" else 1.0
    policy = "skip" if kind == "skip" else "raise"
    return SPAM(
        parameters, lr=0.05, reset_interval=6, warmup_steps=3, grace_steps=2, density=density, nan_policy=policy
    )  # fmt: skip


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, rank: int, world: int, spoil: bool) -> None:
    for t in range(STEPS):
        torch.manual_seed(100 + t)
        x, y = torch.randn(8, 6).double(), torch.randn(8, 4).double()
        if spoil and t == 4 and rank == world - 1:
            x[-1] = float("nan")
        loss = (module(x[rank::world]) - y[rank::world]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def whole(module: nn.Module) -> list[torch.Tensor]:
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in module.parameters()]


def run(rank: int, port: int, kinds: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for kind in kinds:
        check(kind, rank)
        dist.barrier()
        if rank == 0:
            print(kind, flush=True)
    dist.destroy_process_group()


def check(kind: str, rank: int) -> None:
    module = net()
    _complete_streams()  # PyTorch 2.6
    fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
    optimizer = make(kind, module.parameters())
    start = [t.clone() for t in whole(module)]
    steps(module, optimizer, rank, 2, kind == "skip")
    found = whole(module)
    if kind == "sparse":  # masks are drawn per shard: every process keeps its share of moments
        for p in module.parameters():
            entries = p.to_local().numel()
            moments = optimizer.state[p]["exp_avg"].numel()
            assert moments == (round(entries * 0.5) if p.dim() > 1 else p.numel())
        assert any(not torch.equal(a, b) for a, b in zip(start, found, strict=True))
    elif rank == 0:
        alone = net()
        steps(alone, make(kind, alone.parameters()), 0, 1, kind == "skip")
        for a, b in zip(found, whole(alone), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


if __name__ == "__main__":
    # not spawned: each process would take seconds to import PyTorch
    mp.start_processes(run, args=(int(sys.argv[1]), sys.argv[2:]), nprocs=2, start_method="fork")
