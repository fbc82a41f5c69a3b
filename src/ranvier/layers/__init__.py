"""Building blocks that models share."""

from __future__ import annotations

from ranvier.layers.attention import Projection, SpikingAttention, product_neuron
from ranvier.layers.channel_mlp import ChannelMLP, SpikingMLP
from ranvier.layers.conv import ConvBN, ConvBNNeuron, LinearBN
from ranvier.layers.conv_block import ChannelConv, SepConv
from ranvier.layers.deformed_shortcut import DeformedShortcut
from ranvier.layers.delays import (
    DelayAnnealer,
    DelayConv2d,
    DelayLinear,
    DenseDelayLinear,
    EventQueue,
    SynapseTable,
    clamp_delays_,
    delay_kernel,
    delay_layers,
    delay_param_groups,
    freeze_delays_,
    integer_delays,
    round_delays_,
)
from ranvier.layers.dropout import SequenceDropout
from ranvier.layers.dssa import DSSA
from ranvier.layers.embed import (
    AvgEmbed,
    Embed,
    Embed1Max,
    EmbedMax,
    EmbedMaxPlus,
    EmbedOrig,
    EmbedQKInit,
    MaxEmbed,
    MSDownsampling,
    build_embed,
)
from ranvier.layers.emsa import EMSA, EMSP, ExpertsAttention, ExpertsMLP
from ranvier.layers.full_readout import FullReadout
from ranvier.layers.group_ffn import GWFFN
from ranvier.layers.kinds import ATTENTIONS, build_attention
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.layers.local_attention import LocalBlock, LocalSSA, UnbiasedSSA
from ranvier.layers.mixer import DWConv, IdentityMixer, PoolMixer, SSADWConv, build_mixer
from ranvier.layers.patch_stem import PatchStem, SpikingPatchSplitting, halving_pool, pools_for
from ranvier.layers.qcfs import QCFS, Folded, FoldedNeuron, LSQReLU
from ranvier.layers.qk_attention import QKChannelAttention, QKTokenAttention
from ranvier.layers.recomputation import compact_spikes, recompute
from ranvier.layers.rep_conv import RepConv, RepConvBN, SeparableBN
from ranvier.layers.residual import (
    LayerScale,
    MixerBlock,
    MSResidual,
    Residual,
    SEWResidual,
    TransformerBlock,
    VanillaResidual,
)
from ranvier.layers.sdsa import SpikeDrivenAttention
from ranvier.layers.sdsa3 import SDSA3, SoftmaxAttention
from ranvier.layers.spiking_tokenizer import SpikingTokenizer
from ranvier.layers.ssa import Order, SpikingSelfAttention, spike_product
from ranvier.layers.statten import SpatioTemporalAttention, STAtten
from ranvier.layers.stems import STEMS, AblationStem, build_stem
from ranvier.layers.temporal_interaction import TIMSSA, TemporalAttention, TemporalInteraction
from ranvier.layers.time import TimeWise, over_time
from ranvier.layers.value_only import ValueOnly, freeze_queries
from ranvier.layers.wavelet import FATM, HaarTransform, haar_matrix
from ranvier.neurons.gain_control import GainControl

__all__ = [
    "ATTENTIONS",
    "DSSA",
    "EMSA",
    "EMSP",
    "FATM",
    "GWFFN",
    "QCFS",
    "SDSA3",
    "STEMS",
    "TIMSSA",
    "AblationStem",
    "AvgEmbed",
    "ChannelConv",
    "ChannelMLP",
    "ConvBN",
    "ConvBNNeuron",
    "DWConv",
    "DeformedShortcut",
    "DelayAnnealer",
    "DelayConv2d",
    "DelayLinear",
    "DenseDelayLinear",
    "Embed",
    "Embed1Max",
    "EmbedMax",
    "EmbedMaxPlus",
    "EmbedOrig",
    "EmbedQKInit",
    "EventQueue",
    "ExpertsAttention",
    "ExpertsMLP",
    "Folded",
    "FoldedNeuron",
    "FullReadout",
    "GainControl",
    "HaarTransform",
    "IdentityMixer",
    "LSQReLU",
    "LayerScale",
    "LeakyReadout",
    "LinearBN",
    "LocalBlock",
    "LocalSSA",
    "MSDownsampling",
    "MSResidual",
    "MaxEmbed",
    "MixerBlock",
    "Order",
    "PatchStem",
    "PoolMixer",
    "Projection",
    "QKChannelAttention",
    "QKTokenAttention",
    "RepConv",
    "RepConvBN",
    "Residual",
    "SEWResidual",
    "SSADWConv",
    "STAtten",
    "SepConv",
    "SeparableBN",
    "SequenceDropout",
    "SoftmaxAttention",
    "SpatioTemporalAttention",
    "SpikeDrivenAttention",
    "SpikingAttention",
    "SpikingMLP",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "SpikingTokenizer",
    "SynapseTable",
    "TemporalAttention",
    "TemporalInteraction",
    "TimeWise",
    "TransformerBlock",
    "UnbiasedSSA",
    "ValueOnly",
    "VanillaResidual",
    "build_attention",
    "build_embed",
    "build_mixer",
    "build_stem",
    "clamp_delays_",
    "compact_spikes",
    "delay_kernel",
    "delay_layers",
    "delay_param_groups",
    "freeze_delays_",
    "freeze_queries",
    "haar_matrix",
    "halving_pool",
    "integer_delays",
    "over_time",
    "pools_for",
    "product_neuron",
    "recompute",
    "round_delays_",
    "spike_product",
]  # fmt: skip
