"""Distillation from a float teacher of the same macro-architecture: queries, keys and values block by block, logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.errors import ArgumentError, ConfigError, ShapeError
from ranvier.layers import SpikingAttention
from ranvier.train.evaluation import Evaluation
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.recipe import DistillSection

Mode = Literal["gram", "mse", "none"]


def gram_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`‖G(X_S) − G(X_A)‖` with `G(X) = X Xᵀ / ‖X Xᵀ‖`, summed over heads, mean over samples; X `[B, heads, N, d]`.

    Zero for equal similarities between tokens: scale and rotation of the channels do not matter.
    """
    both = [_normalised_gram(x) for x in (student, teacher)]
    return torch.linalg.vector_norm(both[0] - both[1], dim=(-2, -1)).sum(1).mean()


def standardised_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square difference after every channel has been given mean 0 and deviation 1; X `[B, heads, N, d]`."""
    a, b = (_standardised(x) for x in (student, teacher))
    return F.mse_loss(a, b)


class FineGrainedDistillation(nn.Module):
    """FGD: match queries, keys and values of every attention to those of a teacher (Qiu et al., ICLR 2025, figure 3).

    The publication's formula is not public; this is the distribution-guided distillation of the related Q-ViT (Li et
    al., NeurIPS 2022): normalised Gram matrices over tokens, one a head, spikes averaged over time.

        fgd = FineGrainedDistillation(teacher)
        with fgd.watching(student):
            logits = student(x)
        loss = cross_entropy(logits, y) + 0.1 * fgd(x)

    Args:
        teacher: a net with as many attentions, heads, tokens and channels; it is not trained, and runs in eval mode.
        taps: which projections of each attention.
        mode: "gram", "mse" (after standardising each channel) or "none".
    """

    def __init__(self, teacher: nn.Module, taps: Sequence[str] = ("q", "k", "v"), mode: Mode = "gram") -> None:
        super().__init__()
        if mode not in ("gram", "mse", "none"):
            raise ArgumentError(f"mode must be 'gram', 'mse' or 'none', got {mode!r}")
        self._teacher = [teacher.eval().requires_grad_(False)]  # not a submodule: it is neither trained nor saved
        self.taps = tuple(taps)
        self.mode: Mode = mode
        self._student: list[Tensor] = []
        self.teacher_logits: Tensor | None = None
        attentions(teacher, self.taps)

    @property
    def teacher(self) -> nn.Module:
        """The teacher."""
        return self._teacher[0]

    @contextmanager
    def watching(self, student: nn.Module) -> Iterator[None]:
        """Collect the student's taps in the passes inside; the last pass counts."""
        self._student = []
        with _tapped(student, self.taps) as found:
            yield
        self._student = list(found)

    def forward(self, x: Tensor) -> Tensor:
        """The distance to the teacher on the same input `x`: a sum over blocks and taps. Keeps `teacher_logits`."""
        with torch.no_grad(), _tapped(self.teacher, self.taps) as theirs:
            self.teacher_logits = self.teacher(x)
        ours, self._student = self._student, []
        if self.mode == "none":
            return x.new_zeros(())
        if not ours:
            raise ArgumentError("the student has not been watched: run it inside `watching(student)` before this call")
        if len(ours) != len(theirs):
            raise ShapeError(f"the student has {len(ours)} taps, the teacher {len(theirs)}: their depths differ")
        distance = gram_distance if self.mode == "gram" else standardised_distance
        total = x.new_zeros(())
        for a, b in zip(ours, theirs, strict=True):
            if a.shape != b.shape:
                raise ShapeError(
                    f"a tap is {list(a.shape)} in the student and {list(b.shape)} in the teacher ([B, heads, N, d]); "
                    "both need the same heads, tokens and channels"
                )
            total = total + distance(a, b.to(a.dtype))
        return total


class Distillation(PlainObjective):
    """An objective that adds what a recipe's section `distill` asks for to another one."""

    def __init__(self, inner: Any, section: DistillSection, student: nn.Module) -> None:
        self.inner, self.section, self.student = inner, section, student
        self.classifies: bool = inner.classifies
        teacher = _load_teacher(section.teacher)
        device = next(student.parameters()).device
        self.fgd = FineGrainedDistillation(teacher.to(device), mode=section.mode)
        if section.mode != "none":
            attentions(student, self.fgd.taps)

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits: list[Tensor] = []

        def keep(_module: nn.Module, _given: Any, out: Tensor) -> None:
            logits.append(out)

        handle = self.student.register_forward_hook(keep)
        try:
            with self.fgd.watching(self.student):
                loss, right = self.inner.loss(forward, x, y, target)
        finally:
            handle.remove()
        loss = loss + self.section.weight * self.fgd(x)
        theirs = self.fgd.teacher_logits
        if self.section.logits != "none" and theirs is not None:
            loss = loss + self.section.logits_weight * self._logits(logits[-1].mean(0), theirs.mean(0))
        return loss, right

    def _logits(self, ours: Tensor, theirs: Tensor) -> Tensor:
        if self.section.logits == "hard":
            return F.cross_entropy(ours, theirs.argmax(-1))
        t = self.section.temperature
        return F.kl_div((ours / t).log_softmax(-1), (theirs / t).softmax(-1), reduction="batchmean") * t * t

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return self.inner.measure(net, dataset, batch_size, **shared)


def attentions(model: nn.Module, taps: Sequence[str]) -> list[SpikingAttention]:
    """The attentions of `model` that have all `taps`, in order."""
    found = [m for m in model.modules() if isinstance(m, SpikingAttention) and set(taps) <= set(m.names)]
    if not found:
        raise ArgumentError(f"{type(model).__name__} has no attention with the projections {', '.join(taps)}")
    return found


@contextmanager
def _tapped(model: nn.Module, taps: Sequence[str]) -> Iterator[list[Tensor]]:
    """Outputs of the taps as `[B, heads, N, d]`, averaged over time, in the order of the blocks."""
    places: dict[tuple[int, str], Tensor] = {}
    handles: list[Any] = []
    found: list[Tensor] = []
    modules = attentions(model, taps)
    for number, attention in enumerate(modules):
        for tap in taps:

            def keep(_module: nn.Module, _given: Any, out: Tensor, at: tuple[int, str] = (number, tap)) -> None:
                places[at] = out

            handles.append(attention.get_submodule(tap).register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    for (number, _), out in sorted(places.items(), key=lambda item: item[0]):
        found.append(modules[number].heads(out.flatten(3)).mean(0).mT)


def _normalised_gram(x: Tensor) -> Tensor:
    gram = x.float() @ x.float().mT if x.dtype in (torch.float16, torch.bfloat16) else x @ x.mT
    return gram / torch.linalg.vector_norm(gram, dim=(-2, -1), keepdim=True).clamp_min(1e-12)


def _standardised(x: Tensor) -> Tensor:
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    mean, std = x.mean((0, 2), keepdim=True), x.std((0, 2), keepdim=True, correction=0)
    return (x - mean) / std.clamp_min(1e-6)


def _load_teacher(teacher: str | None) -> nn.Module:
    from ranvier.train.run import load_run

    if teacher is None:
        raise ConfigError("train.distill.teacher: give the folder of the teacher's run")
    if not Path(teacher).is_dir():
        raise ConfigError(f"train.distill.teacher: {teacher!r} is not the folder of a run")
    return load_run(teacher)[0]
