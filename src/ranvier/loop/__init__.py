"""Sensing-to-action loops: sense a part, predict the rest, act, and let the action decide what is sensed next.

After Trivedi et al., "Intelligent Sensing-to-Action for Robust Autonomy at the Edge" (DATE 2025).
"""

from __future__ import annotations

from ranvier.loop.clock import Clock, EventQueue, Outcome, Process
from ranvier.loop.control import GapFollow, SpectralKoopman, SpikingController, lqr
from ranvier.loop.costs import EnergyModel, LatencyModel
from ranvier.loop.engine import Loop, SenseActLoop, Sensors, Tick
from ranvier.loop.envs import EventControl, LidarNav2D, LTIPlant
from ranvier.loop.guard import Incident, StageFault
from ranvier.loop.ledger import Ledger
from ranvier.loop.multi import Comms, FedAvg, Message, SectorAuction
from ranvier.loop.predict import PersistenceMap, SpikingRadialMAE, radial_mask
from ranvier.loop.report import Episode, Report
from ranvier.loop.sensing import (
    DutyCycle,
    EventTriggered,
    FullScan,
    InfoGain,
    LearnedSectors,
    Priority,
    RandomSectors,
    Rotating,
)
from ranvier.loop.sensors import EventCamera, LidarBeams, RingDVS, faults
from ranvier.loop.trust import Cusum, FallbackFSM, LikelihoodRegret, ResidualScore, TrustMonitor

__all__ = [
    "Clock", "Comms", "Cusum", "DutyCycle", "EnergyModel", "Episode", "EventCamera", "EventControl", "EventQueue",
    "EventTriggered", "FallbackFSM", "FedAvg", "FullScan", "GapFollow", "Incident", "InfoGain", "LTIPlant",
    "LatencyModel", "LearnedSectors", "Ledger", "LidarBeams", "LidarNav2D", "LikelihoodRegret", "Loop", "Message",
    "Outcome", "PersistenceMap", "Priority", "Process", "RandomSectors", "Report", "ResidualScore", "RingDVS",
    "Rotating", "SectorAuction", "SenseActLoop", "Sensors", "SpectralKoopman", "SpikingController",
    "SpikingRadialMAE", "StageFault", "Tick",
    "TrustMonitor", "faults", "lqr", "radial_mask",
]  # fmt: skip
