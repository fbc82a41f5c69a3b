"""Train and pack the weights that come with the package: `python scripts/train_weights.py [NAME ...]`.

Each name is a set of weights below; without names, all. Runs are kept in `runs/weights/` and continued when they were
interrupted. Needs RANVIER_DATA for all but the digits, and `ranvier data build fsdd-spikes` for the spoken ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ranvier.models.pretrained import FOLDER, packed_cards
from ranvier.train import fit, load_recipe
from ranvier.train.pretrained import evaluate_pretrained, pack_weights


@dataclass(frozen=True)
class Plan:
    """A recipe, what is changed of it, its seeds, and the tag of the weights."""

    recipe: str
    tag: str
    default: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: tuple[str, ...] = ()


PLANS = {
    "digits_mlp": Plan("digits_mlp", "digits", default=True),
    "digits_conv": Plan("digits_conv", "digits"),
    "mnist_conv": Plan(
        "mnist_conv",
        "mnist",
        default=True,
        seeds=(0,),
        overrides=("model.args.T=2", "train.epochs=1", "data.limit_train=22000", "data.validation=2000"),
    ),
    "nmnist_conv": Plan("nmnist_conv", "nmnist"),
    "nmnist_spikepoint": Plan("nmnist_spikepoint_small", "nmnist", default=True, seeds=(0,)),
    "nmnist_max_former": Plan("nmnist_max_former", "nmnist", default=True, seeds=(0,)),
    "fsdd_delays": Plan("fsdd_delays_small", "fsdd", default=True, seeds=(0,)),
}


def main() -> None:
    """Train what is named, pack it, and measure the packed weights once more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLANS)}")
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"), help="folder of the runs")
    given = parser.parse_args()
    for name in given.names:
        if name not in PLANS:
            parser.error(f"unknown weights {name!r}; there are {', '.join(PLANS)}")
    for name in given.names or PLANS:
        plan = PLANS[name]
        folders: list[Path] = []
        for seed in plan.seeds:
            recipe = load_recipe(plan.recipe, [*plan.overrides, f"seed={seed}"])
            folders.append(given.runs / f"{name}-{seed}")
            fit(recipe, folders[-1])
        card = pack_weights(
            folders, plan.tag, FOLDER, command=f"python scripts/train_weights.py {name}", default=plan.default
        )
        packed_cards.cache_clear()
        check = evaluate_pretrained(card.stem)
        print(f"{card.stem}: {check.card.value:.4f} ± {check.card.standard_error:.4f}, measured again "
              f"{check.evaluation.accuracy:.4f}; {check.card.bytes:,} bytes")  # fmt: skip
        if not check.within:
            raise SystemExit(f"{card.stem}: the packed weights do not give what their run gave")


if __name__ == "__main__":
    main()
