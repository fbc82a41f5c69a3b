"""The contract of every denoiser: noisy image and its time in, predicted noise out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError


class Denoiser(nn.Module):
    """Base of the nets that predict the noise in an image, and hence the image (Ho, Jain and Abbeel, 2020).

    A subclass defines `denoise(x, label, classes)`. Images lie in −1 .. 1; `x_n = √ᾱ_n x_0 + √(1 − ᾱ_n) ε` with
    `ᾱ_n = Π (1 − β)` for n = 0 .. `train_steps` − 1.

    Args:
        in_channels, img_size: shape of the images; `img_size` is one number or (height, width).
        num_classes: 0 for an unconditional net; else label `num_classes` means "no class" (guidance needs it).
        T: time steps of the spiking net in each evaluation.
        train_steps, beta_first, beta_last: the noise, β linear in n.
        prediction: "epsilon" (the noise) or "v" (√ᾱ ε − √(1 − ᾱ) x_0).
        label_dropout: share of the training samples whose class is hidden.
    """

    def __init__(
        self,
        in_channels: int,
        img_size: int | tuple[int, int],
        num_classes: int,
        T: int,
        train_steps: int = 1000,
        beta_first: float = 1e-4,
        beta_last: float = 0.02,
        prediction: Literal["epsilon", "v"] = "epsilon",
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        for name, value in (("in_channels", in_channels), ("T", T), ("train_steps", train_steps)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if len(size) != 2 or any(not isinstance(s, int) or s < 1 for s in size):
            raise ArgumentError(f"img_size must be a positive integer or a pair of them, got {img_size!r}")
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ArgumentError(f"num_classes must be an integer >= 0, got {num_classes!r}")
        if not 0 < beta_first <= beta_last < 1:
            raise ArgumentError(f"betas must satisfy 0 < first <= last < 1, got {beta_first!r} and {beta_last!r}")
        if prediction not in ("epsilon", "v"):
            raise ArgumentError(f"prediction must be 'epsilon' or 'v', got {prediction!r}")
        if not 0 <= label_dropout < 1:
            raise ArgumentError(f"label_dropout must lie in [0, 1), got {label_dropout!r}")
        self.in_channels, self.num_classes, self.T = in_channels, num_classes, T
        self.img_size: tuple[int, int] = (size[0], size[1])
        self.train_steps, self.prediction, self.label_dropout = train_steps, prediction, label_dropout
        betas = torch.linspace(beta_first, beta_last, train_steps, dtype=torch.float64, device="cpu")
        self.betas: tuple[float, ...] = tuple(betas.tolist())
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float(), persistent=False)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image, `(C, H, W)`."""
        return (self.in_channels, *self.img_size)

    @property
    def null(self) -> int | None:
        """The label of "no class", None for an unconditional net."""
        return self.num_classes or None

    def denoise(self, x: Tensor, label: Tensor, classes: Tensor | None) -> Tensor:
        """Prediction `[B, C, H, W]` for images `x` at training times `label` (`[B]`, float) of `classes` (`[B]`)."""
        raise ArgumentError(f"{type(self).__name__} does not define denoise")

    def forward(self, x: Tensor, label: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """Prediction `[B, C, H, W]`.

        Args:
            x: noisy images `[B, C, H, W]`.
            label: training time of each, `[B]`, whole or not, in 0 .. train_steps − 1; None means 0 (almost clean).
            classes: int64 `[B]`, or None for no class.
        """
        if x.dim() != 4 or tuple(x.shape[1:]) != (self.in_channels, *self.img_size):
            c, (h, w) = self.in_channels, self.img_size
            raise ShapeError(f"{type(self).__name__} takes images [B, {c}, {h}, {w}], got shape {tuple(x.shape)}")
        label = x.new_zeros(len(x)) if label is None else label
        if label.shape != x.shape[:1]:
            raise ShapeError(f"label must be one time for each of {len(x)} images, got shape {tuple(label.shape)}")
        if classes is not None and not self.num_classes:
            raise ArgumentError("classes: this net is unconditional (num_classes=0)")
        if classes is None and self.num_classes:
            classes = torch.full((len(x),), self.num_classes, device=x.device)
        if classes is not None and classes.shape != x.shape[:1]:
            raise ShapeError(f"classes must be one label for each of {len(x)} images, got {tuple(classes.shape)}")
        return self.denoise(x, label.to(x.dtype), classes)

    def noised(self, x0: Tensor, label: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy images at integer times `label`, and what the net should predict there."""
        share = self.alphas_cumprod[label].to(x0.dtype).view(-1, 1, 1, 1)
        alpha, sigma = share.sqrt(), (1 - share).sqrt()
        wanted = noise if self.prediction == "epsilon" else alpha * noise - sigma * x0
        return alpha * x0 + sigma * noise, wanted
