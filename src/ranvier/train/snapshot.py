"""All that a run is made of, into a checkpoint and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn, optim

from ranvier.errors import CheckpointError
from ranvier.models import SpikingClassifier
from ranvier.train.average import WeightAverage
from ranvier.train.checkpoint import (
    CheckpointFolder,
    optimizer_tensors,
    part,
    restore_module,
    restore_optimizer,
)
from ranvier.train.progress import Progress
from ranvier.train.random_state import random_state, restore_random_state, seed_all
from ranvier.train.sharding import whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Snapshot:
    """Weights, their average, the optimizer, the random generators of every process, the loss scaler, the progress."""

    def __init__(
        self, fabric: Fabric, net: SpikingClassifier, network: nn.Module, average: WeightAverage | None,
        checkpoints: CheckpointFolder, seed: int,
    ) -> None:  # fmt: skip
        self.fabric, self.net, self.average, self.seed = fabric, net, average, seed
        self.network = network  # `net`, or what an objective puts around it, where it is the submodule "net"
        self.checkpoints = checkpoints
        self.saved_step = -1
        self.other_world: int | None = None  # processes that wrote the checkpoint, where they were more or fewer
        self.model: dict[str, Any] = net.config  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
        self._found: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def save(self, at: Progress, optimizer: optim.Optimizer) -> None:
        """Write a checkpoint of this moment; called by every process, at the same step. Its tensors are whole."""
        tensors = {f"rng.{self.fabric.global_rank}.{key}": value for key, value in random_state().items()}
        if self.fabric.world_size > 1:
            tensors = self._of_all_processes(random_state())
        tensors |= {f"model.{key}": whole(value) for key, value in self.net.state_dict().items()}
        tensors |= {f"around.{key}": whole(value) for key, value in self._around().items()}
        if self.average is not None:
            tensors |= {f"ema.{key}": whole(value) for key, value in self.average.net.state_dict().items()}
        tensors |= {f"optimizer.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        if self.fabric.global_rank == 0:
            numbers = {
                "progress": at.to_json(), "scaler": self._scaler_state(), "model": self.model,
                "processes": self.fabric.world_size,
            }  # fmt: skip
            self.checkpoints.save(at.step, tensors, numbers, None if at.best is None else at.best.step)
        self.saved_step = at.step
        self.fabric.barrier()

    def restore_weights(self) -> None:
        """Put weights and their average back from the newest checkpoint, if there is one, into nets that are whole."""
        self._found = self.checkpoints.latest()
        if self._found is None:
            return
        tensors = self._found[0]
        restore_module(self.net, part(tensors, "model."), "the checkpoint")
        if self.network is not self.net:
            inner = {f"net.{key}": value for key, value in self.net.state_dict().items()}
            restore_module(self.network, {**inner, **part(tensors, "around.")}, "the checkpoint")
        if self.average is not None:
            restore_module(self.average.net, part(tensors, "ema."), "the checkpoint's average")

    def restore_training(self, optimizer: optim.Optimizer) -> Progress | None:
        """Then the rest: moments, generators, progress (also from a checkpoint of more or fewer processes)."""
        if self._found is None:
            return None
        (tensors, numbers), self._found = self._found, None
        world, rank = self.fabric.world_size, self.fabric.global_rank
        try:
            restore_optimizer(optimizer, part(tensors, "optimizer."))
            at = Progress.from_json(numbers["progress"])
            if numbers["scaler"]:
                self.fabric._precision.load_state_dict(numbers["scaler"])
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {numbers['step']} does not fit this run ({error})"
            ) from error
        if numbers.get("processes", world) != world:
            self.other_world = numbers["processes"]
        own = part(tensors, f"rng.{rank}.")
        if own or self.other_world is None:
            restore_random_state(own)
        else:
            seed_all(self.seed, rank, at.step)
        self.saved_step = at.step
        return at

    def _around(self) -> dict[str, Tensor]:
        if self.network is self.net:
            return {}
        return {key: value for key, value in self.network.state_dict().items() if not key.startswith("net.")}

    def weights_of_best(self) -> dict[str, Tensor]:
        """The state dict that was evaluated at the best epoch."""
        found = self.checkpoints.best()
        if found is None:
            raise CheckpointError("the best checkpoint of the run is gone")
        tensors, _ = found
        return part(tensors, "model." if self.average is None else "ema.")

    def _of_all_processes(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        gathered: dict[str, Tensor] = {}
        for key, value in own.items():
            own_value = value.to(self.fabric.device)
            states = [torch.empty_like(own_value) for _ in range(self.fabric.world_size)]
            torch.distributed.all_gather(states, own_value)
            gathered |= {f"rng.{rank}.{key}": state.to("cpu", torch.uint8) for rank, state in enumerate(states)}
        return gathered

    def _scaler_state(self) -> dict[str, Any]:
        return dict(self.fabric._precision.state_dict())
