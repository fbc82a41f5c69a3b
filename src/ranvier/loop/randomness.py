"""Random numbers of the loop: one independent stream per world and purpose, whatever batch the world runs in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_CHUNK = 32  # ticks drawn at a time


class Randomness:
    """Streams of uniform and normal numbers for worlds of given seeds.

    A stream is named; its numbers depend on the run's seed, the world's seed and the name, never on the other worlds
    of the batch or on how often other streams were used.
    """

    def __init__(self, worlds: Sequence[int], agents: int = 1, seed: int = 0) -> None:
        self.worlds, self.agents, self.seed = tuple(worlds), agents, seed
        self._streams: dict[str, tuple[list[np.random.Generator], Tensor, int]] = {}

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, float64 `[worlds x agents, *shape]`; a new draw each call."""
        return self._draw(f"n:{name}", shape, True)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float64 `[worlds x agents, *shape]`."""
        return self._draw(f"u:{name}", shape, False)

    def _draw(self, name: str, shape: tuple[int, ...], normal: bool) -> Tensor:
        full = (self.agents, *shape)
        if name not in self._streams:
            mark = zlib.crc32(name.encode())
            made = [np.random.Generator(np.random.PCG64([mark, self.seed, world])) for world in self.worlds]
            self._streams[name] = (made, torch.empty(0), _CHUNK)
        generators, block, used = self._streams[name]
        if used == _CHUNK:
            drawn = [g.standard_normal((_CHUNK, *full)) if normal else g.random((_CHUNK, *full)) for g in generators]
            block, used = torch.from_numpy(np.stack(drawn, 1)), 0
        self._streams[name] = (generators, block, used + 1)
        return block[used].flatten(0, 1)
