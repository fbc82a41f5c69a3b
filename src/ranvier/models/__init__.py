"""Architectures, one file each, and the registry that finds them."""

from __future__ import annotations

from ranvier.models import spiking_conv_net, spiking_mlp  # noqa: F401  (registers)
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import (
    MODELS,
    create_model,
    describe_models,
    list_models,
    model_card,
    register_model,
    trainable_params,
)

__all__ = [
    "MODELS", "ModelCard", "Paper", "Reported", "SpikingClassifier", "create_model", "describe_models",
    "list_models", "model_card", "register_model", "trainable_params",
]  # fmt: skip
