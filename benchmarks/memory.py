"""Training memory of one convolutional net in Ranvier, SpikingJelly and snnTorch, each in its own process.

Four blocks of convolution, batch norm over all steps, and LIF (v ← v/2 + x, hard reset, arctangent). A contender whose
loss or gradients differ from Ranvier's prints no number. "saved" is what autograd keeps between forward and backward,
seen by `saved_tensors_hooks` (in recomputing modes the inputs of the blocks, as they are kept); "held" and "peak" are
growth of the resident memory of the process: after forward, and at most during a training step.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import store

T, BATCH, WIDTH, DEPTH, SIZE, CLASSES = 8, 8, 64, 4, 32, 10
ELEMENTS = T * BATCH * WIDTH * SIZE * SIZE * DEPTH
NAMES = (
    "ranvier", "ranvier compact_spikes", "ranvier recompute", "SpikingJelly 2.0.0", "SpikingJelly 2.0.0 memopt",
    "snnTorch 1.0.0",
)  # fmt: skip


class Block(nn.Module):
    """Convolution, batch norm, neuron, on `[T, B, C, H, W]`."""

    def __init__(self, i: int, o: int, neuron: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn, self.neuron = nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.bn(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))


class Net(nn.Module):
    """Blocks and a linear readout of the mean over time and place."""

    def __init__(self, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(3 if i == 0 else WIDTH, WIDTH, neuron()) for i in range(DEPTH)))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((0, 3, 4)))


def _spikingjelly() -> nn.Module:
    from spikingjelly.activation_based import neuron, surrogate  # pyright: ignore[reportMissingImports]

    return neuron.LIFNode(
        tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    )


class _SnnTorch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        import snntorch  # pyright: ignore[reportMissingImports]
        from snntorch import surrogate  # pyright: ignore[reportMissingImports]

        self.leaky = snntorch.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0), reset_mechanism="zero")

    def forward(self, x: Tensor) -> Tensor:
        membrane, spikes = self.leaky.reset_mem(), []
        for x_t in x.unbind(0):
            s, membrane = self.leaky(x_t, membrane)
            spikes.append(s)
        return torch.stack(spikes)


def _reset(net: nn.Module) -> None:
    if "spikingjelly" in sys.modules:
        from spikingjelly.activation_based import functional  # pyright: ignore[reportMissingImports]

        functional.reset_net(net)


def build(name: str, x: Tensor) -> nn.Module:
    """The net of a contender, with the same weights for all."""
    torch.manual_seed(0)
    if name.startswith("ranvier"):
        import ranvier
        from ranvier.neurons import LIF

        net = Net(lambda: LIF(decay_input=False, surrogate="atan"))
        return ranvier.recompute(net) if name.endswith("recompute") else net
    if name.startswith("SpikingJelly"):
        net = Net(_spikingjelly)
        if name.endswith("memopt"):
            from spikingjelly.activation_based import memopt  # pyright: ignore[reportMissingImports]

            state = {k: v.clone() for k, v in net.state_dict().items()}
            memopt.optimize_memory(net, Block, lambda n: n(x), level=1, checkpoint_budget="memory", compress=True)
            net.load_state_dict(state)  # its trial run may have moved the running statistics
            _reset(net)
        return net
    return Net(_SnnTorch)


def loss_of(name: str, net: nn.Module, x: Tensor) -> Tensor:
    if name.endswith("compact_spikes"):
        import ranvier

        with ranvier.compact_spikes():
            return net(x).square().sum()
    return net(x).square().sum()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def settle() -> None:
    """Give back what the last step left: garbage, and the idle buffers of the kernels."""
    from ranvier.ops.memory import POOL

    gc.collect()
    POOL.clear()


class SavedBytes:
    """Bytes of distinct memory that autograd keeps, as it keeps it."""

    def __init__(self, ours: list[Tensor]) -> None:
        self.found: dict[Any, tuple[int, Any]] = {}
        self.ours = {t.untyped_storage().data_ptr() for t in ours}

    def add(self, kept: Any) -> Any:
        if isinstance(kept, Tensor):
            storage = kept.untyped_storage()
            if storage.data_ptr() not in self.ours:
                self.found[storage.data_ptr()] = storage.nbytes(), kept  # held, so that its place is not used again
        else:
            self.found[id(kept)] = kept.nbytes, kept
        return kept

    @property
    def total(self) -> int:
        return sum(nbytes for nbytes, _ in self.found.values())


def saved_bytes(name: str, net: nn.Module, x: Tensor) -> int:
    from ranvier.layers import recomputation

    saved = SavedBytes([x, *net.parameters(), *net.buffers()])
    original = recomputation._keep
    recomputation._keep = lambda t: saved.add(original(t))
    try:
        with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda t: t):
            loss = loss_of(name, net, x)
    finally:
        recomputation._keep = original
    total = saved.total
    del loss
    _reset(net)
    return total


def one(name: str, rounds: int) -> dict[str, Any]:
    """Measure a contender in this process."""
    torch.set_num_threads(1)
    x = torch.rand(T, BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    net = build(name, x)
    loss = loss_of(name, net, x)
    loss.backward()
    _reset(net)
    gradients = [p.grad.detach().clone() for p in net.parameters() if p.grad is not None]
    result: dict[str, Any] = {
        "loss": loss.item(), "gradient_norms": [g.norm().item() for g in gradients],
        "first_gradient": gradients[0].flatten()[:64].tolist(),
    }  # fmt: skip
    del loss, gradients
    # What SpikingJelly's memory optimisation keeps, it keeps past autograd: only "held" shows it.
    result["saved"] = None if name.endswith("memopt") else saved_bytes(name, net, x)
    seconds, held, most = [], [], []
    for _ in range(rounds):
        settle()
        before = resident()
        loss = loss_of(name, net, x)
        settle()
        held.append(resident() - before)
        del loss
        _reset(net)
        settle()
        Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
        before, start = resident(), time.process_time()
        loss = loss_of(name, net, x)
        loss.backward()
        seconds.append(time.process_time() - start)
        most.append(peak() - before)
        del loss
        _reset(net)
    result |= {"held": min(held), "peak": min(most), "seconds": sorted(seconds)[len(seconds) // 2]}
    return result


def agree(results: dict[str, dict[str, Any]]) -> None:
    ours = results["ranvier"]
    for name, result in results.items():
        for key in ("loss", "gradient_norms", "first_gradient"):
            a, b = torch.tensor(result[key]).double(), torch.tensor(ours[key]).double()
            if (a - b).abs().max() > 2e-4 * b.abs().max():
                sys.exit(f"{name}: its {key} differs from ours; no number is printed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.rounds)))
        return
    # Freed tensors go back to the system at once, so that resident memory is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    results: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        command = [sys.executable, "-m", "benchmarks.memory", "--one", name, "--rounds", str(args.rounds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
    agree(results)
    rows = []
    for name, result in results.items():
        row: dict[str, Any] = {"name": name, "element_steps": ELEMENTS, "seconds": round(result["seconds"], 3)}
        for key in ("saved", "held", "peak"):
            if result[key] is None:
                continue
            row |= {f"{key}_mb": round(result[key] / 2**20, 1), f"{key}_bytes": round(result[key] / ELEMENTS, 2)}
        rows.append(row)
        saved = row.get("saved_bytes", float("nan"))
        print(
            f"{name:26} saved {saved:6.2f} B an element and step | held {row['held_bytes']:6.2f} | "
            f"peak {row['peak_mb']:7.1f} MB | {row['seconds']:.2f} s a step",
            flush=True,
        )
    print(f"stored in benchmarks/results/{store('memory', 'python -m benchmarks memory', rows).name}")


if __name__ == "__main__":
    main()
