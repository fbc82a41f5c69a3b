"""A recorded run as a moving picture (GIF, by Pillow)."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.files import replacing
from ranvier.loop.envs.geometry import BEAMS, STEP
from ranvier.loop.record import Log
from ranvier.loop.trust.verdict import MODES

_INK, _PAPER, _DISC, _MOVING, _BEAM, _BELIEF = "#222222", "#ffffff", "#b9b9c6", "#8a7fb8", "#e3a83a", "#2f8f6b"
_AGENTS = ("#5b3fa8", "#c2503a", "#2b7bba", "#7a8b2a", "#a8559e", "#4a4a4a", "#b8860b", "#167a7a")


def draw_frame(log: Log, tick: int, world: int = 0, size: int = 480) -> Any:
    """One tick of a recorded world as a Pillow image: beams fired (amber), what is believed of the rest (green)."""
    image_module = require("PIL.Image", extra="loop")
    draw_module = require("PIL.ImageDraw", extra="loop")
    frames, scale, top = log.frames, size / 20.0, 22
    image = image_module.new("RGB", (size, size + top), _PAPER)
    draw = draw_module.Draw(image)

    def at(x: float, y: float) -> tuple[float, float]:
        return x * scale, top + size - y * scale

    def disc(x: float, y: float, r: float, **style: Any) -> None:
        (a, b), (c, d) = at(x - r, y + r), at(x + r, y - r)
        draw.ellipse((a, b, c, d), **style)

    before = frames["centre"][max(tick - 1, 0), world]
    for number, (centre, radius) in enumerate(
        zip(frames["centre"][tick, world], log.scene["radius"][world], strict=True)
    ):
        moving = bool(np.abs(frames["centre"][-1, world, number] - frames["centre"][0, world, number]).max() > 1e-9)
        moving = moving or bool(np.abs(centre - before[number]).max() > 1e-9)
        disc(centre[0], centre[1], float(radius), fill=_MOVING if moving else _DISC)
    agents = frames["position"].shape[2]
    for agent in range(agents):
        x, y = (float(v) for v in frames["position"][tick, world, agent])
        sensed, ranges = frames["sensed"][tick, world, agent], frames["ranges"][tick, world, agent]
        for beam in range(BEAMS):
            reach = float(ranges[beam])
            end = (x + reach * math.cos(beam * STEP), y + reach * math.sin(beam * STEP))
            if sensed[beam]:
                draw.line((*at(x, y), *at(*end)), fill=_BEAM)
            elif reach < 7.9:
                px, py = at(*end)
                draw.rectangle((px - 1, py - 1, px + 1, py + 1), fill=_BELIEF)
        gx, gy = log.scene["goal"][world, agent]
        disc(float(gx), float(gy), 0.6, outline=_AGENTS[agent % len(_AGENTS)])
        disc(x, y, 0.25, fill=_AGENTS[agent % len(_AGENTS)])
    mode = MODES[int(frames["mode"][tick, world].max())]
    spent = float(frames["energy_nj"][tick, world].sum()) * 1e-6
    draw.text((6, 5), f"{tick / 10:.1f} s   {mode}   {spent:.1f} mJ", fill=_INK)
    draw.rectangle((0, top, size - 1, top + size - 1), outline=_INK)
    return image


def animate(log: Log, path: str | os.PathLike[str], world: int = 0, every: int = 2, size: int = 400) -> Path:
    """Write a GIF of a recorded world, every `every`-th tick at the speed of life; returns its path.

    Raises `ArgumentError` for a world that was not recorded or a name that does not end in .gif.
    """
    target = Path(path)
    worlds = log.frames["position"].shape[1]
    if not 0 <= world < worlds:
        raise ArgumentError(f"world must be from 0 to {worlds - 1} (the recorded ones), got {world}")
    if target.suffix != ".gif":
        raise ArgumentError(f"path must end in .gif, got {target.name!r}")
    if every < 1 or size < 100:
        raise ArgumentError("every must be at least 1 and size at least 100 pixels")
    running = (log.frames["status"][:, world] == 0).any(axis=1)
    last = min(int(running.sum()) + 5, len(running))
    images = [draw_frame(log, tick, world, size).quantize(32) for tick in range(0, last, every)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=100 * every, loop=0)
    return target
