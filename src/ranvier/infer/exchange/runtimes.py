"""Nets as files for other runtimes: ONNX, and PyTorch's own exported programs."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.infer.exchange.traced import Mode, StepNet, plain_copy, plain_operations, sequence_example, step_net
from ranvier.infer.writing import writing
from ranvier.state import carry


@dataclass(frozen=True)
class Exported:
    """What has been written.

    Attributes:
        path: of the file.
        mode: "step" or "sequence".
        inputs, outputs: names with shapes; in step form x and the states, y and the next states, in the same order.
        initial: of every state input the value that fills it before the first step, or None where values differ.
        steps: of the input in sequence form.
        difference: largest difference of the file's outputs, run by its runtime, from the net's; None if not checked.
    """

    path: Path
    mode: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    initial: dict[str, float | None]
    steps: int
    difference: float | None = None


def export_onnx(
    model: nn.Module, path: str | os.PathLike[str], *, mode: Mode = "step", example: Tensor | None = None,
    T: int | None = None, batch: int = 1, check: bool = True,
) -> Exported:  # fmt: skip
    """Write `model` as ONNX.

    Args:
        model: any net whose ops are PyTorch's; layers with delays become products with the last inputs.
        path: of the `.onnx` file.
        mode: "step": `(x, states) → (y, next states)` for one step, to be run in a loop; "sequence": `[T, B, ...]` to
            `[T, B, ...]` with all steps unrolled, from rest.
        example: a sequence `[T, B, ...]`; random of the model's `input_shape` by default.
        T: steps of the sequence form; the model's by default. batch: samples.
        check: run the file in ONNX Runtime on the example and compare.

    The file's metadata say under "ranvier" (JSON) the mode, the steps and what each state starts from. Raises
    `ArgumentError` for a net that cannot be traced or a file that does not compute the same.
    """
    require("onnx", extra="export")
    require("onnxscript", extra="export")
    net, x, inputs, names = _prepared(model, mode, example, T, batch)
    with plain_operations(), _quiet(), torch.no_grad():
        program: Any = _traced(
            lambda: torch.onnx.export(
                net,
                inputs,
                dynamo=True,
                verbose=False,
                input_names=names[0],
                output_names=names[1],
                external_data=False,
            ),
            "ONNX",
        )
    facts = _facts(net, mode, x, inputs, names)
    program.model.metadata_props["ranvier"] = json.dumps(
        {"mode": mode, "steps": facts.steps, "initial": facts.initial}, allow_nan=False
    )
    _written(Path(path), lambda temporary: program.save(temporary, external_data=False))
    facts = _with(facts, path=Path(path))
    return _with(facts, difference=_run_onnx(net, x, facts)) if check else facts


def export_torch(
    model: nn.Module, path: str | os.PathLike[str], *, mode: Mode = "sequence", example: Tensor | None = None,
    T: int | None = None, batch: int = 1, check: bool = True,
) -> Exported:  # fmt: skip
    """Write `model` as an exported program of PyTorch (`torch.export`, `.pt2`) that runs without this library.

    Arguments as in `export_onnx`; `torch.export.load(path).module()` then takes a sequence, or `(x, *states)`. A
    `.pt2` is a zip archive: the graph as JSON and the weights as raw bytes (since PyTorch 2.8), the example input as a
    pickle; reading one is PyTorch's business, so load only files that you trust.
    """
    net, x, inputs, names = _prepared(model, mode, example, T, batch)
    with plain_operations(), _quiet(), torch.no_grad():
        program = _traced(lambda: torch.export.export(net, inputs, strict=False), "torch.export")
    own = sorted({str(n.target) for n in program.graph.nodes if "ranvier" in str(n.target)})
    if own:
        raise ArgumentError(f"model: {', '.join(own)} has no form in plain PyTorch operations")
    loaded: list[Any] = []

    def write(temporary: str) -> None:
        torch.export.save(program, temporary)
        if check:  # before it takes the place of another file
            with _quiet():
                read = _traced(lambda: torch.export.load(temporary), "torch.export", "read what it wrote of it")
            loaded.append(read.module())

    _written(Path(path), write)
    facts = _with(_facts(net, mode, x, inputs, names), path=Path(path))
    if not check:
        return facts
    return _with(facts, difference=_compare(net, x, mode, lambda *given: loaded[0](*given)))


def _prepared(
    model: nn.Module, mode: str, example: Tensor | None, T: int | None, batch: int
) -> tuple[nn.Module, Tensor, tuple[Tensor, ...], tuple[list[str], list[str]]]:
    if mode not in ("step", "sequence"):
        raise ArgumentError(f"mode must be 'step' or 'sequence', got {mode!r}")
    x = sequence_example(model, example, T, batch)
    net = plain_copy(model)
    if mode == "sequence":
        return net, x, (x,), (["x"], ["y"])
    stepping = step_net(net, x)
    states = [slot.name for slot in stepping.slots]
    names = ["x", *(f"state.{s}" for s in states)], ["y", *(f"next.{s}" for s in states)]
    return stepping, x, (x[0], *stepping.initial), names


def _traced(trace: Callable[[], Any], what: str, cannot: str = "trace it") -> Any:
    try:
        return trace()
    except Exception as error:  # tracers fail in many ways, with pages of text
        reason = next((line for line in str(error).splitlines() if "Error" in line or "rror:" in line), str(error))
        raise ArgumentError(
            f"model: {what} of PyTorch {torch.__version__} cannot {cannot}: {' '.join(reason.split())[:300]}"
        ) from error


def _facts(
    net: nn.Module, mode: str, x: Tensor, inputs: tuple[Tensor, ...], names: tuple[list[str], list[str]]
) -> Exported:
    with torch.no_grad(), plain_operations():
        out = net(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    initial: dict[str, float | None] = {}
    if isinstance(net, StepNet):
        for name, value in zip(names[0][1:], net.initial, strict=True):
            flat = value.flatten()
            initial[name] = float(flat[0]) if flat.numel() and bool((flat == flat[0]).all()) else None
    return Exported(
        Path(), mode, {n: tuple(t.shape) for n, t in zip(names[0], inputs, strict=True)},
        {n: tuple(t.shape) for n, t in zip(names[1], out, strict=True)}, initial, len(x),
    )  # fmt: skip


def _with(facts: Exported, **changes: Any) -> Exported:
    return replace(facts, **changes)


def _run_onnx(net: nn.Module, x: Tensor, facts: Exported) -> float:
    runtime: Any = require("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(facts.path), options, providers=["CPUExecutionProvider"])

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        fed = {i.name: t.detach().cpu().numpy() for i, t in zip(session.get_inputs(), given, strict=True)}
        return tuple(torch.from_numpy(o) for o in session.run(None, fed))

    return _compare(net, x, facts.mode, run)


@torch.no_grad()
def _compare(net: nn.Module, x: Tensor, mode: str, run: Callable[..., Any]) -> float:
    """Largest difference of outputs over the example; refuses what differs by more than rounding explains."""
    with plain_operations():
        if isinstance(net, StepNet):
            state, parts = tuple(net.initial), []
            for x_t in x:
                out = run(x_t, *state)
                parts.append(out[0])
                state = tuple(out[1:])
            got = torch.stack(parts)
            with carry(net.model):
                want = net.model(x)
        else:
            out = run(x)
            got, want = (out[0] if isinstance(out, tuple) else out), net(x)
    difference = float((got.to(want) - want).abs().max())
    scale = max(1.0, float(want.abs().max()))
    if not difference <= 1e-3 * scale:
        raise ArgumentError(f"the written file is another net in {mode} form: its outputs differ by {difference:g}")
    return difference


def _written(path: Path, write: Callable[[str], Any]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name  # archives hold the name of their file
            write(str(temporary))
            os.replace(temporary, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters log and warn about their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "torch._export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
