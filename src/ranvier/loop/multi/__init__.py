"""Several agents: messages, a lossy link, auctions, federated averaging."""

from __future__ import annotations

from ranvier.loop.multi.comms import Comms, SectorAuction
from ranvier.loop.multi.federated import Client, FedAvg, QuantisedTraining, stochastic_round
from ranvier.loop.multi.message import Message, message_bits

__all__ = [
    "Client", "Comms", "FedAvg", "Message", "QuantisedTraining", "SectorAuction", "message_bits", "stochastic_round",
]  # fmt: skip
