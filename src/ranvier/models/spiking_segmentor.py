"""Semantic segmentation of images: any backbone of the library, a spiking pyramid, logits for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.layers import Embed
from ranvier.models.card import ModelCard, Paper
from ranvier.models.dense import Backbone, Pyramid, upsampled
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec


class SpikingSegmentor(nn.Module):
    """Backbone, `Pyramid`, the levels added up at the finest one, neuron, 1 × 1 convolution (semantic FPN, spiking).

    Images `[B, C, H, W]` or sequences `[T, B, C, H, W]` give logits `[T, B, H / s, W / s, num_classes]`, s the stride
    of the finest map (`stride`); `segment(x)` gives the classes `[B, H, W]`.

    Args:
        in_channels, img_size, num_classes, T, encoder, neuron: as in `SpikingClassifier`.
        backbone: name of a registered classifier that gives feature maps; backbone_args: its arguments.
        levels: maps that are used, the coarsest ones; None for all.
        width: channels of the pyramid.
    """

    segments = True

    def __init__(
        self,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = 64,
        num_classes: int = 11,
        T: int = 4,
        backbone: str = "spiking_conv_net",
        backbone_args: Mapping[str, Any] | None = None,
        levels: int | None = None,
        width: int = 48,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__()
        self.backbone = Backbone(
            backbone, backbone_args, levels, in_channels=in_channels, img_size=img_size, T=T, neuron=neuron,
            encoder=encoder,
        )  # fmt: skip
        make = NeuronFactory(neuron)
        self.pyramid = Pyramid(self.backbone.channels, width, make, self.backbone.membrane)
        self.last = Embed(width, width, make)
        self.neuron = make(channels=width)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.num_classes, self.T = num_classes, T

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(C, H, W)`."""
        return self.backbone.net.input_shape

    @property
    def stride(self) -> int:
        """Pixels of the image for one place of the logits."""
        return self.backbone.strides[0]

    def forward(self, x: Tensor) -> Tensor:
        """Per-step logits `[T, B, h, w, num_classes]`."""
        levels = self.pyramid(self.backbone(x))
        total = levels[0]
        for level in levels[1:]:
            total = total + upsampled(level, total.shape[-2:])
        spikes = self.neuron(self.last(total))
        return self.head(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2]).permute(0, 1, 3, 4, 2)

    def segment(self, x: Tensor) -> Tensor:
        """The class of every pixel, `[B, H, W]`."""
        mean = self(x).mean(0).permute(0, 3, 1, 2)
        return nn.functional.interpolate(mean, x.shape[-2:], mode="bilinear", align_corners=False).argmax(1)


FPN = Paper("Feature Pyramid Networks for Object Detection", "CVPR 2017", "arXiv:1612.03144")

register_model(
    ModelCard(
        name="spiking_fpn_segmentor", family="fpn_segmentor", params=112_939, input_shape=(1, 64, 64), num_classes=11,
        summary="three convolutions and a spiking pyramid; any backbone", task="segmentation", paper=FPN,
        deviations=("levels are added before one common prediction, as in semantic FPN; all convolutions get spikes",),
    ),
    SpikingSegmentor,
)  # fmt: skip
