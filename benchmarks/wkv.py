"""WKV: the fused kernel beside the plain loop and the tree scan; SpikeGPT's generation and its memory by context.

One thread, contenders in turn, no time where the contenders' results differ. The loop is the reference in plain
PyTorch, one small operation after another for every token.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import in_turn, store
from ranvier.models import SpikeGPT, create_model
from ranvier.ops.wkv import empty_state, wkv, wkv_reference, wkv_tree
from ranvier.state import carry

SHAPES = [(128, 8, 512), (1024, 1, 512), (1024, 8, 512), (4096, 8, 512)]
GATE = 1e-3


def problem(shape: tuple[int, int, int]) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = shape[-1]
    w, u = -torch.rand(channels, generator=generator).exp(), torch.randn(channels, generator=generator)
    k, v, upstream = (torch.randn(shape, generator=generator) for _ in range(3))
    return [t.requires_grad_() for t in (w, u, k, v)], upstream


def step(form: Callable[..., tuple[Tensor, Any]], inputs: list[Tensor], upstream: Tensor) -> Callable[[], list[Tensor]]:
    def run() -> list[Tensor]:
        y, _ = form(*inputs, empty_state(inputs[2][0].detach()))
        return [y.detach(), *torch.autograd.grad(y, inputs, upstream)]

    return run


def row(shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    inputs, upstream = problem(shape)
    forms = {"kernel": wkv, "loop": wkv_reference}
    if shape[0] <= 1024:
        forms["tree"] = wkv_tree
    contenders = {name: step(form, inputs, upstream) for name, form in forms.items()}
    wanted = contenders["loop"]()
    for name, run in contenders.items():
        for a, b in zip(run(), wanted, strict=True):
            if float((a - b).abs().max() / b.abs().max().clamp(min=1)) > GATE:
                sys.exit(f"{name} does not give the loop's numbers at {shape}: no time is printed")
    fast, _ = in_turn({"kernel": contenders["kernel"]}, rounds, time.process_time)
    slow, _ = in_turn({name: run for name, run in contenders.items() if name != "kernel"}, 1, time.process_time)
    times = fast | slow
    found: dict[str, Any] = {"shape": list(shape), "ms": {name: round(t * 1e3, 2) for name, t in times.items()}}
    found["loop_over_kernel"] = round(times["loop"] / times["kernel"], 1)
    found["ns_per_element"] = round(times["kernel"] * 1e9 / upstream.numel(), 2)
    fast_ms, slow_ms = times["kernel"] * 1e3, times["loop"] * 1e3
    print(
        f"T {shape[0]:5d}  B {shape[1]}  C {shape[2]}: kernel {fast_ms:8.2f} ms, loop {slow_ms:9.1f} ms: "
        f"{found['loop_over_kernel']} times; {found['ns_per_element']} ns an element"
    )
    return found


def generation(tokens: int) -> list[dict[str, Any]]:
    model = create_model("spike_gpt_41m").eval()
    assert isinstance(model, SpikeGPT)
    rows: list[dict[str, Any]] = []
    for batch in (1, 32):
        prompt = torch.randint(256, (8, batch))
        model.generate(prompt, 2, seed=0)
        start = time.process_time()
        model.generate(prompt, tokens, seed=0)
        seconds = time.process_time() - start
        rows.append({"model": "spike_gpt_41m", "batch": batch, "tokens_per_second": round(tokens * batch / seconds, 1)})
        print(
            f"generation, 41 M parameters, batch {batch:2d}: {rows[-1]['tokens_per_second']:8.1f} tokens/s (one core)"
        )
    return rows


def memory() -> list[dict[str, Any]]:
    """State of the stream, and what the process holds, while a small model reads on and on."""
    model = SpikeGPT(256, n_layer=4, n_embd=128).eval()
    page = os.sysconf("SC_PAGE_SIZE")
    rows: list[dict[str, Any]] = []
    for context in (1024, 4096, 16384):
        with torch.no_grad(), carry(model) as state:
            for _ in range(0, context, 128):
                model(torch.randint(256, (128, 1)))
            held = int(Path("/proc/self/statm").read_text().split()[1]) * page
            rows.append({"context": context, "state_bytes": state.nbytes, "process_mb": round(held / 1e6, 1)})
        print(f"context {context:6d}: state {rows[-1]['state_bytes']} bytes, process {rows[-1]['process_mb']} MB")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(shape, given.rounds) for shape in SHAPES]
    cost = {r["shape"][0]: r["ns_per_element"] for r in rows if r["shape"][1] == 8}
    print(f"linear in T: {cost[4096] / cost[1024]:.2f} times the time an element at T = 4096 as at 1024")
    everything = {"wkv": rows, "generation": generation(given.tokens), "memory": memory()}
    print(store("wkv", "python -m benchmarks.wkv", everything))
    return 0


if __name__ == "__main__":
    sys.exit(main())
