"""Max-ResNet-18: a training step of ours and of the same net out of SpikingJelly's modules, with the same weights.

`python -m benchmarks max_resnet [--device cuda] [--batch 128] [--bf16] [--compile] [--channels-last]` prints images a
second and peak memory. No figure is printed unless both give the same logits.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import in_turn, store
from ranvier.models import create_model


class Peer(nn.Module):
    """The net with `spikingjelly.activation_based` neurons and containers; parameters in the order of ours."""

    def __init__(self, blocks: tuple[int, ...], T: int) -> None:
        super().__init__()
        from spikingjelly.activation_based import layer, neuron

        def lif() -> nn.Module:
            return neuron.LIFNode(tau=2.0, detach_reset=True, step_mode="m")

        def synapse(i: int, o: int, k: int, stride: int = 1, pool: bool = False) -> nn.Module:
            parts: list[nn.Module] = [nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o)]
            return layer.SeqToANNContainer(*parts, *([nn.MaxPool2d(3, 2, 1)] if pool else []))

        self.T = T
        self.stem = synapse(3, 64, 3)
        self.blocks = nn.ModuleList()
        before = 64
        for number, (width, count) in enumerate(zip((128, 256, 512), blocks, strict=True)):
            for i in range(count):
                first, change = number > 0 and i == 0, i == 0
                self.blocks.append(
                    nn.ModuleList(
                        [lif(), synapse(before, width, 3, pool=first), lif(), synapse(width, width, 3)]
                        + ([synapse(before, width, 1, 2 if first else 1)] if change else [])
                    )
                )
                before = width
        self.spike = lif()
        self.head = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.unsqueeze(0).expand(self.T, *x.shape))
        for block in self.blocks:
            parts = list(block)
            y = parts[3](parts[2](parts[1](parts[0](x))))
            x = y + (parts[4](x) if len(parts) > 4 else x)
        return self.head(self.spike(x).mean((3, 4)))


def main() -> None:
    """Measure, or stop at the correctness gate."""
    from spikingjelly.activation_based import functional

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--steps", type=int, default=4, help="T")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    batch = options.batch or (128 if device.type == "cuda" else 8)
    torch.manual_seed(0)
    ours = create_model("max_resnet18", T=options.steps).to(device)
    peer = Peer((3, 3, 2), options.steps).to(device)
    _copy(ours, peer)
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    if options.channels_last:
        ours, peer = (net.to(memory_format=torch.channels_last) for net in (ours, peer))
        x = x.to(memory_format=torch.channels_last)
    with torch.no_grad():
        found, expected = ours.train()(x), peer.train()(x)
        functional.reset_net(peer)
    difference = float((found - expected).abs().max())
    if difference > 1e-3:
        raise SystemExit(f"error: the nets differ by {difference:.2g}; no figures")
    nets: dict[str, nn.Module] = {"ranvier": ours, "spikingjelly": peer}
    if options.compile:
        nets["ranvier, compiled"] = torch.compile(ours)

    def step(net: nn.Module) -> None:
        amp = torch.autocast(device.type, torch.bfloat16) if options.bf16 else contextlib.nullcontext()
        with amp:
            loss = F.cross_entropy(net(x).float().mean(0), y)
        loss.backward()
        net.zero_grad(set_to_none=True)
        if net is peer:
            functional.reset_net(peer)
        if device.type == "cuda":
            torch.cuda.synchronize()

    runs = {name: (lambda net=net: step(net)) for name, net in nets.items()}
    seconds, _ = in_turn(runs, options.rounds, time.perf_counter)
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        peak = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            run()
            peak = torch.cuda.max_memory_allocated() / 2**20
        rows.append({"net": name, "images_per_s": batch / seconds[name], "peak_mib": peak, "seconds": seconds[name]})
    base = seconds["spikingjelly"]
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"Max-ResNet-18, T = {options.steps}, batch {batch}, forward and backward, {where}; logits differ by "
        f"{difference:.1g} at most"
    )
    for row in rows:
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:9.0f} MiB"
        print(f"{row['net']:20s} {row['images_per_s']:9.1f} images/s {peak}  {base / row['seconds']:.2f}x")
    if device.type == "cpu":
        print(
            f"peak resident memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
        )
    setting = {k: v for k, v in vars(options).items() if k != "rounds"} | {"batch": batch}
    store(f"max_resnet_{device.type}", "python -m benchmarks max_resnet", [{**row, **setting} for row in rows])


def _copy(ours: nn.Module, peer: nn.Module) -> None:
    theirs = [*peer.parameters()]
    given = [*ours.parameters()]
    assert [p.shape for p in given] == [p.shape for p in theirs]
    with torch.no_grad():
        for mine, other in zip(given, theirs, strict=True):
            other.copy_(mine)


if __name__ == "__main__":
    main()
