"""The spiking U-Net of spiking diffusion models (SDDPM, SDM), and its conventional twin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers import over_time
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.denoiser import Denoiser
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec

PUBLISHED_NEURON: dict[str, Any] = {"type": "if", "surrogate": {"type": "atan", "alpha": 2.0}}


class ScaledConv(nn.Module):
    """Convolution on `[T, B, C, H, W]`, whose output at step t may be multiplied by a learned number p[t] (SDM's TSM).

    The scale starts at 1, so that a trained net without it can be fine-tuned with it.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, steps: int | None, stride: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        nn.init.xavier_uniform_(self.conv.weight, gain)
        nn.init.zeros_(self.conv.bias)  # pyright: ignore[reportArgumentType]
        self.scale = None if steps is None else nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        y = over_time(self.conv, x)
        return y if self.scale is None else y * self.scale.view(-1, 1, 1, 1, 1)


class PreSpike(nn.Module):
    """Neuron → (upsampling) → convolution → batch norm: real-valued sums stay outside, only spikes are convolved."""

    def __init__(
        self, inputs: int, outputs: int, neuron: NeuronFactory, steps: int | None, stride: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.neuron = neuron(channels=inputs)
        self.conv = ScaledConv(inputs, outputs, 3, steps, stride)
        self.bn = nn.BatchNorm2d(outputs)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron(x)
        if self.up:
            spikes = over_time(lambda s: F.interpolate(s, scale_factor=2.0, mode="nearest"), spikes)
        return over_time(self.bn, self.conv(spikes))


class Block(nn.Module):
    """Residual block: PreSpike, plus the time embedding, PreSpike, plus the (1×1-convolved) input."""

    def __init__(self, inputs: int, outputs: int, features: int, neuron: NeuronFactory, steps: int | None) -> None:
        super().__init__()
        self.first = PreSpike(inputs, outputs, neuron, steps)
        self.time = nn.Linear(features, outputs)
        nn.init.xavier_uniform_(self.time.weight)
        nn.init.zeros_(self.time.bias)
        self.second = PreSpike(outputs, outputs, neuron, steps)
        self.shortcut = ScaledConv(inputs, outputs, 1, steps) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.first(x) + self.time(F.silu(time))[None, :, :, None, None]
        return self.second(h) + self.shortcut(x)


class SpikingUNet(Denoiser):
    """U-Net whose convolutions see spikes: [neuron → convolution → batch norm] blocks, real-valued sums and skips.

    Args:
        in_channels, img_size, num_classes, T, train_steps, beta_first, beta_last, prediction, label_dropout: as in
            `Denoiser`; `img_size` is divisible by 2 for every level but the last.
        channels: width at full resolution; the levels have `multipliers` times it.
        blocks: residual blocks a level on the way down; one more on the way up.
        neuron: name or mapping. "relu" with `T=1` makes the conventional twin.
        readout_decay: the output is Σ_t decay^(T − 1 − t) h_t, a leaky membrane without threshold.
        temporal_scale: learn a number for every convolution and step.

    Source: Cao et al., "Spiking Denoising Diffusion Probabilistic Models" (WACV 2024, arXiv 2306.17046) and "Spiking
    Diffusion Models" (arXiv 2408.16467).
    """

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 0,
        T: int = 4,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        neuron: NeuronSpec | None = None,
        readout_decay: float = 0.8,
        temporal_scale: bool = False,
        train_steps: int = 1000,
        beta_first: float = 1e-4,
        beta_last: float = 0.02,
        prediction: Literal["epsilon", "v"] = "epsilon",
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__(
            in_channels, img_size, num_classes, T, train_steps, beta_first, beta_last, prediction, label_dropout
        )
        if not multipliers or any(not isinstance(m, int) or m < 1 for m in multipliers):
            raise ArgumentError(f"multipliers must be positive integers, got {multipliers!r}")
        for name, value in (("channels", channels), ("blocks", blocks)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if channels % 2:
            raise ArgumentError(f"channels must be even (sines and cosines of the time), got {channels}")
        halvings = len(multipliers) - 1
        if any(side % 2**halvings for side in self.img_size):
            raise ArgumentError(f"img_size {self.img_size} cannot be halved {halvings} times; give fewer multipliers")
        if not 0 < readout_decay <= 1:
            raise ArgumentError(f"readout_decay must lie in (0, 1], got {readout_decay!r}")
        make = NeuronFactory(PUBLISHED_NEURON if neuron is None else neuron)
        steps = T if temporal_scale else None
        features = 4 * channels
        self.channels, self.readout_decay = channels, readout_decay
        self.time = nn.Sequential(nn.Linear(channels, features), nn.SiLU(), nn.Linear(features, features))
        for layer in (self.time[0], self.time[2]):
            nn.init.xavier_uniform_(layer.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        self.classes = nn.Embedding(num_classes + 1, features) if num_classes else None
        self.stem = ScaledConv(in_channels, channels, 3, steps)
        self.stem_bn = nn.BatchNorm2d(channels)
        self.entry = PreSpike(channels, channels, make, steps)

        width, skips = channels, [channels]
        self.down = nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(Block(width, channels * multiplier, features, make, steps))
                width = channels * multiplier
                skips.append(width)
            if level < halvings:
                self.down.append(PreSpike(width, width, make, steps, stride=2))
                skips.append(width)
        self.middle = nn.ModuleList(Block(width, width, features, make, steps) for _ in range(2))
        self.up = nn.ModuleList()
        for level in reversed(range(len(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(Block(width + skips.pop(), channels * multipliers[level], features, make, steps))
                width = channels * multipliers[level]
            if level:
                self.up.append(PreSpike(width, width, make, steps, up=True))
        self.head_bn = nn.BatchNorm2d(width)
        self.head = ScaledConv(width, in_channels, 3, steps, gain=1e-5)
        self.tail = ScaledConv(in_channels, in_channels, 3, None)
        self.tail_bn = nn.BatchNorm2d(in_channels)

    def denoise(self, x: Tensor, label: Tensor, classes: Tensor | None) -> Tensor:
        time = self.time(sinusoid(label, self.channels))
        if self.classes is not None and classes is not None:
            time = time + self.classes(classes)
        h = self.stem(x.unsqueeze(0)) if self.stem.scale is None else self.stem(self._repeated(x))
        h = self.entry(over_time(self.stem_bn, h.expand(self.T, *h.shape[1:])))
        skips = [h]
        for module in self.down:
            h = module(h, time) if isinstance(module, Block) else module(h)
            skips.append(h)
        for module in self.middle:
            h = module(h, time)
        for module in self.up:
            h = module(torch.cat([h, skips.pop()], dim=2), time) if isinstance(module, Block) else module(h)
        return self._readout(self.head(F.silu(over_time(self.head_bn, h))))

    def _repeated(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0).expand(self.T, *x.shape)

    def _readout(self, h: Tensor) -> Tensor:
        """The published temporal branch (a convolution that does not look across steps), then the leaky sum."""
        h = h + F.silu(over_time(self.tail_bn, self.tail(h)))
        powers = torch.arange(self.T - 1, -1, -1, device=h.device, dtype=h.dtype)
        return torch.einsum("tbchw,t->bchw", h, self.readout_decay**powers)


def sinusoid(label: Tensor, features: int) -> Tensor:
    """Times `[B]` to `[B, features]`: sines and cosines in turn, wavelengths 2π .. 10000 · 2π."""
    rates = torch.exp(torch.arange(0, features, 2, device=label.device) * (-math.log(10000.0) / features))
    angle = label[:, None] * rates.to(label.dtype)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def scale_thresholds(net: nn.Module, factor: float) -> nn.Module:
    """Multiply every neuron's threshold by `factor` in place (SDM's threshold guidance: 0.997 to 0.999); returns `net`.

    Neurons without a `threshold` are left alone; `ArgumentError` when there is none with one.
    """
    if not factor > 0 or not math.isfinite(factor):
        raise ArgumentError(f"factor must be a positive number, got {factor!r}")
    from ranvier.neurons import Neuron

    found = 0
    for module in net.modules():
        threshold = getattr(module, "threshold", None)
        if isinstance(module, Neuron) and isinstance(threshold, Tensor):
            with torch.no_grad():
                threshold.mul_(factor)
            found += 1
    if not found:
        raise ArgumentError("the net has no neuron with a threshold to scale")
    return net


_VIOLATIONS = (
    "stem: a real-valued image", "shortcut: real-valued sums", "time, first.time: real-valued embeddings",
    "head, tail: real-valued membranes",
)  # fmt: skip
_PAPER = Paper("Spiking Denoising Diffusion Probabilistic Models", "WACV 2024", "2306.17046")
_DEVIATIONS = (
    "the 1000 × 128 table of time embeddings is computed (the publications count its 128,000 numbers: 66,696,413 in "
    "all, 63.61 × 2^20)",
    "the Conv3d of size 3 × 3 × 1 is the Conv2d that it is equal to",
    "classes and v-prediction are additions",
)


def _register(name: str, params: int, summary: str, shape: tuple[int, int, int], **preset: Any) -> None:
    published = name == "spiking_unet_cifar10"
    spiking = preset.get("neuron") != "relu"
    card = ModelCard(
        name=name, family="denoiser", params=params, summary=summary, input_shape=shape, task="denoising",
        num_classes=preset.get("num_classes", 0), T=preset.get("T", 4), spike_type="binary" if spiking else "real",
        spike_driven=False, violations=_VIOLATIONS if spiking else ("everywhere: real values",), streams=False,
        paper=_PAPER if spiking else None, code="AndyCao1125/SDDPM" if published else "",
        reported=(
            Reported("CIFAR-10", 19.73, "SDDPM, table 1", "FID", 4),
            Reported("CIFAR-10", 17.27, "SDDPM, table 1", "FID", 8),
        ) if published else (),
        deviations=_DEVIATIONS if published else (),
    )  # fmt: skip
    register_model(card, SpikingUNet, in_channels=shape[0], img_size=shape[1], **preset)


_register("spiking_unet_cifar10", 66_568_413, "the published spiking U-Net for 32x32 images", (3, 32, 32))
_SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "num_classes": 10}
_register("spiking_unet_small", 644_941, "a spiking U-Net of two levels, class-conditional", (1, 28, 28), T=4, **_SMALL)
_register("relu_unet_small", 644_941, "its conventional twin", (1, 28, 28), T=1, neuron="relu", **_SMALL)
