"""The frame that every spiking attention shares, and the neuron after an attention product."""

from __future__ import annotations

import contextlib
import inspect

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.conv import ConvBN
from ranvier.layers.residual import Residual, check_residual
from ranvier.neurons import Neuron, NeuronFactory


def product_neuron(
    neuron: NeuronFactory, threshold: float | None, channels: int, channel_axis: int = 2
) -> Neuron:  # fmt: skip
    """The neuron that turns an attention product `[T, B, channels, ...]` back into spikes.

    `threshold` replaces the one of the factory; None keeps it. A neuron with a `gain` (IE-LIF) gets 1/threshold as its
    gain instead, as published. Raises `ArgumentError` when the neuron has neither.
    """
    if threshold is None:
        return neuron(channels=channels, channel_axis=channel_axis)
    if "gain" in inspect.signature(neuron.neuron).parameters:
        return neuron(channels=channels, channel_axis=channel_axis, gain=1 / threshold)
    if "threshold" not in inspect.signature(neuron.neuron).parameters:
        raise ArgumentError(
            f"neuron {neuron.type!r} takes no threshold, but attn_threshold={threshold!r} asks for one after the "
            "attention product; give attn_threshold=None to use the neuron as it is"
        )
    return neuron(channels=channels, channel_axis=channel_axis, threshold=threshold)


def wide(spikes: Tensor) -> Tensor:
    """`spikes` in at least float32: sums over tokens pass 2048 and 256, where float16 and bfloat16 stop counting."""
    return spikes.float() if spikes.dtype in (torch.float16, torch.bfloat16) else spikes


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which autocast does not lower the precision (the meta device knows no autocast)."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class Projection(nn.Module):
    """A synaptic `block` and the neuron behind it: membrane or spikes in, spikes out."""

    def __init__(self, block: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.block(x))


class SpikingAttention(nn.Module):
    """The branch that a block adds to `[T, B, C, H, W]` (or `[T, B, C, N]`): project to spikes, `mix`, project back.

    A subclass names its projections in `names` and defines `mix(*projections)`, spikes `[T, B, C, H·W]` in and out,
    with C split as (head, channel of the head). "post" ends in a neuron: `LIF(BN(W mix))`; "membrane" begins with one:
    `BN(W mix(LIF(x)))`. W is a 1×1 convolution, or what a subclass makes in `synapse`.

    Args:
        dim: width C.
        num_heads: heads h; must divide `dim`.
        neuron: factory of the neurons.
        residual: "post" or "membrane".
        qkv_bias: whether the projections before `mix` have biases (the one after it always has).
        attn_threshold: threshold of the neuron after the product, None for the factory's own.
    """

    names: tuple[str, ...] = ("q", "k", "v")
    on_grid: bool = False  # whether the projections see the image `[T, B, C, H, W]`, not its tokens `[T, B, C, N]`

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        qkv_bias: bool = False,
        attn_threshold: float | None = 0.5,
    ) -> None:
        super().__init__()
        check_residual(residual)
        if num_heads < 1 or dim % num_heads:
            raise ArgumentError(f"num_heads must divide the width {dim}, got {num_heads!r}")
        self.dim, self.num_heads = dim, num_heads
        self.before = neuron(channels=dim) if residual == "membrane" else None
        for name in self.names:
            block = self.projection(name, qkv_bias)
            self.add_module(name, Projection(block, self.projection_neuron(neuron, self.width(name))))
        self.product_neuron = product_neuron(neuron, attn_threshold, self.product_channels())
        self.proj = self.merge()
        self.after = neuron(channels=dim) if residual == "post" else None

    def synapse(self, dim: int, bias: bool) -> nn.Module:
        """A projection without its neuron."""
        return ConvBN(dim, dim, 1, bias=bias, dims=1)

    def projection(self, name: str, bias: bool) -> nn.Module:
        """The synapse in front of the neuron of the projection `name`, to `width(name)` channels."""
        return self.synapse(self.dim, bias)

    def width(self, name: str) -> int:
        """Channels of the projection `name`."""
        return self.dim

    def merge(self) -> nn.Module:
        """The synapse behind `mix`."""
        return self.synapse(self.dim, True)

    def projection_neuron(self, neuron: NeuronFactory, dim: int) -> nn.Module:
        """What stands behind q, k and v."""
        return neuron(channels=dim)

    def product_channels(self) -> int:
        """Size of axis 2 of what enters the product's neuron."""
        return self.dim

    def mix(self, *projections: Tensor) -> Tensor:
        """Spikes of the projections, each `[T, B, C, N]`, to mixed spikes `[T, B, C, N]`."""
        raise ArgumentError(f"{type(self).__name__} does not define mix")

    def heads(self, x: Tensor) -> Tensor:
        """`[T, B, C, N]` as `[T, B, h, C/h, N]`."""
        return x.unflatten(2, (self.num_heads, -1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x if self.on_grid else x.flatten(3)
        if self.before is not None:
            tokens = self.before(tokens)
        mixed = self.mix_grid(x.shape[3:], *(getattr(self, name)(tokens).flatten(3) for name in self.names))
        mixed = self.pass_on(mixed.to(tokens.dtype), tokens.flatten(3), x.shape[3:])
        mixed = mixed.unflatten(3, x.shape[3:]) if self.on_grid else mixed
        return self.activate(self.proj(mixed)).view_as(x)

    def activate(self, y: Tensor) -> Tensor:
        """The neuron after the projection, if there is one."""
        return y if self.after is None else self.after(y)

    def pass_on(self, mixed: Tensor, spikes: Tensor, grid: tuple[int, ...]) -> Tensor:
        """What the last projection gets: `mixed`, for the few attentions that also need the block's input `spikes`."""
        return mixed

    def mix_grid(self, grid: tuple[int, ...], *projections: Tensor) -> Tensor:
        """`mix`, for the few attentions that also need the height and width of the token grid."""
        return self.mix(*projections)
