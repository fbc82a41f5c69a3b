"""Architectures, one file each, and the registry that finds them."""

from __future__ import annotations

from ranvier.models import (  # noqa: F401  (registers)
    delay_mlp,
    e3dsnn,
    gru,
    hdsnn,
    max_former,
    meta_spikeformer,
    ms_resnet,
    qcfs_nets,
    qkformer,
    resnet18_snn,
    scnn_omniglot,
    semm,
    sequence_former,
    sglformer,
    spike_driven,
    spike_gpt,
    spikepoint,
    spikformer,
    spiking_conv_net,
    spiking_detector,
    spiking_mlp,
    spiking_segmentor,
    spiking_unet,
    spikingformer,
    spikingresformer,
    spt,
    statten,
    swformer,
    tim,
    vgg_snn,
)
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.cloud import CloudNet
from ranvier.models.delay_mlp import DelayMLP
from ranvier.models.denoiser import Denoiser
from ranvier.models.dense import Backbone, Detection, DetectionNet, Pyramid, SegmentationNet
from ranvier.models.hdsnn import HDSNN
from ranvier.models.language import LanguageModel
from ranvier.models.official import LoadReport, OfficialMismatchError, OfficialNames, load_official
from ranvier.models.pretrained import WeightCard, list_pretrained, weight_card
from ranvier.models.registry import (
    MODELS,
    create_model,
    describe_models,
    list_models,
    model_card,
    register_model,
    trainable_params,
)
from ranvier.models.sampling import next_token_probabilities
from ranvier.models.spike_gpt import SpikeGPT, SpikeGPTForSequenceClassification
from ranvier.models.spiking_detector import SpikingDetector
from ranvier.models.spiking_segmentor import SpikingSegmentor
from ranvier.models.spiking_unet import SpikingUNet, scale_thresholds

__all__ = [
    "HDSNN", "MODELS", "Backbone", "CloudNet", "DelayMLP", "Denoiser", "Detection", "DetectionNet", "LanguageModel",
    "LoadReport", "ModelCard", "OfficialMismatchError", "OfficialNames", "Paper", "Pyramid", "Reported",
    "SegmentationNet", "SpikeGPT", "SpikeGPTForSequenceClassification", "SpikingClassifier", "SpikingDetector",
    "SpikingSegmentor", "SpikingUNet", "WeightCard", "create_model", "describe_models", "list_models",
    "list_pretrained", "load_official", "model_card", "next_token_probabilities", "register_model",
    "scale_thresholds", "trainable_params", "weight_card",
]  # fmt: skip
