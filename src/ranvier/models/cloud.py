"""The contract of nets that look at clouds of points: clouds or sequences of them in, per-step logits out."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError, ShapeError


class CloudNet(nn.Module):
    """Base of the nets for point clouds `[B, N, C]` and sequences of them, `[T, B, N, C]`, one cloud a step.

    The first three channels are the position. N may be any number of points.

    Args:
        in_channels: C ≥ 3 (2 for a net in the plane).
        num_points: the N that the net is meant for, as the data set delivers it.
        num_classes: classes of the output.
        T: steps that are made of a static cloud.
    """

    def __init__(self, in_channels: int, num_points: int, num_classes: int, T: int) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("num_points", num_points), ("num_classes", num_classes),
                            ("T", T)):  # fmt: skip
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        self.in_channels, self.num_points, self.num_classes, self.T = in_channels, num_points, num_classes, T

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(N, C)`."""
        return self.num_points, self.in_channels

    def has_time(self, x: Tensor) -> bool:
        """Whether `x` is a sequence (time first) rather than a batch of static samples."""
        return x.dim() == 4

    def check_clouds(self, x: Tensor) -> None:
        """Raise `ShapeError` unless `x` is a cloud or a sequence, `DataError` for points that are not finite."""
        if x.dim() not in (3, 4) or x.shape[-1] != self.in_channels or not x.is_floating_point():
            c = self.in_channels
            raise ShapeError(
                f"{type(self).__name__} takes clouds [B, N, {c}] or sequences [T, B, N, {c}], got shape "
                f"{tuple(x.shape)} of {x.dtype}"
            )
        if 0 in x.shape:
            raise DataError(f"the clouds are empty: shape {tuple(x.shape)}")
        if not bool(x.isfinite().all()):
            where = (~x.isfinite()).nonzero()[0].tolist()
            raise DataError(f"the clouds hold NaN or infinity, first at index {where}")
