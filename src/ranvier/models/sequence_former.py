"""Spiking transformers for sequences: STEP's, which sees all of one at every step, and one that lives in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers import ConvBNNeuron, over_time
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.models.transformer import check_transformer, hidden_width, mixing_block
from ranvier.neurons import NeuronFactory, NeuronSpec


class SequenceStem(nn.Module):
    """STEP's 1-D stem: four times [Conv1d 5 → BN → neuron], averages of 64 tokens, plus a Conv1d 3 position branch.

    Args:
        length: of the sequence; from 1024 on the first convolution strides too.
        dim: D; the widths are D/8, D/4, D/2, D.
        tokens: at most so many.
    """

    def __init__(self, in_channels: int, length: int, dim: int, neuron: NeuronFactory, tokens: int) -> None:
        super().__init__()
        strides = (2, 2, 2, 2) if length >= 1024 else (1, 2, 2, 2)
        widths = (in_channels, dim // 8, dim // 4, dim // 2, dim)
        self.stages = nn.Sequential(
            *(
                ConvBNNeuron(i, o, neuron, 5, s, dims=1)
                for (i, o), s in zip(itertools.pairwise(widths), strides, strict=True)
            )
        )
        self.tokens = min(tokens, math.ceil(length / math.prod(strides)))
        self.position = ConvBNNeuron(dim, dim, neuron, 3, dims=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, C, L]` to `[T, B, D, tokens]`."""
        x = over_time(lambda y: F.adaptive_avg_pool1d(y, self.tokens), self.stages(x))
        return x + self.position(x)


class StepStem(nn.Module):
    """What one moment brings becomes tokens: linear → BN → neuron on `[T, B, N]`, then a position branch as above."""

    def __init__(self, features: int, dim: int, neuron: NeuronFactory, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed = ConvBNNeuron(features, dim * tokens, neuron, 1, dims=1)
        self.position = ConvBNNeuron(dim, dim, neuron, 3, dims=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, N]` to `[T, B, D, tokens]`."""
        y = self.embed(x.unsqueeze(-1)).squeeze(-1).unflatten(2, (-1, self.tokens))
        return y + self.position(y)


class SequenceFormer(SpikingClassifier):
    """Spikformer's blocks on the tokens of a sequence (STEP, Shen et al., NeurIPS 2025).

    Its input decides how it reads. A sequence that lies in an image `[B, C, 1, L]` (data sets named `..._whole`) is
    repeated T times, and `SequenceStem`'s convolutions see all of it at every step: STEP's protocol, in which T is a
    repeat count and nothing is causal. A sequence in time `[T, B, N]` (in_channels N, img_size 1) is read step by step
    with `StepStem`: attention is between the tokens of one moment, and only the neurons remember the past.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`; the image is read row by row.
        embed_dim, depth, num_heads, mlp_ratio: of the blocks; D a multiple of 8.
        tokens: at most so many in the first case, exactly in the second (None: 64 and 4).
        attention, attention_options, scale, attn_threshold: as in `Spikformer`.
        neuron: name or mapping; in time, what it forgets in a step (tau) is what the net can remember.
    """

    def __init__(
        self,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = (1, 784),
        num_classes: int = 10,
        T: int = 4,
        embed_dim: int = 384,
        depth: int = 4,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        tokens: int | None = None,
        attention: str = "ssa",
        attention_options: Mapping[str, Any] | None = None,
        scale: float = 0.125,
        attn_threshold: float | None = 0.5,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        check_transformer(embed_dim, depth, num_heads)
        if embed_dim % 8:
            raise ArgumentError(f"embed_dim must be a multiple of 8, got {embed_dim}")
        if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
            raise ArgumentError(f"tokens must be a positive integer, got {tokens!r}")
        make = NeuronFactory(neuron)
        self.length = self.img_size[0] * self.img_size[1]
        self.stem = (
            StepStem(in_channels, embed_dim, make, tokens or 4)
            if self.length == 1
            else SequenceStem(in_channels, self.length, embed_dim, make, tokens or 64)
        )
        defaults = {"attn_threshold": attn_threshold, "scale": scale}
        hidden = hidden_width(embed_dim, mlp_ratio)
        self.blocks = nn.Sequential(
            *(
                mixing_block(embed_dim, num_heads, hidden, make, "post", attention, defaults, attention_options)
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(embed_dim, num_classes)

    def sequence(self, x: Tensor) -> Tensor:
        """`x` as `[T, B, C, L]`, or `[T, B, N]` in time."""
        if self.length == 1 and x.dim() == 3:
            if x.shape[2] != self.in_channels or 0 in x.shape:
                raise ShapeError(f"SequenceFormer takes sequences [T, B, {self.in_channels}], got {tuple(x.shape)}")
            return x
        found = super().sequence(x)
        return found.flatten(2) if self.length == 1 else found.flatten(3)

    def classify(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).unsqueeze(3)  # a row of an image one pixel high
        return self.head(self.blocks(tokens).mean((3, 4)))


_PAPER = Paper("STEP: A Unified Spiking Transformer Evaluation Platform", "NeurIPS 2025", "arXiv:2505.11151")
_INTEGERS = "integers enter convolutions: residual sums of spikes (stem output and both branches of every block)"


def _register(name: str, params: int, summary: str, shape: Sequence[int], T: int, **preset: Any) -> None:
    whole = len(shape) == 3 and shape[2] > 1
    register_model(
        ModelCard(
            name=name, family="sequence_former", params=params, summary=summary, input_shape=tuple(shape),
            num_classes=10, T=T, spike_driven=False,
            violations=(_INTEGERS, "token means enter the head")
            + (("averages of spikes enter the position branch and the first block",) if whole else ()),
            paper=_PAPER,
            reported=(Reported("smnist", 98.84, "Shen et al., NeurIPS 2025", T=4),) if whole else (),
            deviations=() if whole else ("time is the sequence; the publication has no such model",),
        ),
        SequenceFormer, in_channels=shape[0], img_size=(shape[1], shape[2]), T=T, **preset,
    )  # fmt: skip


_register("sequence_former_4_384", 8_047_258, "STEP's Spikformer for sequences, repeated T times", (1, 1, 784), 4)
_register(
    "sequence_former_time", 122_122, "the same blocks where time is the sequence", (28, 1, 1), 28,
    embed_dim=64, depth=2, num_heads=4,
)  # fmt: skip
