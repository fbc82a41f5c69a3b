"""The loop of one process: batches in, updates out, and everything that happens at the end of an epoch."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier.data import Augment, loader
from ranvier.data.loader import Batch
from ranvier.errors import ConfigError
from ranvier.layers import recompute
from ranvier.optim.finite import NonFiniteGradientError
from ranvier.train import assemble
from ranvier.train.average import WeightAverage
from ranvier.train.checkpoint import restore_module, save_weights
from ranvier.train.dense_augment import augment_dense
from ranvier.train.diagnose import NonFiniteError, blame, spoilt_part, unexplained
from ranvier.train.display import Display
from ranvier.train.evaluation import Evaluation
from ranvier.train.interrupt import Interrupted, StopRequest
from ranvier.train.journal import Journal
from ranvier.train.non_finite import NonFinitePolicy, Spoilt, first_reason, join_reasons, spoilt_samples
from ranvier.train.objective import objective_for
from ranvier.train.optimizer import build_optimizer, set_rates
from ranvier.train.phases import begin_epoch, constrained
from ranvier.train.progress import Best, Progress
from ranvier.train.random_state import seed_all
from ranvier.train.rates import RateMeter
from ranvier.train.recipe import Recipe
from ranvier.train.run import METRICS, TENSORBOARD, WEIGHTS, RunFolder, RunResult
from ranvier.train.sharding import gather, shard, whole
from ranvier.train.snapshot import Snapshot
from ranvier.train.start import start_from
from ranvier.train.sync_norm import share_statistics

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Session:
    """One process of a run (of `fabric.world_size` processes); process 0 writes the files."""

    def __init__(self, fabric: Fabric, recipe: Recipe, folder: RunFolder, request: StopRequest, progress: bool) -> None:
        self.fabric, self.recipe, self.folder, self.request = fabric, recipe, folder, request
        self.train = recipe.train
        self.world, self.rank = fabric.world_size, fabric.global_rank
        self.shown = progress and self.rank == 0
        seed_all(recipe.seed)  # the same weights in every process
        self.splits = assemble.load_splits(recipe)
        self.net = assemble.build_model(recipe, self.splits.bundle).to(fabric.device)
        if self.train.start is not None:
            start_from(self.net, self.train.start)
        self.objective = objective_for(recipe, self.net, self.splits)
        self.samples = self.objective.samples(self.splits.train)
        if self.train.precision == "64-true":
            self.net.double()
        self.average = WeightAverage(self.net, self.train.ema) if self.train.ema else None
        self.network = self.objective.network(self.net)
        self.constraints = constrained(self.net)
        self.meter = RateMeter(self.net)
        self.batches = self._batches_per_epoch()
        self.steps_per_epoch = math.ceil(self.batches / self.train.accumulate)
        self.total_steps = self.train.epochs * self.steps_per_epoch
        if self.train.max_steps is not None:
            self.total_steps = min(self.total_steps, self.train.max_steps)
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        seed_all(recipe.seed, self.rank)  # but other augmentation and dropout
        self.snapshot = Snapshot(fabric, self.net, self.network, self.average, folder.checkpoints, recipe.seed)
        self.snapshot.restore_weights()
        shards = self.world > 1 and self.train.strategy.startswith("fsdp")
        self.copy = deepcopy(self.net) if shards else None  # evaluated: its passes need no other process
        if self.train.recompute:
            recompute(self.net)
        if self.world > 1 and self.train.sync_norm:
            share_statistics(self.net)
        module = torch.compile(self.network) if self.train.compile else self.network
        self.model = fabric.setup_module(module)  # pyright: ignore[reportArgumentType]
        if self.average is not None and shards:
            shard(self.average.net, fabric.device, self.world)
        self.optimizer = build_optimizer(self.network, self.train, "" if self.network is self.net else "net.")
        self.stepper: Any = fabric.setup_optimizers(self.optimizer)
        self.non_finite = NonFinitePolicy(self.network, self.train.non_finite, self.train.non_finite_limit)
        self.at = self.snapshot.restore_training(self.optimizer) or Progress()
        self.started = time.perf_counter() - self.at.train_s

    def run(self) -> None:
        """Train to the end, then evaluate the selected weights on the test part, once."""
        if self.rank == 0 and self.splits.bundle.tokenizer is not None:
            self.folder.note_tokenizer(self.splits.bundle.tokenizer)
        path = self.folder.out / METRICS if self.rank == 0 else None
        board = self.folder.out / TENSORBOARD if self.recipe.log.tensorboard else None
        with (
            Journal(path, self.at.journal_bytes, board, self.at.step) as self.journal,
            Display(self.recipe.name, self.total_steps, self.epochs, self.at.step, self.shown) as self.display,
        ):
            if self.at.step:
                self.display.say(f"continuing at step {self.at.step} of {self.total_steps}")
            if self.snapshot.other_world is not None:
                self.journal.write({
                    "step": self.at.step, "processes": self.world, "processes_before": self.snapshot.other_world,
                })  # fmt: skip
            while self.at.step < self.total_steps:
                self._epoch(self.at.step // self.steps_per_epoch)
            self._finish()

    def _batches_per_epoch(self) -> int:
        count, size = len(self.splits.train), self.recipe.data.batch_size
        if count < size and self.world > 1:
            raise ConfigError(f"data.batch_size {size} is more than the {count} training samples")
        return max(1, count // size)

    def _epoch(self, epoch: int) -> None:
        """The updates of `epoch` that are still to do."""
        first = self.at.step - epoch * self.steps_per_epoch
        count = min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)
        augment = assemble.build_augment(self.recipe.data.augment, epoch)
        size = self.recipe.data.batch_size
        loaded = loader(
            self.samples, size // self.world, shuffle=True, seed=self.recipe.seed, epoch=epoch,
            drop_last=len(self.splits.train) >= size, start=first * self.train.accumulate,
            prefetch=self.recipe.data.prefetch, rank=self.rank, world=self.world,
            balance=self.splits.train.labels if self.recipe.data.balanced else None,
        )  # fmt: skip
        batches = zip(loaded, loaded.indices, strict=True)
        self.model.train()
        begin_epoch(self.net, epoch, self.epochs)
        for position in range(first, count):
            left = self.batches - position * self.train.accumulate
            group = [next(batches) for _ in range(min(self.train.accumulate, left))]
            self._update(group, augment, epoch)
            last = position == count - 1
            if last:
                self._end_epoch(epoch + 1)
            elif self.train.checkpoint_steps and self.at.step % self.train.checkpoint_steps == 0:
                self._checkpoint()
            if self.stop_asked and self.at.step < self.total_steps:
                self._interrupt()

    def _update(self, group: list[tuple[Batch, NDArray[np.int64]]], augment: Augment, epoch: int) -> None:
        """One step: forward and backward over the batches of `group`, then the optimizer."""
        lr = set_rates(self.optimizer, self.train, self.at.step, self.total_steps, self.steps_per_epoch)
        self.objective.begin_update(self.at.step, self.total_steps)
        self.non_finite.begin()
        sampled = self.at.step % self.recipe.log.every == 0
        sums = torch.zeros(5, dtype=torch.float64)  # loss, correct, samples, asked to stop, batches with NaN
        reasons: list[str | None] = []
        for number, ((x, y), places) in enumerate(group):
            x, y = (
                (augment.images(x), y) if self.splits.bundle.task == "classification" else augment_dense(augment, x, y)
            )
            reasons.append(spoilt_samples(x, int(self.samples.time_first), places, "the training part"))
            x, y = self.fabric.to_device((x, y))
            target = y
            if augment.mixup or augment.cutmix:
                x, target = augment.mix(x, y, self.splits.bundle.num_classes, self.train.label_smoothing)
            waits = self.world > 1 and number < len(group) - 1
            with self.fabric.no_backward_sync(self.model, enabled=True) if waits else nullcontext():  # pyright: ignore[reportArgumentType]
                with self.meter.watching(sampled and number == 0 and not self.train.compile):
                    loss, right = self.objective.loss(self.model, x, y, target)
                self.fabric.backward(loss / len(group))
            bad = reasons[-1] is not None
            sums += torch.tensor([loss.item() * len(y), right.item(), len(y), 0, bad], dtype=torch.float64)
        sums[3] = float(self.request.asked)
        if self.world > 1:
            sums = self._sum(sums.to(self.fabric.device)).cpu()
        self.stop_asked = bool(sums[3])
        spoilt = self._spoilt(sums) or self._step()
        if spoilt is not None:
            self._skip(spoilt, join_reasons(reasons), group[-1][0][0])
            return
        self.stepper.zero_grad()
        for constrain in self.constraints:
            constrain()
        self.at.step += 1
        if self.average is not None:
            self.average.update(self.net, self.at.step)
        loss, correct, samples, *_ = sums.tolist()
        rate = self.meter.take() if sampled else None
        self.at.add(loss, correct, samples, rate)
        if sampled:
            entry = {"step": self.at.step, "lr": lr, "loss": loss / samples}
            self.journal.write(entry if rate is None else {**entry, "firing_rate": rate})
        loss, accuracy, rate = self.at.means()
        self.display.step(self.at.step, epoch, loss, accuracy if self.objective.classifies else None, rate)

    stop_asked = False

    def _spoilt(self, sums: Tensor) -> Spoilt | None:
        """Clip the gradients; what of an update is not finite, the same in every process.

        A finite loss is not enough: a neuron whose membrane is NaN is silent, so that a dead net looks like a bad one.
        """
        if sums[4]:
            return "input"
        if not math.isfinite(sums[0].item()):
            return "loss"
        if self.train.clip_norm:
            norm = self.fabric.clip_gradients(
                self.model, self.stepper, max_norm=self.train.clip_norm, error_if_nonfinite=False
            )
        elif hasattr(self.optimizer, "nan_policy"):
            return None  # it looks itself, and may clip an infinity
        else:
            norm = nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        scaled = self.train.precision == "16-mixed"  # there an overflow is expected, and the scaler skips the step
        if norm is not None and not scaled and not math.isfinite(float(whole(norm))):
            return "gradient"
        return None

    def _step(self) -> Spoilt | None:
        """Update the weights, unless the optimizer finds a gradient that it cannot take."""
        try:
            self.stepper.step()
        except NonFiniteGradientError:
            return "gradient"
        return None

    def _skip(self, spoilt: Spoilt, reason: str | None, x: Tensor) -> None:
        """Leave an update out, or stop."""
        found = reason is not None
        net = self.net if self.copy is None else gather(self.net, self.copy)
        if reason is None:
            with torch.random.fork_rng(devices=[self.fabric.device] if self.fabric.device.type == "cuda" else []):
                reason = blame(net, self.fabric.to_device(x), self.network)
        if self.world > 1:
            reason = first_reason(reason, found or (spoilt != "input" and not unexplained(reason)), self.fabric.device)
        self.meter.take()
        self.non_finite.undo()
        self.at.skip()
        epoch = (self.at.step - 1) // self.steps_per_epoch + 1
        self.non_finite.stops(self.at.step, epoch, spoilt, reason, self.at.skipped_in_a_row, self.folder.out)
        self.journal.write({"step": self.at.step, "skipped": spoilt, "reason": reason})
        self.display.say(f"step {self.at.step} skipped: the {spoilt} is not finite: {reason}")

    def _end_epoch(self, done: int) -> None:
        """Validate, write the line of the epoch, keep a checkpoint when one is due."""
        lr = self.optimizer.param_groups[0]["lr"]
        if not self.at.samples:
            raise NonFiniteError(f"every update of epoch {done} was skipped, because none was finite; see {METRICS}")
        loss, accuracy, rate = self.at.means()
        entry: dict[str, Any] = {
            "epoch": done, "step": self.at.step, "lr": lr, "train_loss": loss,
        }  # fmt: skip
        if self.objective.classifies:
            entry["train_accuracy"] = accuracy
        if rate is not None:
            entry["firing_rate"] = rate
        if self.at.skipped:
            entry["skipped_updates"] = self.at.skipped
        entry |= self.objective.notes()
        improved = False
        if self.splits.validation is not None:
            found = self._measure(self._evaluated(), self.splits.validation)
            entry["val_loss"] = found.loss
            if found.deciding is not None:
                entry[f"val_{found.deciding[0]}"] = found.deciding[1]
            improved = self.at.consider(Best(self.at.step, done, (found.deciding or ("", 0.0))[1], found.loss))
        self.journal.write(entry)
        self.display.epoch(entry)
        self.at.start_epoch()
        every = self.train.checkpoint_epochs
        if improved or self.at.step == self.total_steps or (every and done % every == 0):
            self._checkpoint()
        self.model.train()

    def _evaluated(self) -> nn.Module:
        net = self.net if self.average is None else self.average.net
        return net if self.copy is None else gather(net, self.copy)

    def _measure(self, net: nn.Module, dataset: Any) -> Evaluation:
        if self.world > 1:
            for buffer in net.buffers():  # running statistics differ between processes until the next forward pass
                torch.distributed.broadcast(buffer, 0)
        found = self.objective.measure(
            net, dataset, self.recipe.data.eval_batch_size, device=self.fabric.device, seed=self.recipe.seed,
            autocast=self.fabric.autocast, rank=self.rank, world=self.world,
            reduce=self._sum if self.world > 1 else None,
        )  # fmt: skip
        if not math.isfinite(found.loss):
            raise NonFiniteError(f"the loss is not finite when the net is evaluated: {spoilt_part(net, dataset)}")
        return found

    def _sum(self, tensor: Tensor) -> Tensor:
        return self.fabric.all_reduce(tensor, reduce_op="sum")  # pyright: ignore[reportReturnType]

    def _checkpoint(self) -> None:
        self.at.train_s = time.perf_counter() - self.started
        self.at.journal_bytes = self.journal.sync()
        self.snapshot.save(self.at, self.optimizer)

    def _interrupt(self) -> None:
        if self.snapshot.saved_step != self.at.step:
            self._checkpoint()
        raise Interrupted(
            f"stopped after step {self.at.step} of {self.total_steps}; the same command continues the run in "
            f"{self.folder.out}"
        )

    def _finish(self) -> None:
        """The selected weights, and the only place that asks for the test part."""
        net = self._evaluated()
        best = self.at.best
        if best is not None and best.step != self.at.step:  # or it is the net that was just evaluated
            restore_module(net, self.snapshot.weights_of_best(), "the best checkpoint")
        if self.rank == 0:
            save_weights(self.folder.out / WEIGHTS, net.state_dict())
        test = self._measure(net, self.splits.test)
        if self.rank == 0:
            result = RunResult(
                out=self.folder.out, name=self.recipe.name, seed=self.recipe.seed, recipe_hash=self.recipe.hash(),
                epochs=self.epochs, steps=self.at.step, selected_epoch=self.epochs if best is None else best.epoch,
                selection="last" if best is None else "validation",
                validation=None if best is None else self._figures(best, test), test=test,
                params=sum(p.numel() for p in self.net.parameters() if p.requires_grad),
                model=self.snapshot.model, fingerprint=self.splits.bundle.fingerprint,
                train_s=self.at.train_s, eval_s=test.seconds,
            )  # fmt: skip
            self.folder.finish(result)
            name, value = test.deciding or ("loss", test.loss)
            figure = f"{name} {value:.4f}" if name == "loss" else f"{name} {value:.2%}"
            self.display.say(f"test {figure} (weights of epoch {result.selected_epoch})")
        self.fabric.barrier()

    def _figures(self, best: Best, test: Evaluation) -> dict[str, float]:
        return ({test.deciding[0]: best.accuracy} if test.deciding else {}) | {"loss": best.loss}
