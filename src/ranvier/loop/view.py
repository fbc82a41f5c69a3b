"""The first world of a running loop as text, for a terminal."""

from __future__ import annotations

import math

from ranvier.loop.engine import SenseActLoop, Tick
from ranvier.loop.envs.geometry import PER_SECTOR
from ranvier.loop.envs.lidar_nav import STATUS_NAMES
from ranvier.loop.trust.verdict import MODES


def text_map(loop: SenseActLoop, tick: Tick, rows: int = 20) -> str:
    """World 0 as characters, two columns a row: discs `o` (moving `@`), agents by number, goals `x`, beams `·`."""
    env = loop.env
    scale = rows / env.size
    grid = [[" "] * (2 * rows) for _ in range(rows)]

    def put(x: float, y: float, mark: str, keep: bool = False) -> None:
        column, line = int(x * scale * 2), rows - 1 - int(y * scale)
        if 0 <= line < rows and 0 <= column < 2 * rows and not (keep and grid[line][column] != " "):
            grid[line][column] = mark

    for disc in range(env.discs):
        cx, cy = env.centre[0, disc].tolist()
        radius, moving = float(env.radius[0, disc]), bool((env.drift[0, disc] != 0).any())
        for i in range(2 * rows):
            for j in range(rows):
                if math.hypot((i + 0.5) / scale / 2 - cx, (j + 0.5) / scale - cy) <= radius:
                    put((i + 0.5) / scale / 2, (j + 0.5) / scale, "@" if moving else "o")
    for agent in range(env.num_agents):
        x, y = env.position[0, agent].tolist()
        for beam in tick.raw.sensed[agent].nonzero().flatten().tolist():
            angle, reach = math.radians(beam * 3), float(tick.raw.ranges[agent, beam])
            for step in range(1, int(reach / 0.5) + 1):
                put(x + 0.5 * step * math.cos(angle), y + 0.5 * step * math.sin(angle), "·", keep=True)
    for agent in range(env.num_agents):
        goal_x, goal_y = env.goal[0, agent].tolist()
        x, y = env.position[0, agent].tolist()
        put(goal_x, goal_y, "x")
        put(x, y, str(agent + 1))
    edge = "+" + "-" * (2 * rows) + "+"
    return "\n".join([edge, *(f"|{''.join(line)}|" for line in grid), edge])


def status_line(loop: SenseActLoop, tick: Tick) -> str:
    """Time, what the first agent does, and how the batch stands."""
    env = loop.env
    counts = [int((env.status == code).sum()) for code in range(len(STATUS_NAMES))]
    sectors = int(tick.raw.sensed[0].sum()) // PER_SECTOR
    energy = int(loop.ledger.total()[0]) * 1e-6
    stands = ", ".join(f"{count} {name}" for count, name in zip(counts, STATUS_NAMES, strict=True) if count)
    return (
        f"t {tick.time_us / 1e6:5.1f} s   sectors {sectors:2d}/30   gate {float(tick.raw.gate[0]):.1f} m   "
        f"{MODES[int(tick.verdict.mode[0])]}   {energy:.1f} mJ\n{stands}; "
        f"{sum(loop.guard.counts.values())} incidents"
    )
