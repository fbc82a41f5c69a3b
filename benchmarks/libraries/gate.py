"""No time without agreement: spike trains bit by bit, gradients to 1e-5 of the largest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.libraries.problems import Problem, data, make

GATE_STEPS, GATE_BATCH = 64, 2


def _outcome(net: nn.Module, x: Tensor, upstream: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
    x = x.detach().clone().requires_grad_()
    y = net(x)
    parameters = [p for p in net.parameters() if p.requires_grad]
    return y.detach(), list(torch.autograd.grad(y, [x, *parameters], upstream(y)))


def disagreement(
    problem: Problem, steps: int, peer: Callable[[], nn.Module], twin: Callable[[], nn.Module]
) -> str | None:
    """Why a peer's times may not be compared with its twin's, None where they compute the same."""
    x, upstream = data(problem, min(steps, GATE_STEPS), GATE_BATCH)
    (y, grads), (want, want_grads) = (_outcome(make(problem, neuron), x, upstream) for neuron in (peer, twin))
    spikes = bool(((want == 0) | (want == 1)).all())
    if spikes and not torch.equal(y, want):
        return f"{int((y != want).sum())} of {want.numel()} spikes differ"
    if not spikes and (y - want).abs().max() > 1e-5 * want.abs().max():
        return f"outputs differ by {(y - want).abs().max():.1e}"
    if len(grads) != len(want_grads):
        return f"{len(grads)} gradients instead of {len(want_grads)}"
    for got, wanted in zip(grads, want_grads, strict=True):
        if (got - wanted).abs().max() > 1e-5 * wanted.abs().max():
            return f"gradients differ by {(got - wanted).abs().max() / wanted.abs().max():.1e} of the largest"
    return None
