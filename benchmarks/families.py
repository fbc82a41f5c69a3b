"""Every fused neuron beside SpikingJelly's node of the same equations: forward + backward, one thread, one run.

Nodes are gated in float64, where the order of rounding decides no spike: equal spike trains, equal gradients of the
input and of every parameter. Times are float32. The aim is three times SpikingJelly's speed for every family.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lif import step
from benchmarks.timing import in_turn, store
from ranvier.neurons import CLIF, EIF, IF, ILIF, KLIF, LIF, PLIF, CubaLIF, Neuron, SlidingPSN

SHAPES = [(100, 16, 512), (16, 64, 8192)]
AIM = 3.0


class Node(nn.Module):
    """A SpikingJelly node, reset before every sequence."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self.node, "reset"):
            self.node.reset()
        return self.node(x)


def families() -> dict[str, tuple[Neuron, Callable[[], nn.Module]]]:
    """Ours, and the maker of theirs."""
    from spikingjelly.activation_based import neuron as n  # pyright: ignore[reportMissingImports]
    from spikingjelly.activation_based import surrogate as g  # pyright: ignore[reportMissingImports]

    shared: dict[str, Any] = {"detach_reset": True, "step_mode": "m"}

    def atan() -> Any:
        return g.ATan()

    def cuba() -> nn.Module:
        node = n.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=0.5, v_reset=0.0, surrogate_function=atan())
        node.step_mode, node.detach_reset = "m", True
        return node

    a = "atan"
    return {
        "IF": (IF(surrogate=a), lambda: n.IFNode(surrogate_function=atan(), **shared)),
        "LIF, hard reset": (LIF(surrogate=a), lambda: n.LIFNode(surrogate_function=atan(), **shared)),
        "LIF, soft reset": (
            LIF(surrogate=a, reset="soft"), lambda: n.LIFNode(v_reset=None, surrogate_function=atan(), **shared)
        ),
        "LIF, sigmoid": (LIF(), lambda: n.LIFNode(surrogate_function=g.Sigmoid(), **shared)),
        "PLIF": (PLIF(surrogate=a), lambda: n.ParametricLIFNode(surrogate_function=atan(), **shared)),
        "KLIF": (KLIF(surrogate=a), lambda: n.KLIFNode(surrogate_function=atan(), **shared)),
        "CLIF": (
            CLIF(detach_reset=False),
            lambda: n.ComplementaryLIFNode(surrogate_function=g.Rect(alpha=1.0), step_mode="m"),
        ),
        "EIF": (
            EIF(surrogate=a),
            lambda: n.EIFNode(delta_T=0.2, theta_rh=0.8, v_reset=-0.1, surrogate_function=atan(), **shared),
        ),
        "current-based LIF": (
            CubaLIF(-1 / math.log(0.5), -1 / math.log(0.75), threshold=0.5, reset="hard", surrogate=a), cuba
        ),
        "I-LIF": (
            ILIF(levels=4, decay=0.25),
            lambda: n.ILIFNode(surrogate_function=g.MultiLevelSpikeCount(4), **shared),
        ),
        "sliding PSN, order 4": (SlidingPSN(4), lambda: n.SlidingPSN(4, surrogate_function=atan(), step_mode="m")),
    }  # fmt: skip


def difference(ours: nn.Module, theirs: nn.Module) -> str | None:
    """What is not the same in float64, or None."""
    x = torch.randn(40, 4, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
    outcomes = []
    for net in (ours, theirs):
        x = x.detach().requires_grad_()
        y = net(x)
        upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        grads = torch.autograd.grad(y, [x, *(p for p in net.parameters() if p.requires_grad)], upstream)
        # A weight per lag may be kept from new to old or from old to new.
        outcomes.append((y.detach(), [g.reshape(-1).sort().values if i else g for i, g in enumerate(grads)]))
    (y1, g1), (y2, g2) = outcomes
    if not torch.equal(y1, y2):
        return f"{int((y1 != y2).sum())} of {y1.numel()} outputs differ"
    for a, b in zip(g1, g2, strict=True):
        if (a - b).abs().max() > 1e-5 * (b.abs().max() + 1e-12):
            return f"gradients differ by {(a - b).abs().max() / b.abs().max():.1e} of the largest"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    missed: list[str] = []
    for name, (ours, make) in families().items():
        theirs = Node(make())
        reason = difference(ours.double(), theirs.double())
        if reason is not None:
            sys.exit(f"{name}: {reason}; no time is printed")
        ours.float()
        theirs.float()
        for shape in SHAPES:
            x, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
            times, first = in_turn(
                {"ranvier": step(ours, x, upstream), "spikingjelly": step(theirs, x, upstream)}, rounds,
                time.process_time,
            )  # fmt: skip
            ratio = times["spikingjelly"] / times["ranvier"]
            rows.append({
                "family": name, "shape": list(shape), "ms": {k: round(t * 1e3, 2) for k, t in times.items()},
                "first_call_s": round(first["ranvier"], 2), "ratio": round(ratio, 2),
            })  # fmt: skip
            if ratio < AIM:
                missed.append(f"{name} {shape}: {ratio:.2f}x")
            print(f"{name:22} {shape!s:16} {times['ranvier'] * 1e3:8.2f} ms | SpikingJelly {ratio:6.2f}x", flush=True)
    print(f"below {AIM:g}x: {'; '.join(missed) if missed else 'none'}")
    print(f"stored in benchmarks/results/{store('families', 'python -m benchmarks families', rows).name}")


if __name__ == "__main__":
    main()
