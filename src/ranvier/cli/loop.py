"""`ranvier loop`: closed sensing-to-action loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.cli.exits import FAILED, say
from ranvier.cli.options import AsJson
from ranvier.cli.output import console, print_json, print_table

loop = typer.Typer(no_args_is_help=True)
FOLDER = Path("runs/loop")
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the log, the animation and the report page.")]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as policy=priority:3 agents=2.")
]


@loop.callback()
def about() -> None:
    """Sense a part, predict the rest, act, and let the action decide what is sensed next.

    \b
    Examples:
      ranvier loop run navigation worlds=10 --out runs/loop
      ranvier loop compare policy=full policy=priority:6 policy=priority:3 --worlds 40
      ranvier loop replay runs/loop/log.npz
    """


@loop.command("run")
def run(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario by name or a YAML file; KEY=VALUE starts from the defaults.")
    ] = None,
    settings: Settings = None,
    out: Out = FOLDER,
    live: Annotated[bool, typer.Option("--live", help="Show the first world while it runs.")] = False,
    animation: Annotated[bool, typer.Option("--animation/--no-animation", help="Write a GIF of a world.")] = True,
    world: Annotated[int, typer.Option("--world", min=0, help="The recorded world that the GIF shows.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a loop, record it, and write the log, an animation and a report page.

    \b
    Examples:
      ranvier loop run
      ranvier loop run faulty worlds=10 --live
      ranvier loop run policy=info_gain:3 predictor=spiking worlds=20 --json
    """
    from ranvier.bench import loop_pages
    from ranvier.loop.animate import animate
    from ranvier.loop.config import load_config
    from ranvier.loop.record import record

    overrides = list(settings or [])
    if scenario is not None and "=" in scenario:
        overrides.insert(0, scenario)
        scenario = None
    config = load_config(scenario or "navigation", overrides)
    report, log = _watched(lambda on_tick: record(config, worlds=world + 1, on_tick=on_tick), live and not as_json)
    log.save(out / "log.npz")
    picture = animate(log, out / "run.gif", world) if animation else None
    page = loop_pages.write_run(out, report, picture)
    if as_json:
        print_json({**report.document(), "log": str(out / "log.npz"), "page": str(page)})
        return
    _summary(report)
    print(f"log: {out / 'log.npz'}")
    if picture is not None:
        print(f"animation: {picture}")
    print(f"report: {page}")


def _watched(work: Callable[[Any], Any], live: bool) -> Any:
    if not live:
        return work(None)
    from rich.live import Live
    from rich.text import Text

    from ranvier.loop.view import status_line, text_map

    with Live(console=console(), refresh_per_second=10) as screen:

        def show(lp: Any, tick: Any) -> None:
            screen.update(Text(f"{text_map(lp, tick)}\n{status_line(lp, tick)}"))

        return work(show)


def _summary(report: Any) -> None:
    figures = report.summary()
    seconds = figures["time_to_goal_s"]
    rows = [
        ("success", f"{figures['success']:.3f}"), ("collision", f"{figures['collision']:.3f}"),
        ("timeout", f"{figures['timeout']:.3f}"), ("time to goal", "–" if seconds is None else f"{seconds:.1f} s"),
        ("return", f"{figures['mean_return']:.3f}"), ("sectors a tick", f"{figures['sectors_per_tick']:.2f} of 30"),
        *((f"energy, {stage}", f"{mj:.4f} mJ a tick") for stage, mj in figures["energy_mj_per_tick"].items()),
        ("energy against full sensing", f"{figures['energy_vs_full']:.4f}"),
        ("latency", f"{figures['latency_ms']:.1f} ms"),
        *((f"incidents, {what}", str(count)) for what, count in figures["incidents"].items()),
    ]  # fmt: skip
    print_table(["", ">"], rows, title=f"{figures['episodes']} episodes")


@loop.command("compare")
def compare_them(
    variants: Annotated[
        list[str],
        typer.Argument(metavar="VARIANT...", help="Scenarios, or settings joined by commas: policy=full,gate=false."),
    ],
    worlds: Annotated[int, typer.Option("--worlds", min=1, help="Test worlds 0 to N-1.")] = 40,
    out: Out = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Run several loops in the same worlds and compare them.

    \b
    Examples:
      ranvier loop compare policy=full policy=priority:6 policy=random:6,gate=false
      ranvier loop compare navigation spiking --worlds 20 --json
    """
    from ranvier.bench import loop_pages
    from ranvier.loop.compare import compare, paired
    from ranvier.loop.config import load_config

    configs: list[tuple[str, Any]] = []
    for variant in variants:
        parts = variant.split(",")
        name = parts.pop(0) if "=" not in parts[0] else None
        configs.append((variant, load_config(name, [*parts, f"worlds={worlds}"])))
    rows = compare(configs, say)
    page = loop_pages.write_comparison(out, rows)
    if as_json:
        print_json({"rows": [row.document() for row in rows], "page": str(page)})
        return
    table: list[tuple[str, ...]] = []
    for row in rows:
        gap = "" if row is rows[0] or row.config.agents != rows[0].config.agents else "{:+.3f} ± {:.3f}".format(
            *paired(rows[0].report, row.report)
        )  # fmt: skip
        table.append(
            (row.label, f"{row.report.success:.3f} ± {row.standard_error:.3f}", gap, f"{row.report.collision:.3f}",
             f"{row.report.sectors:.1f}", f"{row.report.relative('lidar'):.4f}", f"{row.report.relative():.4f}",
             f"{row.report.mean_return:.3f}")
        )  # fmt: skip
    print_table(
        ["variant", ">success", ">to the first", ">collision", ">sectors", ">laser energy", ">all energy", ">return"],
        table,
    )
    print(f"report: {page}")


@loop.command("replay")
def replay_it(
    path: Annotated[Path, typer.Argument(help="A log that `loop run` wrote.")],
    animation: Annotated[Path | None, typer.Option("--animation", help="Write a GIF of the recorded world.")] = None,
    world: Annotated[int, typer.Option("--world", min=0, help="Which recorded world.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a log's configuration again and compare every tick bit by bit.

    \b
    Examples:
      ranvier loop replay runs/loop/log.npz
      ranvier loop replay runs/loop/log.npz --animation again.gif
    """
    from ranvier.loop.animate import animate
    from ranvier.loop.record import Log, replay

    log = Log.load(path)
    if animation is not None:
        animate(log, animation, world)
    found = replay(log)
    if as_json:
        print_json({"identical": found.identical, "ticks": found.ticks, "first_difference": found.first_difference})
    elif found.identical:
        print(f"identical: {found.ticks} ticks")
    else:
        print(f"differs from tick {found.first_difference} on (of {found.ticks})")
    if not found.identical:
        raise typer.Exit(FAILED)
