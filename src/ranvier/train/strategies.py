"""How a run is spread over processes: the Fabric of a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning_fabric.strategies.strategy import _BackwardSyncControl
from torch import nn

from ranvier.errors import ConfigError
from ranvier.train.launcher import Launcher
from ranvier.train.recipe import TrainSection
from ranvier.train.sharding import shard


class ShardedStrategy(DDPStrategy):
    """Fully sharded data parallelism (FSDP2, `torch.distributed.fsdp.fully_shard`) on CPUs (gloo) and GPUs (NCCL).

    Fabric's own strategy of that name is for GPUs alone and shards with FSDP1, which makes flat parameters: a rule such
    as "no decay for biases" or SPAM's per-tensor bookkeeping has nothing to hold on to there.
    """

    def __init__(self, start_method: Literal["popen", "spawn", "fork"] = "popen") -> None:
        super().__init__(start_method=start_method)
        self._backward_sync_control = _GradientSync()

    def setup_module(self, module: nn.Module) -> nn.Module:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Shard `module` in place; process 0's buffers are everyone's at each forward pass, as with DDP."""
        net = shard(module, self.root_device, self.num_nodes * self.num_processes)
        net.register_forward_pre_hook(_share_buffers)
        return net


class _GradientSync(_BackwardSyncControl):
    def no_backward_sync(self, module: nn.Module, enabled: bool) -> AbstractContextManager[None]:
        return _without_sync(cast(Any, module)) if enabled else _always()


@contextmanager
def _without_sync(module: Any) -> Iterator[None]:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


@contextmanager
def _always() -> Iterator[None]:
    yield


def _share_buffers(module: nn.Module, _inputs: Any) -> None:
    if module.training:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def outer_rank() -> int:
    """The number of this process where something outside (torchrun, SLURM) starts one for each device; else 0."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["RANK"])
    return int(os.environ["SLURM_PROCID"]) if _slurm() else 0


def started_outside() -> bool:
    """Whether torchrun or SLURM starts the processes."""
    return TorchElasticEnvironment.detect() or _slurm()


def _slurm() -> bool:
    return SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def build_fabric(train: TrainSection) -> Fabric:
    """The Fabric that a recipe asks for; `ConfigError` where this machine cannot do that."""
    if train.accelerator in ("cuda", "gpu") and torch.cuda.device_count() < train.devices:
        raise ConfigError(
            f"train.devices={train.devices} with train.accelerator={train.accelerator}, but this machine has "
            f"{torch.cuda.device_count()} CUDA devices; use train.accelerator=cpu or fewer devices"
        )
    on_cpu = train.accelerator == "cpu" or (train.accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and train.precision == "16-mixed":
        raise ConfigError("train.precision=16-mixed needs a GPU; on this machine use bf16-mixed or 32-true")
    if train.nodes > 1 and not started_outside():
        raise ConfigError(
            f"train.nodes={train.nodes}: start one process a device on every machine with torchrun or srun "
            f"(torchrun --nnodes={train.nodes} --nproc-per-node={train.devices} ... -m ranvier train ...)"
        )
    world = int(os.environ["WORLD_SIZE"]) if TorchElasticEnvironment.detect() else train.nodes * train.devices
    if world != train.nodes * train.devices:
        raise ConfigError(
            f"torchrun started {world} processes, but train.nodes={train.nodes} times train.devices={train.devices} "
            f"is {train.nodes * train.devices}"
        )
    try:
        fabric = Fabric(
            accelerator=train.accelerator, devices=train.devices, num_nodes=train.nodes, strategy=_strategy(train),
            precision=train.precision,
        )  # fmt: skip
    except (ValueError, RuntimeError, ImportError, TypeError) as error:
        raise ConfigError(f"train: this machine cannot do that ({' '.join(str(error).split())})") from error
    strategy = cast("Any", fabric.strategy)
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        strategy._launcher = Launcher(strategy, cast("Any", strategy.launcher)._start_method)
    return fabric


def _strategy(train: TrainSection) -> Any:
    if train.devices * train.nodes == 1:
        return "auto"
    outside = started_outside()
    kind, _, start = train.strategy.partition("_")
    if kind == "fsdp":
        method: Any = "popen" if outside else start or "spawn"
        return ShardedStrategy(method)
    if outside:
        return "ddp"
    return "ddp_spawn" if kind == "auto" or not start else train.strategy
