"""`ranvier stream`: events or sound through a net, decisions out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ranvier.cli import subject
from ranvier.cli.exits import DONE, FAILED, say
from ranvier.cli.options import DataRoot, KeyValues, key_values
from ranvier.cli.output import plain
from ranvier.errors import ArgumentError

if TYPE_CHECKING:
    from ranvier.infer.stream import PacketQueue, StreamRunner

_SOCKETS = ("tcp://", "udp://", "unix:")


def stream(
    model: subject.Model,
    arguments: KeyValues = None,
    source: Annotated[
        str | None,
        typer.Option("--input", "-i", help="A file, or tcp://HOST:PORT, udp://HOST:PORT, unix:PATH to listen at."),
    ] = None,
    engine: Annotated[
        Literal["auto", "event", "torch"], typer.Option("--engine", help="event is the compiled engine.")
    ] = "auto",
    window: Annotated[float, typer.Option("--window", min=0.001, help="Milliseconds of a step.")] = 10.0,
    sensor: Annotated[
        str | None, typer.Option("--sensor", help="HEIGHTxWIDTH of a socket's sensor; scaled to the net's input.")
    ] = None,
    values: Annotated[Literal["count", "binary"], typer.Option("--values", help="What a pixel holds.")] = "count",
    criterion: Annotated[
        str | None, typer.Option("--exit", help="Decide early, such as confidence:threshold=0.9 or patience:steps=5.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Decide after so many steps in any case.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One decision a recording; else decide again.")] = False,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Events that may wait.")] = 1_000_000,
    policy: Annotated[
        Literal["block", "drop-oldest"], typer.Option("--policy", help="What becomes of those that do not fit.")
    ] = "block",
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="Milliseconds that events may be late.")] = 0.0,
    gap: Annotated[int, typer.Option("--gap", min=1, help="Empty steps in a row that end a recording.")] = 1000,
    idle: Annotated[float | None, typer.Option("--idle", help="Stop after so many seconds without a packet.")] = None,
    load: Annotated[
        float | None, typer.Option("--load-test", help="Send itself so many events a second over a socket.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Of the load test.")] = 3.0,
    data_root: DataRoot = None,
    seed: subject.Seed = 0,
) -> None:
    """Run a net over a recording or a live stream; decisions come as JSON, one a line, then a summary.

    Files: EVT2 and EVT3 (.raw), .aedat4, .dat, .es, .csv, .npy, .npz, .aedat, .rvs, and .wav through the model ear.
    The summary counts all that was lost, dropped, late or damaged, and has percentiles of latencies.

    \b
    Examples:
      ranvier stream runs/gestures --input recording.raw --exit patience:steps=5
      ranvier stream delay_mlp_shd --input word.wav --once
      ranvier stream runs/gestures --input udp://0.0.0.0:7777 --sensor 260x346
      ranvier stream spiking_conv_net img_size=34 in_channels=2 --load-test 1e6
    """
    from ranvier.infer import stream as streaming

    if (source is None) == (load is None):
        raise ArgumentError("give --input FILE or ADDRESS, or --load-test RATE")
    waiting = streaming.PacketQueue(queue, policy)
    live_address = source if source is not None and source.startswith(_SOCKETS) else None
    packets: Any = None
    size = None if sensor is None else _size(sensor)
    if source is not None and live_address is None:
        packets, own = streaming.read_file(Path(source))
        size = size or own
    runner, kind = _runner(
        model, arguments, data_root, seed, size, criterion,
        {"engine": engine, "window": window, "values": values, "steps": steps, "once": once, "tolerance": tolerance,
         "gap": gap},
    )  # fmt: skip
    if load is not None:
        _load(runner, load, seconds, live_address, waiting, kind)
        return
    extra: dict[str, Any] = {"engine": kind}
    try:
        if live_address is None:
            for found in runner.run(packets):
                _line(found)
        else:
            listener = streaming.listen(live_address)
            say(f"listening at {listener.address} ({kind} engine, steps of {window:g} ms)")
            with streaming.live(listener, waiting, idle) as coming:
                for found in runner.run(coming):
                    _line(found)
            extra |= _socket_facts(waiting, listener)
    finally:
        summary = runner.summary() | extra
        summary["lost_packets"] = max(0, summary["lost_packets"] - waiting.dropped_packets)
        _line(summary)


def _runner(
    model: str, arguments: list[str] | None, data_root: Path | None, seed: int, size: tuple[int, int] | None,
    criterion: str | None, given: dict[str, Any],
) -> tuple[StreamRunner, str]:  # fmt: skip
    """The stages for the model that the command line names, and the kind of its executor."""
    import torch

    from ranvier.infer import stream as streaming

    seen = subject.find(model, arguments, None, data_root, 1, seed)
    shape = getattr(seen.net, "input_shape", None)
    if shape is None or len(shape) != 3:
        raise ArgumentError(f"model: streams need a net that takes frames [C, H, W], and {model} takes {shape}")
    example = seen.x if seen.x.dim() in (3, 5) else (torch.rand(8, 1, *shape) < 0.05).float()
    executor, kind = streaming.make_executor(seen.net, example, given["engine"])
    window_us = round(given["window"] * 1000)
    framer = streaming.Framer(shape, window_us, size or _default_size(shape), given["values"], given["gap"])
    orderer = streaming.Orderer(round(given["tolerance"] * 1000))
    decider = streaming.Decider(_criterion(criterion), given["steps"])
    return streaming.StreamRunner(executor, framer, decider, orderer, again=not given["once"]), kind


def _default_size(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The model ear's channels for a net of units; else the frame itself."""
    return (1, 700) if shape[1:] == (1, 1) and 700 % shape[0] == 0 else None


def _criterion(text: str | None) -> Any:
    from ranvier.infer.early_exit.named import named_criterion

    if text is None:
        return None
    name, _, settings = text.partition(":")
    return named_criterion(name, **key_values([part for part in settings.split(",") if part]))


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ArgumentError(f"--sensor must be HEIGHTxWIDTH, such as 260x346, got {text!r}")
    return int(parts[0]), int(parts[1])


def _socket_facts(waiting: PacketQueue, listener: Any) -> dict[str, Any]:
    return {
        "dropped_events": waiting.dropped_events, "dropped_packets": waiting.dropped_packets,
        "most_events_waiting": waiting.highest, "corrupt_stretches": listener.reader.corrupt,
        "corrupt_bytes": listener.reader.skipped,
    }  # fmt: skip


def _load(
    runner: StreamRunner, rate: float, seconds: float, address: str | None, waiting: PacketQueue, kind: str
) -> None:
    from ranvier.infer.stream import load_test

    found = load_test(runner, rate, seconds, address=address or "tcp://127.0.0.1:0", queue=waiting)
    _line({"type": "load", "held": found.held, "engine": kind, **asdict(found)})
    raise typer.Exit(DONE if found.held else FAILED)


def _line(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(plain(value), allow_nan=False) + "\n")
    sys.stdout.flush()
