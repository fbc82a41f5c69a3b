"""From a trained net to an engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.engine import lower_plain, lower_product, lower_state, lower_synapse
from ranvier.infer.engine.choose import calibrate
from ranvier.infer.engine.engine import Engine
from ranvier.infer.engine.lower import Lowering
from ranvier.infer.engine.trace import NotCompilableError, trace
from ranvier.infer.plan import mergeable, replace

_RULE_FILES = (lower_plain, lower_product, lower_state, lower_synapse)  # registered by being imported
Precision = Literal["float32", "float64"]


def compile(
    model: nn.Module,
    example: Tensor,
    *,
    calibration: Tensor | None = None,
    modes: str | Mapping[str, str] = "auto",
    precision: Precision | None = None,
    verify: bool = True,
) -> Engine:
    """`model` as a flat program for one sample, which runs without PyTorch, step by step.

    Re-parameterised convolutions are merged, then the net is run once and its operations recorded. Norms and scales go
    into the weights of the layer before them, and every linear layer, convolution, pool and sum gets an event-driven
    and a dense instruction. Which of them runs is measured on `calibration`. Layers with integer weights that receive
    spikes or counts add whole numbers.

    Args:
        model: a net in evaluation mode (it is copied, not changed): linear layers, convolutions, `DelayLinear` at whole
            delays, pools, batch norms, neurons of the LIF family, attention as products of spikes, residual sums.
        example: an input as the net takes it, a sequence `[T, B, ...]` or static images `[B, C, H, W]`, which are
            encoded. Used to record, to verify, and to calibrate where nothing else is given. Take real data: the
            choices depend on how active the layers are.
        calibration: another input for the measurement of activity and time; its first sample and 64 steps are used.
        modes: "auto", "event" or "dense" for all layers, or a mapping from the start of a layer's name to one of them.
        precision: of everything that is not an integer; None for that of the parameters.
        verify: compare with the net on the first sample of `example`. When outputs differ by more than rounding
            explains, the comparison is repeated in float64, where no spike falls to the other side of a threshold by
            chance.

    Raises `NotCompilableError` (an `ArgumentError`) that lists all parts without instructions, and one when the
    results are not those of the net.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(example, Tensor) or example.dim() < 3 or 0 in example.shape:
        found = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise ArgumentError(f"example must be a sequence [T, B, ...] or images [B, C, H, W], got {found}")
    if precision not in (None, "float32", "float64"):
        raise ArgumentError(f"precision must be 'float32' or 'float64', got {precision!r}")
    net = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    dtype = _dtype(net) if precision is None else getattr(torch, precision)
    for name in mergeable(net):
        replace(net, name, net.get_submodule(name).fuse())  # pyright: ignore[reportCallIssue]
    net = net.to(dtype).eval().requires_grad_(False)
    x = sequence(net, example.detach().cpu().to(dtype))[:, :1]
    engine = _built(net, x)
    measured = x if calibration is None else sequence(net, calibration.detach().cpu().to(dtype))[:, :1]
    if measured.shape[2:] != x.shape[2:]:
        raise ArgumentError(f"calibration must be like example {tuple(x.shape[2:])}, got {tuple(measured.shape[2:])}")
    calibrate(engine, measured[:, 0].numpy(), modes)
    if verify:
        engine.notes["equivalence"] = _verified(net, engine, x)
    return engine


def sequence(net: nn.Module, x: Tensor) -> Tensor:
    """`x` as the steps that the net sees: static images go through its encoder."""
    encoder, steps = getattr(net, "encoder", None), getattr(net, "T", None)
    if x.dim() == 4 and isinstance(encoder, nn.Module) and isinstance(steps, int):
        with torch.no_grad():
            return encoder(x, steps)
    return x


def _dtype(net: nn.Module) -> torch.dtype:
    return next((p.dtype for p in net.parameters() if p.dtype == torch.float64), torch.float32)


def _built(net: nn.Module, x: Tensor) -> Engine:
    lowering = Lowering(trace(net, x[:1]), np.float64 if x.dtype == torch.float64 else np.float32)
    lowering.run()
    return Engine(lowering)


def _verified(net: nn.Module, engine: Engine, x: Tensor) -> dict[str, Any]:
    """Outputs of `engine` beside those of `net`; raises where they differ."""
    difference, scale = _difference(net, engine, x)
    dtype = str(engine.dtype)
    if not difference <= (1e-8 if engine.dtype == np.float64 else 1e-4) * scale and engine.dtype != np.float64:
        twin = copy.deepcopy(net).double()
        dtype = "float64"
        difference, scale = _difference(twin, _built(twin, x.double()), x.double())
    if not difference <= (1e-8 if dtype == "float64" else 1e-4) * scale:
        raise NotCompilableError(
            f"model: the compiled net differs from it by {difference:.3g} (outputs reach {scale:.3g}): something in it "
            "mixes steps, or depends on values, in a way that one recorded step does not show"
        )
    return {"steps": len(x), "max_difference": difference, "dtype": dtype}


def _difference(net: nn.Module, engine: Engine, x: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        wanted = net(x)
    if wanted.shape[:2] != x.shape[:2]:
        raise NotCompilableError(
            f"model must return one output a step and sample, [T, B, ...]; of {tuple(x.shape)} it makes "
            f"{tuple(wanted.shape)}"
        )
    wanted = wanted[:, 0].numpy()
    engine.reset()
    made = engine.run(x[:, 0].numpy())
    engine.reset()
    difference = float(np.max(np.abs(made - wanted), initial=0.0))
    return (difference if difference == difference else float("inf")), float(np.max(np.abs(wanted), initial=1.0))
