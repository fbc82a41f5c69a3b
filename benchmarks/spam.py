"""What a step of SPAM costs beside AdamW, and what its state takes beside the formula.

One thread, contenders in turn. The parameters are those of a SpikeGPT; the gradients stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import in_turn, store
from ranvier.models import SpikeGPT
from ranvier.optim import SPAM, StableSPAM, sparse_param_groups

LIMIT = 1.3


def parameters(width: int, layers: int) -> nn.Module:
    torch.manual_seed(0)
    return SpikeGPT(256, n_layer=layers, n_embd=width, init="torch_default")


def with_gradients(net: nn.Module) -> list[Tensor]:
    found = list(net.parameters())
    for p in found:
        p.grad = torch.randn_like(p)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for width, layers in ((128, 3), (512, 4)):
        makers = {
            "adamw_foreach": lambda p: torch.optim.AdamW(p, foreach=True),
            "adamw_fused": lambda p: torch.optim.AdamW(p, fused=True),
            "spam": lambda p: SPAM(p),
            "spam_foreach": lambda p: SPAM(p, foreach=True),
            "stable_spam": lambda p: StableSPAM(p),
        }
        optimizers = {name: make(with_gradients(parameters(width, layers))) for name, make in makers.items()}
        for optimizer in optimizers.values():
            for _ in range(25):  # past the grace steps, so that clipping is on
                optimizer.step()
        times, _ = in_turn({name: o.step for name, o in optimizers.items()}, given.rounds, time.process_time)
        count = sum(p.numel() for p in parameters(width, layers).parameters())
        ratio = times["spam"] / times["adamw_foreach"]
        fused = times["spam"] / times["adamw_fused"]
        rows.append({
            "parameters": count, "ms": {name: round(t * 1e3, 3) for name, t in times.items()},
            "spam_over_adamw_foreach": round(ratio, 2), "spam_over_adamw_fused": round(fused, 2),
        })  # fmt: skip
        print(f"{count:,} parameters: " + ", ".join(f"{name} {t * 1e3:.2f} ms" for name, t in times.items()))
        print(f"  SPAM / AdamW(foreach) {ratio:.2f} (limit {LIMIT}), / AdamW(fused) {fused:.2f}")
    sizes: list[dict[str, Any]] = []
    for density in (1.0, 0.25, 0.01):
        net = parameters(512, 4)
        groups = sparse_param_groups(net, density, ("att", "ffn")) if density < 1 else list(net.parameters())
        optimizer = SPAM(groups)
        with_gradients(net)
        optimizer.step()
        plan = optimizer.planned_state()
        formula = plan["bytes"] + plan["mask_bytes"]
        sizes.append({"density": density, "bytes": optimizer.state_bytes(), "formula": formula})
        print(f"density {density}: {optimizer.state_bytes():,} bytes of state, formula {formula:,}")
    print(store("spam", "python -m benchmarks.spam", {"step": rows, "state": sizes}))
    return int(any(r["spam_over_adamw_foreach"] > LIMIT for r in rows))


if __name__ == "__main__":
    sys.exit(main())
