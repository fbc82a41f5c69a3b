"""Augmentation of batches on tensors: images `[B, C, H, W]` and sequences `[T, B, C, H, W]`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.extras import require

# Kornia draws one set of operations for a whole batch; a batch is cut into this many groups that draw their own.
RANDAUGMENT_GROUPS = 8
_GEOMETRIC = [
    [("rotate", -30.0, 30.0)], [("shear_x", -0.3, 0.3)], [("shear_y", -0.3, 0.3)],
    [("translate_x", -0.1, 0.1)], [("translate_y", -0.1, 0.1)],
]  # fmt: skip
_GREY = [
    [("auto_contrast", 0, 1)], [("equalize", 0, 1)], [("invert", 0, 1)], [("posterize", 4.0, 8.0)],
    [("solarize", 0.0, 1.0)], [("contrast", 0.1, 1.9)], [("brightness", 0.1, 1.9)], *_GEOMETRIC,
]  # fmt: skip


@dataclass(frozen=True)
class Augment:
    """What is done to a training batch. The defaults do nothing.

    Every transform is drawn per sample and is the same for all steps of a sequence. All draws come from `seed`,
    `generator` or else PyTorch's global generator, so that a run which restores its random state repeats them exactly.

    Attributes:
        crop: zero padding in pixels on every side, of which a window of the old size is cut out.
        flip: mirror left and right with probability 1/2.
        randaugment: `(n, m)` or `(n, m, sd)`: n operations of magnitude m (0 < m < 30) of RandAugment (Cubuk et al.
            2020), m drawn anew from a normal distribution of that standard deviation where one is given. Images of
            three channels get all operations, of one channel those that need no colour; sequences and other channel
            counts the geometric ones.
        jitter: colour jitter: one number for brightness, contrast and saturation, or `(brightness, contrast,
            saturation)` or with hue (at most 0.5) as the fourth. Images of one channel get the first two.
        erasing: probability of a random rectangle set to zero (Zhong et al. 2020).
        mixup: alpha of mixup (Zhang et al. 2018), 0 for none.
        cutmix: alpha of CutMix (Yun et al. 2019), 0 for none. With both, every batch draws one of them.
        cloud_scale, cloud_shift: clouds of points `[B, N, C]` only: size times a factor from 1 − s to 1 + s, and
            moved by up to so much on every axis.
        cloud_crop: clouds of events: probability of `CloudAugment`'s crop.
    """

    crop: int = 0
    flip: bool = False
    randaugment: tuple[int, float] | tuple[int, float, float] | None = None
    jitter: float | tuple[float, ...] = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    cloud_scale: float = 0.0
    cloud_shift: float = 0.0
    cloud_crop: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.crop, int) or isinstance(self.crop, bool) or self.crop < 0:
            raise ArgumentError(f"crop must be a padding of at least 0 pixels, got {self.crop!r}")
        if not isinstance(self.flip, bool):
            raise ArgumentError(f"flip must be true or false, got {self.flip!r}")
        if not (_number(self.erasing) and 0 <= self.erasing <= 1):
            raise ArgumentError(f"erasing must be a probability, got {self.erasing!r}")
        for name, most in (("cloud_scale", 1.0), ("cloud_shift", math.inf), ("cloud_crop", 1.0)):
            value = getattr(self, name)
            if not (_number(value) and 0 <= value <= most):
                raise ArgumentError(f"{name} must be a number from 0 to {most:g}, got {value!r}")
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if not (_number(value) and 0 <= value < math.inf):
                raise ArgumentError(f"{name} must be an alpha of at least 0, got {value!r}")
        if self.randaugment is not None:
            object.__setattr__(self, "randaugment", _magnitude(self.randaugment))
        object.__setattr__(self, "jitter", _jitter(self.jitter))

    def images(self, x: Tensor, seed: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The transformed batch, of the shape, dtype and device of `x` (`[B, C, H, W]` or `[T, B, C, H, W]`).

        Values of images stay in [0, 1]; `x` itself is not changed.
        """
        active = bool(self.crop or self.flip or self.randaugment or self.jitter or self.erasing)
        clouds = bool(self.cloud_scale or self.cloud_shift or self.cloud_crop)
        if clouds and x.ndim == 3:
            with _seeded(seed, generator):
                return self._clouds(x)
        if clouds:
            raise ShapeError(f"cloud_scale, cloud_shift and cloud_crop are for clouds [B, N, C], got {tuple(x.shape)}")
        if x.ndim in (2, 3) and not active:  # tokens, or a sequence of vectors
            return x
        _check_batch(x)
        if not active:
            return x
        if self.jitter and (x.ndim == 5 or x.shape[1] not in (1, 3)):
            raise ShapeError(f"jitter needs images [B, 1 or 3, H, W], got {tuple(x.shape)}")
        flat = _fold(x)
        with _seeded(seed, generator):
            for step in _transforms(self, x.ndim == 5, *flat.shape[1:]):
                flat = step(flat)
        return _unfold(flat, x)

    def _clouds(self, x: Tensor) -> Tensor:
        from ranvier.data.events.windows import CloudAugment

        out = CloudAugment(crop=self.cloud_crop)(x)
        factor = 1 + self.cloud_scale * (2 * torch.rand(len(x), 1, 1, device=x.device) - 1)
        place = self.cloud_shift * (2 * torch.rand(len(x), 1, 3, device=x.device) - 1)
        out[..., :3] = out[..., :3] * factor + place
        return out

    def mix(
        self,
        x: Tensor,
        y: Tensor,
        num_classes: int,
        label_smoothing: float = 0.0,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`(x, targets)` after mixup or CutMix within the batch; targets are float `[B, num_classes]` that sum to one.

        `y` is int64 `[B]`. With label smoothing s, a target is (1 − s) of its class and s spread over all classes.
        CutMix weighs the labels by the pixels that were really pasted.
        """
        _check_batch(x)
        samples = x.shape[1 if x.ndim == 5 else 0]
        if y.shape != (samples,) or y.is_floating_point():
            raise ShapeError(f"y must be integer labels [{samples}], got {tuple(y.shape)} of {y.dtype}")
        if not 0 <= label_smoothing < 1:
            raise ArgumentError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
        if samples and not (int(y.min()) >= 0 and int(y.max()) < num_classes):
            raise ArgumentError(f"y must hold labels 0 .. {num_classes - 1}, got {int(y.min())} to {int(y.max())}")
        targets = F.one_hot(y.long(), num_classes).to(x.dtype if x.is_floating_point() else torch.float32)
        targets = targets * (1 - label_smoothing) + label_smoothing / num_classes
        if not (self.mixup or self.cutmix):
            return x, targets
        with _seeded(seed, generator):
            cut = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < 0.5))
            partner = torch.randperm(samples)
            keep = _beta(self.cutmix if cut else self.mixup, samples)
            corners = torch.rand(2, samples)
        flat = _fold(x)
        other = flat[partner.to(x.device)]
        if cut:
            pasted = _boxes(keep, corners, *x.shape[-2:])
            keep = 1 - pasted.double().mean((1, 2)).float()
            flat = torch.where(pasted.unsqueeze(1).to(x.device), other, flat)
        else:
            flat = torch.lerp(other, flat, keep.view(-1, 1, 1, 1).to(flat))
        weight = keep.unsqueeze(1).to(targets)
        return _unfold(flat, x), weight * targets + (1 - weight) * targets[partner.to(targets.device)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _magnitude(given: Any) -> tuple[int, float, float]:
    entry: tuple[Any, ...] = tuple(given) if isinstance(given, list | tuple) else ()
    fits = len(entry) in (2, 3) and isinstance(entry[0], int) and all(_number(value) for value in entry[1:])
    if not fits or not 1 <= entry[0] <= len(_GEOMETRIC):
        raise ArgumentError(f"randaugment must be (n, m) or (n, m, sd), n from 1 to {len(_GEOMETRIC)}, got {given!r}")
    if not 0 < entry[1] < 30:
        raise ArgumentError(f"randaugment's magnitude m must lie between 0 and 30, got {entry[1]!r}")
    spread = entry[2] if len(entry) == 3 else 0.0
    if not 0 <= spread < math.inf:
        raise ArgumentError(f"randaugment's standard deviation must be at least 0, got {spread!r}")
    return entry[0], entry[1], float(spread)


def _jitter(given: Any) -> tuple[float, ...]:
    entry: tuple[Any, ...] = (given,) * 3 if _number(given) else tuple(given) if isinstance(given, list | tuple) else ()
    if len(entry) not in (3, 4) or not all(_number(value) and 0 <= value < math.inf for value in entry):
        raise ArgumentError(f"jitter must be a number of at least 0, or three or four of them, got {given!r}")
    if len(entry) == 4 and entry[3] > 0.5:
        raise ArgumentError(f"jitter's hue must be at most 0.5, got {entry[3]!r}")
    return tuple(float(value) for value in entry) if any(entry) else ()


def _check_batch(x: Tensor) -> None:
    if x.ndim not in (4, 5) or not x.is_floating_point():
        raise ShapeError(
            f"x must be a floating point batch [B, C, H, W] or [T, B, C, H, W], got {tuple(x.shape)} of {x.dtype}"
        )


def _fold(x: Tensor) -> Tensor:
    """`[B, C, H, W]`, with the steps of a sequence side by side in the channels."""
    return x if x.ndim == 4 else x.transpose(0, 1).flatten(1, 2)


def _unfold(flat: Tensor, like: Tensor) -> Tensor:
    if like.ndim == 4:
        return flat
    T, B, C, H, W = like.shape
    return flat.reshape(B, T, C, H, W).transpose(0, 1).contiguous()


@contextmanager
def _seeded(seed: int | None, generator: torch.Generator | None) -> Iterator[None]:
    """Seed PyTorch's CPU generator for the block, which is where Kornia draws, and put it back afterwards."""
    if seed is not None and generator is not None:
        raise ArgumentError("give seed or generator, not both")
    if seed is None:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else "cpu"))
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the devices as well
        yield
    finally:
        torch.set_rng_state(state)


def _beta(alpha: float, count: int) -> Tensor:
    return torch.distributions.Beta(float(alpha), float(alpha)).sample((count,))


def _boxes(keep: Tensor, corners: Tensor, H: int, W: int) -> Tensor:
    """Boolean `[B, H, W]`: a box of about `1 − keep` of the area around a uniform centre, cut off at the border."""
    side = (1 - keep).sqrt()

    def inside(centre: Tensor, extent: int) -> Tensor:
        middle, half = (centre * extent).floor(), (side * extent / 2).floor()
        pixel = torch.arange(extent)
        return (pixel >= (middle - half).unsqueeze(1)) & (pixel < (middle + half).unsqueeze(1))

    return inside(corners[0], H).unsqueeze(2) & inside(corners[1], W).unsqueeze(1)


@lru_cache(maxsize=32)
def _transforms(augment: Augment, sequence: bool, channels: int, H: int, W: int) -> list[Any]:
    kornia: Any = require("kornia.augmentation", extra="train")
    steps: list[Any] = []
    if augment.crop:
        steps.append(kornia.RandomCrop((H, W), padding=augment.crop))
    if augment.flip:
        steps.append(kornia.RandomHorizontalFlip(p=0.5))
    if augment.randaugment:
        steps.append(_rand_augment(*_magnitude(augment.randaugment), sequence=sequence, channels=channels))
    if augment.jitter:
        # hue and saturation mean nothing without colour
        strength = cast(tuple[float, ...], augment.jitter)[: 4 if channels == 3 else 2]
        steps.append(kornia.ColorJitter(*strength, p=1.0))
    if augment.erasing:
        steps.append(kornia.RandomErasing(p=augment.erasing))
    return steps


def _rand_augment(n: int, m: float, spread: float, sequence: bool, channels: int) -> Any:
    auto: Any = require("kornia.augmentation.auto", extra="train")
    policy = _GEOMETRIC if sequence or channels not in (1, 3) else None if channels == 3 else _GREY

    @cache
    def transform(magnitude: float) -> Any:
        return auto.RandAugment(n=n, m=magnitude, policy=policy)

    def drawn() -> float:
        if not spread:
            return m
        # halves: few enough to keep a transform for each
        return min(29.5, max(0.5, round(2 * (m + spread * float(torch.randn(())))) / 2))

    def apply(x: Tensor) -> Tensor:
        groups = x.chunk(RANDAUGMENT_GROUPS)
        done = torch.cat([transform(drawn())(group) for group in groups])
        return done if sequence else done.clamp(0, 1)

    return apply
