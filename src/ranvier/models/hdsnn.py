"""HD-SNN: one layer of neurons with heterogeneous delays that detects motion in event streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers.space_time import ConeMask, Delays, Polarity, SpaceTimeConv
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.ops.space_time import SpaceTimeSynapses, operations, scatter_events


class HDSNN(SpikingClassifier):
    """A time- and space-invariant (multinomial) logistic regression on delayed events (Grimaldi and Perrinet,
    Biological Cybernetics 2023, arXiv 2307.14077).

    Every class is a neuron at every place, with a synapse for every (polarity, delay, place) of its receptive field;
    its weights are the log-evidence that an event there is for the class. `logits` gives what the neurons integrate,
    `spikes` the detections, `forward` the evidence of a step: the mean logits over the `readout_fraction` of the places
    whose largest logit is largest, `[T, B, classes]`.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`; the input is OFF and ON events.
        kernel: `(delays, rows, columns)`.
        polarity, delays: of `SpaceTimeConv`.
        mask: the cone that weights are clipped to, in proportion to the largest one, before every training pass, or
            None; a mapping gives its v_max, r0 and exponent.
        link: "softmax" over the classes, or "sigmoid" of each (then b starts at −ln(classes − 1)).
        centre: initial weight of the centre at delay 0, +centre for ON and −centre for OFF; `spread`: standard
            deviation of the noise on the rest, times the mask.
        readout_fraction: of the places, see above.
        readout: what `forward` gives in training: "voxels" gives the logits of every voxel as steps `[T H W, B,
            classes]` (step by step, then place by place), so that a loss for each step is the published one for each
            voxel; "evidence" as in evaluation.
        sampled: share of the places, drawn anew for every step and pass, whose voxels "voxels" gives: the same loss
            on average, for that share of work and memory.
    """

    def __init__(
        self,
        in_channels: int = 2,
        img_size: int | tuple[int, int] = 128,
        num_classes: int = 36,
        T: int = 200,
        kernel: tuple[int, int, int] = (21, 17, 17),
        polarity: Polarity | None = "max",
        delays: Delays = "free",
        mask: bool | Mapping[str, float] | ConeMask | None = True,
        link: Literal["softmax", "sigmoid"] = "softmax",
        centre: float = 4.0,
        spread: float = 0.01,
        readout_fraction: float = 0.15,
        readout: Literal["evidence", "voxels"] = "evidence",
        sampled: float = 1.0,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if link not in ("softmax", "sigmoid"):
            raise ArgumentError(f"link must be 'softmax' or 'sigmoid', got {link!r}")
        if readout not in ("evidence", "voxels"):
            raise ArgumentError(f"readout must be 'evidence' or 'voxels', got {readout!r}")
        if not 0 < readout_fraction <= 1:
            raise ArgumentError(f"readout_fraction must be above 0 and at most 1, got {readout_fraction!r}")
        if not 0 < sampled <= 1:
            raise ArgumentError(f"sampled must be above 0 and at most 1, got {sampled!r}")
        self.sampled = sampled
        self.link, self.readout, self.readout_fraction = link, readout, readout_fraction
        self.layer = SpaceTimeConv(in_channels, num_classes, tuple(kernel), polarity, delays=delays)
        cone = ConeMask() if mask is True else ConeMask(**mask) if isinstance(mask, Mapping) else mask or None
        self.mask: Tensor | None
        self.register_buffer("mask", self.layer.at_weights(cone(*self.layer.kernel)) if cone else None)
        self._start(centre, spread)

    @torch.no_grad()
    def _start(self, centre: float, spread: float) -> None:
        weight = self.layer.weight
        weight.normal_(0, spread)
        if self.mask is not None:
            weight.mul_(self.mask)
        _, rows, columns = self.layer.kernel
        weight[:, -1, -1, rows // 2, columns // 2] = centre  # the last tap is delay 0
        if weight.shape[1] == 2:
            weight[:, 0, -1, rows // 2, columns // 2] = -centre
        if self.link == "sigmoid" and self.layer.bias is not None:
            self.layer.bias.fill_(-math.log(max(self.num_classes - 1, 1)))

    @torch.no_grad()
    def project_(self) -> HDSNN:
        """Clip the weights to the mask times the largest one. Training does it before every pass; do it after the last
        step, before the weights are pruned or stored."""
        if self.mask is not None:
            weight = self.layer.weight
            largest = weight.abs().max()
            weight.clamp_(-self.mask * largest, self.mask * largest)
        return self

    def logits(self, x: Tensor) -> Tensor:
        """What every neuron integrates: `[T, B, classes, H, W]` of events `[T, B, 2, H, W]`."""
        if self.training:
            self.project_()
        return self.layer(x)

    def classify(self, x: Tensor) -> Tensor:
        if self.training and self.readout == "voxels" and self.sampled < 1:
            places = x.shape[3] * x.shape[4]
            count = max(1, round(self.sampled * places))
            place = torch.randint(0, places, (x.shape[0], count), device=x.device)
            return self.project_().layer.at(x, place).flatten(0, 1)
        logits = self.logits(x)
        if self.training and self.readout == "voxels":
            return logits.permute(0, 3, 4, 1, 2).flatten(0, 2)
        return self.evidence(logits)

    def evidence(self, logits: Tensor) -> Tensor:
        """`[T, B, classes]`: the mean of `logits` over the places of a step where the largest one is largest."""
        places = logits.flatten(3)
        count = max(1, round(self.readout_fraction * places.shape[3]))
        best = places.amax(2).topk(count, -1).indices
        return places.gather(3, best[:, :, None].expand(-1, -1, places.shape[2], -1)).mean(3)

    def spikes(self, x: Tensor, threshold: float | None = None, rate: float = 0.001) -> Tensor:
        """Detections `[T, B, classes, H, W]`, 0 or 1: the neuron with the largest logit of its place fires where that
        is above `threshold`; by default the one that the share `rate` of all voxels exceeds (1 spike/s at 1 ms)."""
        logits = self.logits(x)
        best, winner = logits.max(2)
        if threshold is None:
            if not 0 < rate <= 1:
                raise ArgumentError(f"rate must be above 0 and at most 1, got {rate!r}")
            threshold = float(largest_share(best, rate))
        fired = (best > threshold).to(logits.dtype)
        return torch.zeros_like(logits).scatter_(2, winner.unsqueeze(2), fired.unsqueeze(2))

    def to_synapses(self, fraction: float = 1.0) -> SpaceTimeSynapses:
        """The synapses, or the strongest `fraction` of them; see `SpaceTimeConv.synapses`."""
        return self.layer.synapses(fraction)

    @torch.no_grad()
    def logits_by_events(self, x: Tensor, table: SpaceTimeSynapses | None = None) -> Tensor:
        """As `logits`, computed event by event on the synapses of `table` (by default all that are not 0)."""
        table = self.to_synapses() if table is None else table
        if self.layer.polarity == "signed":
            y = scatter_events(x[:, :, 1:] - x[:, :, :1], table)[0]
        else:
            y = scatter_events(x, table)[0]
            if self.layer.polarity == "max":
                y = torch.maximum(y, scatter_events(x.flip(2), table)[0])
        return y if self.layer.bias is None else y + self.layer.bias.detach()[:, None, None]

    def operations(self, x: Tensor, fraction: float = 1.0) -> dict[str, float]:
        """What `x` `[T, B, 2, H, W]` costs: `events`, `synaptic` operations of the event-driven engine on the strongest
        `fraction` of the synapses (both polarity frames), and the multiply-accumulates of the `dense` convolution."""
        frames = 2 if self.layer.polarity == "max" else 1
        signed = x[:, :, 1:] - x[:, :, :1] if self.layer.polarity == "signed" else x
        table = self.to_synapses(fraction)
        synaptic = operations(signed, table)
        if frames == 2:
            synaptic += operations(x.flip(2), table)
        voxels = x[:, :, 0].numel()
        return {
            "events": float((signed != 0).sum()), "synaptic": float(synaptic),
            "dense": float(frames * voxels * self.layer.weight.numel()),
        }  # fmt: skip


def largest_share(values: Tensor, share: float) -> Tensor:
    """The value that the `share` of all `values` reaches or exceeds: an exact quantile of any number of them."""
    flat = values.detach().flatten()
    return flat.kthvalue(max(1, flat.numel() - round(share * flat.numel()) + 1)).values if share < 1 else flat.min()


_PAPER = Paper(
    "Learning heterogeneous delays in a layer of spiking neurons for fast motion detection",
    "Biological Cybernetics 2023", "2307.14077",
)  # fmt: skip
register_model(
    ModelCard(
        name="hdsnn_36", family="hdsnn", params=437_004, summary="36 motions, delays to 20 ms, 17x17 receptive fields",
        input_shape=(2, 128, 128), num_classes=36, T=200, paper=_PAPER, spike_type="real",
        reported=(Reported("100 natural images in motion", 91.0, "section 3.1", "accuracy of a movie", 200),),
        deviations=("padded before the first frame, where the original code rolls a movie's end to its beginning",),
    ),
    HDSNN, centre=4.0,
)  # fmt: skip
register_model(
    ModelCard(
        name="hdsnn_16_small", family="hdsnn", params=23_344, summary="16 motions, delays to 8 ms, 9x9 fields",
        input_shape=(2, 32, 32), num_classes=16, T=48, paper=_PAPER, spike_type="real",
    ),
    HDSNN, img_size=32, num_classes=16, T=48, kernel=(9, 9, 9), centre=1.0,
)  # fmt: skip
