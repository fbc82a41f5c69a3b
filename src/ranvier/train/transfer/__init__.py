"""Knowledge transfer from static images to event data (He et al., AAAI 2024)."""

from __future__ import annotations

from ranvier.train.transfer.alignment import DomainAlignmentLoss
from ranvier.train.transfer.cka import cka, cka_matrix
from ranvier.train.transfer.coefficients import TemporalCoefficients
from ranvier.train.transfer.diagnose import DomainDiagnosis, MembraneHistogram, diagnose_domains
from ranvier.train.transfer.image import StaticToEvent, value_channel
from ranvier.train.transfer.loss import KnowledgeTransferLoss, TETLoss, TransferTerms
from ranvier.train.transfer.network import DomainOutputs, TwoDomainNet, recalibrate
from ranvier.train.transfer.pairs import NumberedSamples, PairedImages
from ranvier.train.transfer.semantic import SemanticLoss
from ranvier.train.transfer.sliding import SlidingReplacement
from ranvier.train.transfer.tap import Tap, tapped

__all__ = [
    "DomainAlignmentLoss", "DomainDiagnosis", "DomainOutputs", "KnowledgeTransferLoss", "MembraneHistogram",
    "NumberedSamples", "PairedImages", "SemanticLoss", "SlidingReplacement", "StaticToEvent", "TETLoss", "Tap",
    "TemporalCoefficients", "TransferTerms", "TwoDomainNet", "cka", "cka_matrix", "diagnose_domains", "recalibrate",
    "tapped", "value_channel",
]  # fmt: skip
