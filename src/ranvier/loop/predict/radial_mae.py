"""The learned predictor in the loop: memory of echoes, ring events, and a network that fills in the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, CheckpointError
from ranvier.loop.predict.persistence import Belief, PersistenceMap, Work
from ranvier.loop.predict.radial_net import CHANNELS, RadialNet
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents
from ranvier.state import Memory, stream

_NEAREST, _FARTHEST, _STALE = 0.3, 8.0, 3.0
SHIPPED = Path(__file__).parent / "weights"


def frame(scan: Scan, memory: Belief, ring: RingEvents) -> Tensor:
    """One tick as the network sees it, float32 `[N, 7, 120]`."""
    seen = scan.sensed.double()
    inverse = seen / scan.ranges.clamp_min(_NEAREST)
    remembered = 1 / memory.ranges.clamp(_NEAREST, _FARTHEST)
    age = (memory.age_s / _STALE).clamp(max=1.0)
    return torch.stack([seen, inverse, scan.hit.double(), remembered, age, ring.on, ring.off], 1).float()


class SpikingRadialMAE(nn.Module):
    """Predicts the ranges of all beams from a few sensed ones, the memory and the ring; a predictor of the loop.

    Sensed beams keep the measurement, others read 1 / max(prediction, 1/8). The state of the network runs along with
    the episode. Untrained until `load` or `ranvier.loop.predict.fit`.

    Args:
        kind, neuron: of `RadialNet`.
        caution: standard deviations that are taken off a predicted range for the controller.
        fuse_s: an echo remembered for at most this long is not overruled by a farther prediction.
        lifetime: of the memory, seconds.
    """

    learned = True

    def __init__(
        self,
        kind: Literal["spiking", "ann", "hybrid"] = "spiking",
        neuron: str | Mapping[str, Any] | None = None,
        caution: float = 0.2,
        fuse_s: float = 1.5,
        lifetime: float = 3.0,
    ) -> None:
        super().__init__()
        if not 0 <= caution <= 5:
            raise ArgumentError(f"caution must be in [0, 5] standard deviations, got {caution}")
        self.net = RadialNet(kind, neuron)
        self.caution, self.fuse_s = caution, fuse_s
        self.memory = PersistenceMap(lifetime)
        self._stream: Memory | None = None
        self._next: Belief | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **arguments: Any) -> SpikingRadialMAE:
        """A predictor with the weights of a safetensors file, or the name of the shipped ones, "spiking"."""
        from ranvier.train.checkpoint import load_weights

        file = SHIPPED / f"radial_{path}.safetensors" if str(path) == "spiking" else Path(path)
        tensors = load_weights(file)
        kind = "ann" if any("gates" in name for name in tensors) else "spiking"
        leaky = any(name.endswith("fire1.w") for name in tensors)
        found: dict[str, Any] = {"kind": kind, "neuron": {"type": "plif", "surrogate": "atan"} if leaky else None}
        model = cls(**{**found, **arguments})
        try:
            model.net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        except RuntimeError as error:
            raise CheckpointError(f"{file}: not the weights of a radial predictor ({str(error)[:200]})") from error
        return model.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as safetensors."""
        from ranvier.train.checkpoint import save_weights

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_weights(Path(path), self.net.state_dict())

    def reset(self, rows: int, shared: bool = False) -> None:
        """Begin an episode."""
        self.eval()
        self.memory.reset(rows, shared)
        self._stream, self._next = None, None

    def predict(self, position: Tensor, tick: int) -> Belief:
        """Before anything is sensed: what the network said of this tick, sharpened where the memory is fresh."""
        self._known = self.memory.predict(position, tick)
        if self._next is None:
            return self._known
        fresh = self._known.known & (self._known.age_s <= 0.11)
        said = self._next
        return Belief(
            torch.where(fresh, self._known.ranges, said.ranges), self._known.known, self._known.age_s, said.std,
            said.rates,
        )  # fmt: skip

    @torch.no_grad()
    def update(self, scan: Scan, ring: RingEvents, position: Tensor) -> tuple[Belief, Work]:
        """One step of the network."""
        x = frame(scan, self._known, ring)
        before = self._stream
        (out, activity), self._stream = stream(_Traced(self.net), x[None], before)
        self.memory.update(scan, ring, position)
        mean, variance, _, following = out[0].double().unbind(1)
        inverse = mean.clamp(1 / _FARTHEST, 1 / 0.1)
        ranges = 1 / inverse
        std = (0.5 * variance).exp() * ranges.square()
        cautious = (ranges - self.caution * std).clamp_min(0.1) if self.caution else ranges
        recent = self._known.known & (self._known.age_s <= self.fuse_s)
        cautious = torch.where(recent, torch.minimum(cautious, self._known.ranges), cautious)
        blend = torch.where(scan.sensed, scan.ranges, cautious)
        steps = [layer[0] for layer in activity]
        rates = torch.stack([layer.float().mean((1, 2)) for layer in steps[:3]], 1).double()
        known = self._known.known | scan.sensed
        age = torch.where(scan.sensed, 0.0, self._known.age_s)
        self._next = Belief(1 / following.clamp(1 / _FARTHEST, 1 / 0.1), known, age, std, rates)
        acs, macs, spikes = self.net.work(steps)
        return Belief(blend, known, age, std, rates), Work(acs, macs, spikes)

    def forget(self, rows: Tensor) -> None:
        """Start the given rows from nothing, after a failure."""
        self.memory.forget(rows)
        if self._stream is not None:
            self._stream.map(
                lambda t: torch.where(rows.view(-1, *[1] * (t.dim() - 1)), 0.0, t) if len(t) == len(rows) else t
            )
        if self._next is not None:
            self._next.ranges = torch.where(rows[:, None], self._known.ranges, self._next.ranges)

    def insert(self, points: Tensor, stamp: Tensor) -> None:
        """Echoes that others have seen, for the memory."""
        self.memory.insert(points, stamp)


class _Traced(nn.Module):
    """Lets `stream` carry a call of `RadialNet.trace`."""

    def __init__(self, net: RadialNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.net.trace(x)


assert CHANNELS == 7
