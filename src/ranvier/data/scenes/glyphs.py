"""The handwritten digits that scenes are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.data.samples import Samples
from ranvier.errors import ArgumentError

Source = Literal["digits", "mnist"]


@dataclass(frozen=True)
class Glyphs:
    """Digits float32 `[n, h, w]` in [0, 1], cut to their ink when they are used, and what they show `[n]`."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def draw(self, index: int, height: int) -> NDArray[np.float32]:
        """The ink of one digit, resized (bilinear) to `height` rows and as many columns as keep its shape."""
        image = self.images[index]
        rows, columns = (np.flatnonzero((image > 0.1).any(axis)) for axis in (1, 0))
        if len(rows):
            image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        width = max(2, round(height * image.shape[1] / image.shape[0]))
        return _resized(image, height, width)


def glyphs(source: Source, root: Path | None) -> tuple[Glyphs, Glyphs, str]:
    """The train and the test digits of scikit-learn's or of MNIST, and what identifies them."""
    from ranvier.data.sets.digits import load_digits
    from ranvier.data.sets.mnist import load_mnist

    if source not in ("digits", "mnist"):
        raise ArgumentError(f"source must be 'digits' or 'mnist', got {source!r}")
    parts = load_digits(root) if source == "digits" else load_mnist(root)
    return _glyphs(parts.train), _glyphs(parts.test), parts.content


def _glyphs(samples: Samples) -> Glyphs:
    images, labels = samples.batch(range(len(samples)))
    return Glyphs(images[:, 0].numpy(), labels.numpy())


def _resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    import torch
    import torch.nn.functional as F

    given = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return F.interpolate(given, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
