"""One layer of heterogeneous delays, pruned: the convolution beside the event-driven engine.

The events are those of photographs in motion. No time is printed where the two differ.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.timing import in_turn, store
from ranvier.data import load
from ranvier.models import HDSNN

FRACTIONS = (1.0, 0.22, 0.05, 0.02, 0.01, 0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bundle = load("motion", movies=1, validation_movies=1, test_movies=4)
    x, _ = bundle.test.batch([0])
    rate = float(x.mean())
    rows: list[dict[str, object]] = []
    for fraction in FRACTIONS:
        net = HDSNN(img_size=32, num_classes=16, kernel=(9, 9, 9), centre=1.0, spread=0.3, mask=None).eval()
        net.layer.prune_(fraction)
        table = net.to_synapses(fraction)
        with torch.no_grad():
            if (net.logits(x) - net.logits_by_events(x, table)).abs().max() > 1e-3:
                sys.exit(f"{fraction}: the engine differs from the convolution; no time is printed")
            times, _ = in_turn(
                {"convolution": lambda n=net: n.logits(x), "events": lambda n=net, t=table: n.logits_by_events(x, t)},
                rounds, time.process_time,
            )  # fmt: skip
        cost = net.operations(x, fraction)
        rows.append({
            "kept": fraction, "event rate": round(rate, 4), "synaptic": int(cost["synaptic"]),
            "dense": int(cost["dense"]),
            "fewer": round(cost["dense"] / cost["synaptic"], 1), "1 / (rate x kept)": round(1 / (rate * fraction), 1),
            "ms": {name: round(t * 1e3, 1) for name, t in times.items()},
            "speed-up": round(times["convolution"] / times["events"], 2),
            "ns an operation": round(times["events"] / cost["synaptic"] * 1e9, 2),
        })  # fmt: skip
        print(rows[-1], flush=True)
    print(f"stored in benchmarks/results/{store('motion', 'python -m benchmarks motion', rows).name}")


if __name__ == "__main__":
    main()
