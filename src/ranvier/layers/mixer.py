"""Token mixers: maps from membrane to membrane, each with the shortcut that it has in Max-Former."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError, UnknownNameError, nearest
from ranvier.layers.conv import ConvBN
from ranvier.layers.kinds import ATTENTIONS, build_attention
from ranvier.layers.residual import MSResidual
from ranvier.layers.ssa import SpikingSelfAttention
from ranvier.layers.time import over_time
from ranvier.layers.wavelet import FATM
from ranvier.neurons import NeuronFactory


class IdentityMixer(nn.Module):
    """No mixing: `U`."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class PoolMixer(nn.Module):
    """`Pool(U)`, or `U + Pool(U)` with `residual`: window 3, stride 1, on the membrane itself, without a neuron.

    Without the shortcut an average smooths the whole trunk, which is what the ablation of Max-Former measures (Fang et
    al., NeurIPS 2025); with it the mixer is the control. The average leaves padding out of the count.
    """

    def __init__(self, kind: Literal["avg", "max"], residual: bool = False, dims: int = 2) -> None:
        super().__init__()
        if kind not in ("avg", "max") or dims not in (1, 2):
            raise ArgumentError(f"a pool is 'avg' or 'max' over dims = 1 or 2 axes, got {kind!r} and {dims!r}")
        if kind == "max":
            self.pool = (nn.MaxPool1d if dims == 1 else nn.MaxPool2d)(3, stride=1, padding=1)
        else:
            self.pool = (nn.AvgPool1d if dims == 1 else nn.AvgPool2d)(3, 1, 1, count_include_pad=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        pooled = over_time(self.pool, x)
        return x + pooled if self.residual else pooled


class DWConv(nn.Module):
    """`U + BN(DWConv k×k (LIF(U)))`: a depth-wise convolution with bias mixes the neighbourhood."""

    def __init__(self, dim: int, kernel: int, neuron: NeuronFactory, dims: int = 2) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ArgumentError(f"kernel must be odd and positive, got {kernel!r}")
        self.neuron = neuron(channels=dim)
        self.block = ConvBN(dim, dim, kernel, groups=dim, bias=True, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(self.neuron(x))


class SSADWConv(nn.Module):
    """`U + BN(DWConv k×k (LIF(SSA(U))))`: self-attention sharpened by a depth-wise convolution (k = 3 or 5)."""

    def __init__(
        self, dim: int, num_heads: int, neuron: NeuronFactory, kernel: int = 5, scale: float = 0.125, dims: int = 2
    ) -> None:
        super().__init__()
        self.attention = SpikingSelfAttention(dim, num_heads, neuron, residual="membrane", scale=scale)
        self.neuron = neuron(channels=dim)
        self.block = ConvBN(dim, dim, kernel, groups=dim, bias=True, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(self.neuron(self.attention(x)))


def build_mixer(
    spec: str, dim: int, num_heads: int, neuron: NeuronFactory, dims: int = 2, **options: object
) -> nn.Module:
    """A token mixer by name.

    "id"; "avg", "max" and with a shortcut "avg+", "max+"; "dwc3", "dwc5", … (any odd kernel); the names of
    `ranvier.layers.ATTENTIONS` ("ssa", "sdsa1", …; attention with a membrane shortcut); "ssa_dwc3", "ssa_dwc5"; "fatm"
    (wavelets, with as many blocks as heads; images only).

    Args:
        spec: the name.
        dim, num_heads, neuron: width, heads (attention only), factory of the neurons.
        options: of the attention, such as `scale` or `attn_threshold`.

    Raises `UnknownNameError` that names the nearest one.
    """
    if spec == "id":
        return IdentityMixer()
    if spec in ("avg", "max", "avg+", "max+"):
        return PoolMixer("avg" if spec.startswith("avg") else "max", spec.endswith("+"), dims)
    head, _, kernel = spec.rpartition("dwc")
    if head in ("", "ssa_") and kernel.isdecimal():
        if head:
            return SSADWConv(dim, num_heads, neuron, int(kernel), dims=dims)
        return DWConv(dim, int(kernel), neuron, dims)
    if spec == "fatm":
        if dims != 2:
            raise ArgumentError(f"the mixer 'fatm' transforms images, dims = 2, got {dims!r}")
        return MSResidual(FATM(dim, num_heads, neuron))
    if spec in ATTENTIONS:
        if spec in ("sdsa3", "softmax", "dssa"):
            options = {**options, "dims": dims}
        return MSResidual(build_attention(spec, dim, num_heads, neuron, residual="membrane", **options))
    known = ("id", "avg", "max", "avg+", "max+", "dwc3", "dwc5", "dwc7", "ssa_dwc3", "ssa_dwc5", "fatm", *ATTENTIONS)
    raise UnknownNameError(f"unknown mixer {spec!r}{nearest(spec, known)}")
