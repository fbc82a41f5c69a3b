"""The contract of every classifier: images or sequences in, per-step logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ranvier import encode
from ranvier.errors import ArgumentError, ShapeError


class SpikingClassifier(nn.Module):
    """Base of the image classifiers.

    A subclass defines `classify(x)` from a sequence `[T, B, C, H, W]` to per-step logits `[T, B, num_classes]`. One
    that can serve as a backbone defines `features(x)` and says with `feature_kind` whether they are spikes (or sums of
    them) or membrane potentials.

    Args:
        in_channels, img_size, num_classes: shape of the problem; `img_size` is one number or (height, width).
        T: steps that the encoder makes of a static image.
        encoder: name, mapping or module (`ranvier.encode`).
    """

    feature_kind: ClassVar[Literal["none", "spikes", "membrane"]] = "none"

    def __init__(
        self,
        in_channels: int,
        img_size: int | tuple[int, int],
        num_classes: int,
        T: int,
        encoder: str | Mapping[str, Any] | encode.Encoder,
    ) -> None:
        super().__init__()
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        for name, value in (("in_channels", in_channels), ("num_classes", num_classes), ("T", T)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if len(size) != 2 or any(not isinstance(s, int) or s < 1 for s in size):
            raise ArgumentError(f"img_size must be a positive integer or a pair of them, got {img_size!r}")
        self.in_channels, self.num_classes, self.T = in_channels, num_classes, T
        self.img_size: tuple[int, int] = (size[0], size[1])
        self.encoder = encode.build(encoder)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(C, H, W)`."""
        return self.in_channels, *self.img_size

    def sequence(self, x: Tensor) -> Tensor:
        """`x` as `[T, B, C, H, W]`: a static image `[B, C, H, W]` is encoded, a sequence passes as it is."""
        if x.dim() not in (4, 5) or tuple(x.shape[-3:]) != (self.in_channels, *self.img_size):
            c, (h, w) = self.in_channels, self.img_size
            raise ShapeError(
                f"{type(self).__name__} takes images [B, {c}, {h}, {w}] or sequences [T, B, {c}, {h}, {w}], got "
                f"shape {tuple(x.shape)}"
            )
        return self.encoder(x, self.T) if x.dim() == 4 else x

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps `[T, B, C, H, W]` of a sequence behind every stage, finest first."""
        raise ArgumentError(f"{type(self).__name__} does not define features")

    def classify(self, x: Tensor) -> Tensor:
        """Per-step logits `[T, B, num_classes]` of a sequence `[T, B, C, H, W]`."""
        raise ArgumentError(f"{type(self).__name__} does not define classify")

    def forward(self, x: Tensor) -> Tensor:
        """Per-step logits `[T, B, num_classes]`; the decision is their mean over T."""
        return self.classify(self.sequence(x))
